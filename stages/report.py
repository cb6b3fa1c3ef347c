"""Predictions -> findings, brand table and an HTML page: python stages/report.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.posts import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--posts", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="the folder of the task's other metrics")
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--brands", type=Path, required=True)
    parser.add_argument("--colours", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    from assay.measure.report import report

    posts = read(args.posts, ["brands", "colours"])
    report(
        args.task,
        config.load().tasks[args.task],
        brands_of_posts=posts["brands"].to_pylist(),
        colours_of_posts=posts["colours"].to_pylist(),
        predictions=read(args.predictions, ["post_id", "status", "value", "reason", "in_train"]),
        problems=args.problems,
        labels=args.labels,
        split=args.split,
        sample=args.sample,
        metrics=args.metrics,
        out_findings=args.findings,
        out_brands=args.brands,
        out_colours=args.colours,
        out_page=args.page,
    )


if __name__ == "__main__":
    run_main(main)
