"""Features, labels, split -> a trained student: python stages/train.py --help"""

import argparse
from pathlib import Path

from dvclive.live import Live

from assay import config
from assay.errors import run_main
from assay.student.card import write_card
from assay.student.learn import Lesson, learn
from assay.student.log import curve_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--sample", type=Path, required=True, help="read where an encoder learns")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--live", type=Path, required=True)
    args = parser.parse_args()
    params = config.load()
    task = params.tasks[args.task]
    with Live(str(args.live), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False) as live:
        lesson = Lesson(
            args.task,
            {args.task: task.target},
            params.students[task.student],
            task.train,
            args.features,
            {args.task: args.labels},
            args.split,
            args.sample,
        )
        with curve_log(live, args.live / "tensorboard" if task.train.tensorboard else None) as on_epoch:
            learn(lesson, args.out, lambda trained: write_card(trained, {args.task: task}), on_epoch)


if __name__ == "__main__":
    run_main(main)
