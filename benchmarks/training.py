"""How long does the default student take to train once features are there? Its students at once, and in turn.

    make repro && python benchmarks/training.py [--posts 3000] [--task sentiment] [--quick]

Learns from the labelled posts of the default run, each taken several times with noise on its features until there are
so many (all copies of a post are one leakage group). Prints one JSON object as its last line: seconds of cross-fitting
on all cores and on one, their ratio, and the linear model's share.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay import config
from assay.encode import features as feature_files
from assay.errors import run_main
from assay.student.crossfit import DEFAULT, crossfit
from assay.student.parts import Part, parts_by_split

NOISE = 0.3  # standard deviations of each feature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=3000)
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--data", type=Path, default=Path("data"), help="of a run of the pipeline")
    parser.add_argument("--quick", action="store_true", help="2 folds of 300 posts, 3 epochs: shows that it runs")
    args = parser.parse_args()
    params = config.load()
    task = params.tasks[args.task]
    targets = {args.task: task.target}
    pool = grown(args, targets, 300 if args.quick else args.posts)
    settings = task.train.model_copy(update={"epochs": 3} if args.quick else {})
    result: dict[str, Any] = {"posts": len(pool), "task": args.task}
    for name, workers in (("at_once", ""), ("in_turn", "1")):
        os.environ["ASSAY_WORKERS"] = workers
        began = time.perf_counter()
        found = crossfit(
            pool,
            student=params.students[task.student],
            targets=targets,
            settings=settings,
            folds=2 if args.quick else DEFAULT,
            checkpoint=None,
            on_epoch=None,
        )
        result[f"seconds_{name}"] = round(time.perf_counter() - began, 1)
    result["ratio"] = round(result["seconds_in_turn"] / result["seconds_at_once"], 2)
    print(json.dumps(result | {"epochs": len(found.curves), "weighed": found.weighed}))


def grown(args: argparse.Namespace, targets: Any, posts: int) -> Part:
    """The labelled posts, again and again with noise, until there are so many."""
    ids, known, _ = feature_files.load(args.data / "features" / args.task)
    labels, split = args.data / f"labels/{args.task}.parquet", args.data / f"split/{args.task}.parquet"
    whole = Part.join(list(parts_by_split(ids, known, {args.task: labels}, split, targets).values()))
    pool = whole.take(np.arange(posts) % len(whole))
    rng = np.random.default_rng(0)

    def noisy(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = values + NOISE * values.std(0) * rng.standard_normal(values.shape)
        return found.astype(np.float32)

    features = pool.features
    pool.features = replace(features, image=noisy(features.image), text=noisy(features.text))
    return pool


if __name__ == "__main__":
    run_main(main)
