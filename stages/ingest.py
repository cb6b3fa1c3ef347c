"""Raw corpus -> post table and problems table: python stages/ingest.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.authors import DEMO_AUTHOR_KEY, author_key
from assay.corpora.brand_file import brand_rules
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.errors import run_main
from assay.places import corpus_root
from assay.posts import write_json
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--posts", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    args = parser.parse_args()
    report_to(args.progress, "ingest")
    params = config.load()
    settings = params.corpora[args.corpus]
    rules = Rules(
        corpus=args.corpus,
        author_key=DEMO_AUTHOR_KEY if settings.kind == "demo" else author_key(),
        check_images=settings.check_images,
        max_pixels=settings.max_pixels,
        shard_posts=settings.shard_posts,
        detect_language=settings.detect_language,
        brands=brand_rules(settings.brands, corpus_root(settings.brand_file) if settings.brand_file else None),
    )
    layout = open_corpus(settings, params.demo)
    found = ingest(layout, rules, posts=args.posts, problems=args.problems, engine=settings.engine)
    write_json(found, args.metrics)


if __name__ == "__main__":
    run_main(main)
