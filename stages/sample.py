"""Posts -> the sample to be labelled, with its images: python stages/sample.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.corpora.where import images_root
from assay.errors import run_main
from assay.posts import count
from assay.progress import report_to, say
from assay.sampling import read_choice, write_sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--posts", type=Path, required=True)
    parser.add_argument("--chosen", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    args = parser.parse_args()
    report_to(args.progress, "sample")
    params = config.load()
    task = params.tasks[args.task]
    corpus = params.corpora[task.corpus]
    counts = write_sample(
        args.posts,
        images_root(corpus, params.demo),
        args.out,
        settings=task.sample,
        max_pixels=corpus.max_pixels,
        drawn=read_choice(args.chosen, count(args.posts)),
    )
    say("sample: " + ", ".join(f"{name} {n}" for name, n in counts.items()))


if __name__ == "__main__":
    run_main(main)
