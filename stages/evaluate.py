"""A student beside its baselines on the test split: python stages/evaluate.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.measure.evaluate import evaluate, plot_tables
from assay.measure.plots import write_csv
from assay.posts import write_json
from assay.scoring.judge import judge, per_post


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    parser.add_argument("--errors", type=Path, required=True)
    args = parser.parse_args()
    target = config.load().tasks[args.task].target
    ids, test = judge(args.model, args.sample, args.features, args.labels, args.split)
    write_json(evaluate(test, target), args.metrics)
    for name, rows in plot_tables(test, target).items():
        write_csv(rows, args.plots / f"{name}.csv")
    per_post(ids, test, target, args.errors)


if __name__ == "__main__":
    run_main(main)
