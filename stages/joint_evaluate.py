"""A joint student beside the baselines of each of its tasks: python stages/joint_evaluate.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.machine import write_figures
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joint", required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="what join wrote")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    args = parser.parse_args()
    from assay.measure.evaluate import evaluate
    from assay.scoring.judge import judge, speed_and_size
    from assay.scoring.run_log import beside_teacher
    from assay.student.model import folder_digest

    found = {}
    for name, task in config.load().members(args.joint).items():
        _, test = judge(
            args.model,
            args.samples / name,
            args.data / "features",
            args.data / "labels" / f"{name}.parquet",
            args.data / "split.parquet",
            task=name,
            slices=task.evaluate.slices,
        )
        found[name] = evaluate(test, task.target, min_slice=task.evaluate.min_slice)
        sample = args.samples / name
    version = {"model": folder_digest(args.model)[:16]}
    speed, size = speed_and_size(args.model, sample)
    write_figures(args.machine, "evaluate", speed | beside_teacher(args.machine, speed["posts_per_s"]))
    write_json(found | {"size": size} | version, args.metrics)


if __name__ == "__main__":
    run_main(main)
