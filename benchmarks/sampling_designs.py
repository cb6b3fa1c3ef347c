"""How many labels random, diverse and active samples need for the same test error, on a labelled corpus.

    python benchmarks/sampling_designs.py --path /data/mvsa_single --kind mvsa --column sentiment

One fold of a grouped split is the test set, the rest the pool. For each design, size and seed a sample
is drawn from the pool with the code of the `choose` stage, a logistic regression on the frozen features of
the task's student learns from it, and is judged on the test set. Prints one JSON object as its last
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
from typing import Any

import numpy as np
from kfold import Prepared, _params, fold_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.preprocessing import StandardScaler

from assay.posts import write_table
from assay.scoring.designs import active, compress, diverse
from assay.splits import split
from assay.student.parts import Part, parts_by_split

DESIGNS = ("random", "diverse", "active")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True)
    parser.add_argument("--kind", default="mvsa")
    parser.add_argument("--columns", help="the column map of a table, as YAML")
    parser.add_argument("--column", default="sentiment")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400, 800, 1600])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="400 posts, two sizes, two seeds")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.seeds = [50, 100], 2
    params = _params(argparse.Namespace(**vars(args), target=None, names=None, set=[]))
    with tempfile.TemporaryDirectory(prefix="assay-designs-") as work:
        data = Prepared(params, args.task, Path(work))
        task = fold_of(data.task, 5, 0)
        table, path = split(data.sample, data.labels, task.split, task.target), data.work / "split.parquet"
        write_table(table, path)
        labels = {data.name: data.work / "labels.parquet"}
        parts = parts_by_split(data.ids, data.features, labels, path, {data.name: task.target})
    test, pool = parts["test"], Part.join([part for name, part in parts.items() if name != "test"])
    found = {
        design: {
            size: [trial(design, size, seed, pool, test, data.name, task) for seed in range(args.seeds)]
            for size in args.sizes
        }
        for design in DESIGNS
    }
    print(json.dumps({"posts": len(pool), "tested": len(test), "seeds": args.seeds, **summary(found, args.sizes)}))


def trial(design: str, size: int, seed: int, pool: Part, test: Part, name: str, task: Any) -> dict[str, float]:
    """Draw, learn, judge."""
    x, y = np.hstack([pool.features.image, pool.features.text]), pool.values[name]
    x_test, y_test = np.hstack([test.features.image, test.features.text]), test.values[name]
    numbers = np.random.default_rng(seed).random(len(y))
    if design == "random":
        rows, p = np.argsort(numbers)[:size], np.full(size, size / len(y))
    elif design == "diverse":
        rows, p = diverse(compress(x), numbers, size)
    else:
        rows, p = active(compress(x), numbers, size, first=0.5, label=lambda some: y[some], target=task.target)
    scaler = StandardScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=0.001, max_iter=300).fit(scaler.transform(x[rows]), y[rows])
    said = np.full((len(y_test), len(task.target.names)), 1e-6)
    said[:, model.classes_] = model.predict_proba(scaler.transform(x_test))
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
