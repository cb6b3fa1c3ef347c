"""Sample -> frozen features of the student's encoders: python stages/embed.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.errors import run_main
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    args = parser.parse_args()
    from assay.encode.extract import embed

    report_to(args.progress, "embed")
    params = config.load()
    task = params.tasks[args.task]
    embed(
        args.sample,
        args.out,
        student=params.students[task.student],
        image_px=task.sample.image_px,
        max_images=task.sample.max_images,
    )


if __name__ == "__main__":
    run_main(main)
