"""Features, labels, split -> a trained student: python stages/train.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.errors import run_main
from assay.machine import watched, write_figures
from assay.places import start_folder
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="a task, or a joint student of several")
    parser.add_argument("--sample", type=Path, help="read where an encoder learns")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="a table, or a folder with one a task")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--live", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    parser.add_argument("--curves", type=Path, help="for curves of this machine")
    args = parser.parse_args()
    from assay.student.card import write_card
    from assay.student.learn import Lesson, joint_settings, learn
    from assay.student.log import curve_log
    from assay.student.team import Team

    main_one = Team().is_main  # of several processes one writes
    report_to(args.progress if main_one else None, "train")
    params = config.load()
    tasks = params.members(args.task)
    first = next(iter(tasks.values()))
    lesson = Lesson(
        name=args.task,
        targets={name: task.target for name, task in tasks.items()},
        student=params.students[first.student],
        settings=joint_settings(first.train) if len(tasks) > 1 else first.train,
        features=args.features,
        labels={name: args.labels / f"{name}.parquet" if args.labels.is_dir() else args.labels for name in tasks},
        split=args.split,
        sample=args.sample,
        start=start_folder(first.train.start_from) if first.train.start_from else None,
    )
    with (
        watched(args.curves if main_one else None) as taken,
        curve_log(args.live, tensorboard=first.train.tensorboard) as on_epoch,
    ):
        learn(lesson, args.out, lambda trained: write_card(trained, tasks), on_epoch)
    write_figures(args.machine if main_one else None, "train", taken)


if __name__ == "__main__":
    run_main(main)
