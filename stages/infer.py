"""Score every post of the corpus, for all tasks of a student in one pass: python stages/infer.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.config import own
from assay.corpora.where import images_root
from assay.errors import run_main
from assay.machine import watched
from assay.posts import write_json
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="a task, or a joint student of several")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, required=True, help="with the posts, in <corpus>/posts")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="of a joint student, one folder a task below it")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    parser.add_argument("--curves", type=Path, help="for curves of this machine")
    args = parser.parse_args()
    from assay.scoring.corpus import infer

    report_to(args.progress, "infer")
    params = config.load()
    tasks = params.members(args.task)
    first = next(iter(tasks.values()))
    corpus = params.corpora[first.corpus]
    with watched(args.curves) as taken:
        found, log = infer(
            args.model,
            args.corpora / first.corpus / "posts",
            images_root(corpus, params.demo),
            args.split,
            {name: own(args.out, name, tasks) for name in tasks},
            settings=first.infer,
            max_pixels=corpus.max_pixels,
        )
    log.write(args.machine, args.curves, taken)
    write_json(found, args.metrics)


if __name__ == "__main__":
    run_main(main)
