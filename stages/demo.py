"""Draw the demo corpus and write its manifest: python stages/demo.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.corpora import manifest
from assay.corpora.demo import ensure_drawn
from assay.errors import run_main
from assay.places import corpus_root
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data/raw/demo", help="where the corpus is drawn")
    parser.add_argument("--out", type=Path, required=True, help="the manifest")
    args = parser.parse_args()
    settings = config.load().demo
    root = corpus_root(args.root)
    ensure_drawn(root, posts=settings.posts, seed=settings.seed)
    write_json(manifest.scan([root]), args.out)


if __name__ == "__main__":
    run_main(main)
