"""A trained student as a folder to deploy, with graphs of its encoders: python stages/export.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay.errors import run_main
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--sample", type=Path, required=True, help="with the posts that graph and student are compared on"
    )
    parser.add_argument("--errors", type=Path, required=True, help="what the student was judged by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    args = parser.parse_args()
    from assay.scoring.graphs import Known, export_graphs

    report_to(args.progress, "export")
    export_graphs(args.model, args.out, known=Known(args.task, args.sample, args.errors))


if __name__ == "__main__":
    run_main(main)
