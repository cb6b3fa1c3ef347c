"""A student beside its baselines on the test split: python stages/evaluate.py --help

Of a joint student, what is of a task stands below each path, as in `<labels>/<task>.parquet`."""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.config import own
from assay.errors import run_main
from assay.machine import write_figures
from assay.measure.csvfile import write_csv
from assay.posts import write_json
from assay.progress import say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="a task, or a joint student of several")
    for name in ("sample", "features", "labels", "split", "model", "metrics", "plots", "errors"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True, help="for the few figures by which runs are compared")
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    args = parser.parse_args()
    from assay.measure.evaluate import evaluate
    from assay.measure.summary import lines, of_student
    from assay.measure.tables import plot_tables
    from assay.scoring.judge import asked_again, judge, per_post, speed_and_size
    from assay.scoring.run_log import beside_teacher
    from assay.student.trained import model_digest

    tasks, found, short = config.load().members(args.task), {}, {}
    stage = f"{'joint_report' if len(tasks) > 1 else 'report'}@{args.task}"
    for name, task in tasks.items():
        sample, labels = own(args.sample, name, tasks), own(args.labels, name, tasks, ".parquet")
        at = args.model, sample, args.features, labels, args.split
        ids, test = judge(*at, task=name, slices=task.evaluate.slices)
        found[name] = evaluate(test, task.target, min_slice=task.evaluate.min_slice)
        found[name] |= {"noise_ceiling": ceiling} if (ceiling := asked_again(labels, task.target)) else {}
        short[name] = of_student(found[name], task.target)
        say("\n".join(lines(name, found[name], task.target, stage)))
        for plot, rows in plot_tables(test, task.target).items():
            write_csv(rows, own(args.plots, name, tasks) / f"{plot}.csv")
        per_post(ids, test, task.target, own(args.errors, name, tasks, ".parquet"))
    speed, size = speed_and_size(args.model, sample)
    write_figures(args.machine, "evaluate", speed | beside_teacher(args.machine, speed["posts_per_s"]))
    figures, few = (one if len(tasks) > 1 else one[args.task] for one in (found, short))
    write_json(few, args.summary)
    write_json(figures | {"size": size, "model": model_digest(args.model)[:16]}, args.metrics)


if __name__ == "__main__":
    run_main(main)
