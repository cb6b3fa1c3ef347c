"""How many labels random, diverse and active samples need for the same test error, on a labelled corpus.

    python benchmarks/sampling_designs.py --path /data/mvsa_single --kind mvsa --column sentiment

One fold of a grouped split is the test set, the rest the pool. For each design, size and seed a sample
is drawn from the pool with the code of the `choose` stage, a logistic regression on 128 principal components of the
frozen features learns from it, and is judged on the test set. Prints one JSON object as its last
line: mean and standard error over the seeds of accuracy, weighted F1 and log loss for each design and size;
the same of the estimated share of the first class (its error is what the weights of a design cost); and how many
labels each design needs for the log loss of the largest random sample.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kfold import Prepared, fold_of, load_params  # beside this file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

from assay.posts import write_table
from assay.scoring.designs import active, compress, diverse
from assay.splits import split
from assay.student.parts import Part, parts_by_split
from assay.targets import Target

DESIGNS = ("random", "diverse", "active")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True)
    parser.add_argument("--kind", default="mvsa")
    parser.add_argument("--columns", help="the column map of a table, as YAML")
    parser.add_argument("--column", default="sentiment")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400, 800, 1600])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="400 posts, two sizes, two seeds")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.seeds = [50, 100], 2
    params = load_params(argparse.Namespace(**vars(args), target=None, names=None, set=[]))
    with tempfile.TemporaryDirectory(prefix="assay-designs-") as work:
        data = Prepared(params, args.task, Path(work))
        task = fold_of(data.task, 5, 0)
        table, path = split(data.sample, data.labels, task.split, task.target), data.work / "split.parquet"
        write_table(table, path)
        labels = {data.name: data.work / "labels.parquet"}
        parts = parts_by_split(data.ids, data.features, labels, path, {data.name: task.target})
    test, pool = parts["test"], Part.join([part for name, part in parts.items() if name != "test"])
    both = Part.join([pool, test])
    x = compress(np.hstack([both.features.image, both.features.text]))  # without labels, the same for all designs
    world = World(x[: len(pool)], pool.values[data.name], x[len(pool) :], test.values[data.name], task.target)
    found = {
        design: {size: [trial(design, size, seed, world) for seed in range(args.seeds)] for size in args.sizes}
        for design in DESIGNS
    }
    print(json.dumps({"posts": len(pool), "tested": len(test), "seeds": args.seeds, **summary(found, args.sizes)}))


class World(NamedTuple):
    """Features and classes of the pool and of the test posts."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    target: Target


def trial(design: str, size: int, seed: int, world: World) -> dict[str, float]:
    """Draw, learn, judge."""
    x, y, y_test = world.x, world.y, world.y_test
    numbers = np.random.default_rng(seed).random(len(y))
    if design == "random":
        rows, p = np.argsort(numbers)[:size], np.full(size, size / len(y))
    elif design == "diverse":
        rows, p = diverse(x, numbers, size)
    else:
        rows, p = active(x, numbers, size, first=0.5, label=lambda some: y[some], target=world.target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=0.01, max_iter=300).fit(x[rows], y[rows])
    said = np.full((len(y_test), len(world.target.groups)), 1e-6)
    said[:, model.classes_] = model.predict_proba(world.x_test)
    said /= said.sum(1, keepdims=True)
    share = float(((y[rows] == 0) / p).sum() / (1 / p).sum())
    return {
        "accuracy": float(accuracy_score(y_test, said.argmax(1))),
        "f1_weighted": float(f1_score(y_test, said.argmax(1), average="weighted")),
        "log_loss": float(log_loss(y_test, said, labels=list(range(said.shape[1])))),
        "share_error": abs(share - float((y == 0).mean())),
    }


def summary(found: dict[str, dict[int, list[dict[str, float]]]], sizes: list[int]) -> dict[str, Any]:
    """Means and standard errors, and the labels needed for the log loss of the largest random sample."""
    table: dict[str, Any] = {
        design: {
            size: {
                name: [round(float(np.mean(v)), 4), round(float(np.std(v) / np.sqrt(len(v))), 4)]
                for name, v in ((name, [one[name] for one in trials]) for name in trials[0])
            }
            for size, trials in by_size.items()
        }
        for design, by_size in found.items()
    }
    goal = table["random"][sizes[-1]]["log_loss"][0]
    needed = {}
    for design in DESIGNS:
        losses = [table[design][size]["log_loss"][0] for size in sizes]
        order = np.argsort(losses)
        reached = min(losses) <= goal
        needed[design] = (
            round(float(np.exp(np.interp(goal, np.array(losses)[order], np.log(sizes)[order])))) if reached else None
        )
    return {"designs": table, "goal_log_loss": goal, "labels_needed": needed}


if __name__ == "__main__":
    main()
