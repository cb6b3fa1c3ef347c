"""Features, labels, split -> a trained student: python stages/train.py --help"""

import argparse
from pathlib import Path

from dvclive.live import Live

from assay import config
from assay.errors import run_main
from assay.student.learn import learn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--live", type=Path, required=True)
    args = parser.parse_args()
    params = config.load()
    task = params.tasks[args.task]
    with Live(str(args.live), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False) as live:

        def on_epoch(curve: dict[str, float]) -> None:
            live.step = int(curve["epoch"])
            for name, value in curve.items():
                if name != "epoch":
                    live.log_metric(name, value)
            live.make_summary()

        learn(
            args.task,
            task,
            params.students[task.student],
            features=args.features,
            labels=args.labels,
            split=args.split,
            out=args.out,
            on_epoch=on_epoch,
        )


if __name__ == "__main__":
    run_main(main)
