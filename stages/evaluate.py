"""A student beside its baselines on the test split: python stages/evaluate.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.machine import write_figures
from assay.measure.csvfile import write_csv
from assay.posts import write_json


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
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    args = parser.parse_args()
    from assay.measure.evaluate import evaluate
    from assay.measure.tables import plot_tables
    from assay.scoring.judge import asked_again, judge, per_post, speed_and_size
    from assay.scoring.run_log import beside_teacher
    from assay.student.model import folder_digest

    task = config.load().tasks[args.task]
    ids, test = judge(
        args.model,
        args.sample,
        args.features,
        args.labels,
        args.split,
        task=args.task,
        slices=task.evaluate.slices,
    )
    found = evaluate(test, task.target, min_slice=task.evaluate.min_slice)
    ceiling = asked_again(args.labels, task.target)
    found |= {"noise_ceiling": ceiling} if ceiling else {}
    speed, size = speed_and_size(args.model, args.sample)
    write_figures(args.machine, "evaluate", speed | beside_teacher(args.machine, speed["posts_per_s"]))
    found |= {"size": size, "model": folder_digest(args.model)[:16]}
    write_json(found, args.metrics)
    for name, rows in plot_tables(test, task.target).items():
        write_csv(rows, args.plots / f"{name}.csv")
    per_post(ids, test, task.target, args.errors)


if __name__ == "__main__":
    run_main(main)
