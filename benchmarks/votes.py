"""Votes or more posts? A noisy teacher with one budget of answers: asked once, several times, or for its distribution.

    python benchmarks/votes.py --path /data/mvsa_single [--answers 1200] [--draws 5] [--quick]

Real posts and their labels, a fifth of them (whole leakage groups) kept back as the test. The teacher is drawn: it says
the label of a post, or with the post's own chance another one by their shares; half of the posts are easy (wrong in
0.05), half hard (in 0.6). With the same number of answers the default student learns from

- `once`: as many posts as answers, a label each;
- `majority`: a third of the posts, the commonest of three answers;
- `shares`: the same, and the shares of the three answers as soft targets;
- `distribution`: as many posts as answers, and the distribution that the teacher would give by log-probabilities.

Figures are means over draws of posts and answers, on the test posts' true labels; differences to `once` are paired by
draw, with 95 % t intervals. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from kfold import Prepared, params_of
from scipy.stats import t as student_t

from assay.errors import run_main
from assay.measure import metrics
from assay.posts import write_table
from assay.splits import grouped_folds, split
from assay.student.crossfit import crossfit
from assay.student.parts import Part, parts_by_split
from assay.student.tune import loss

WRONG = (0.05, 0.6)  # of easy and of hard posts
ARMS = ("once", "majority", "shares", "distribution")
VOTES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="MVSA-Single")
    parser.add_argument("--answers", type=int, default=1200)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="300 answers, 2 draws of 400 posts, 3 epochs")
    args = parser.parse_args()
    answers, draws = (300, 2) if args.quick else (args.answers, args.draws)
    params = params_of(quick=args.quick, path=args.path)
    with tempfile.TemporaryDirectory(prefix="assay-votes-") as work:
        data = Prepared(params, "sentiment", Path(work), baselines=False)
        whole = labelled(data)
    rows = [one_draw(data, whole, answers, seed) for seed in range(draws)]
    print(json.dumps(summary(rows) | {"answers": answers, "draws": draws, "votes": VOTES, "posts": len(whole)}))


def labelled(data: Prepared) -> Part:
    """All posts with their true labels."""
    table, path = split(data.sample, data.labels, data.task.split, data.task.target), data.work / "split.parquet"
    write_table(table, path)
    labels, targets = {data.name: data.work / "labels.parquet"}, {data.name: data.task.target}
    return Part.join(list(parts_by_split(data.ids, data.features, labels, path, targets).values()))


def one_draw(data: Prepared, whole: Part, answers: int, seed: int) -> dict[str, dict[str, float]]:
    """Figures of every arm on one draw of test, posts and answers."""
    name, target = data.name, data.task.target
    rng = np.random.default_rng(seed)
    truth = whole.values[name].astype(int)
    test = grouped_folds(target.strata_with_gaps(whole.values[name]), whole.group, 5, seed) == 0
    shares = np.bincount(truth, minlength=len(target.groups)) / len(truth)
    wrong = rng.choice(WRONG, len(truth))
    right = np.eye(len(shares))[truth]
    others = (1 - right) * shares
    chances = (1 - wrong)[:, None] * right + wrong[:, None] * others / others.sum(1, keepdims=True)
    said = np.stack([(chances.cumsum(1) > rng.random((len(truth), 1))).argmax(1) for _ in range(VOTES)], 1)
    votes = np.stack([(said == k).mean(1) for k in range(len(shares))], 1)
    order = rng.permutation(np.flatnonzero(~test))
    many, few = order[:answers], order[: answers // VOTES]
    held = whole.take(np.flatnonzero(test))
    found = {}
    for arm in ARMS:
        rows = few if arm in ("majority", "shares") else many
        pool = whole.take(rows)
        first = said[rows, 0]
        common = (votes[rows] + 0.01 * np.eye(len(shares))[first]).argmax(1)  # of equals the first answer
        pool.values = {name: first if arm in ("once", "distribution") else common}
        soft = {"shares": votes, "distribution": chances}.get(arm)
        pool.soft = {name: soft[rows].astype(np.float32)} if soft is not None else {}
        settings = data.task.train.model_copy(update={"seed": seed, "soft_targets": float(soft is not None)})
        targets = {name: target}
        fitted = crossfit(pool, student=data.student, targets=targets, settings=settings, folds=5, checkpoint=None)
        p = fitted.model.predict(held.features)[name]
        figures = metrics.point(held.values[name], p, held.weights, target)
        found[arm] = {key: figures[key] for key in ("accuracy", "f1_weighted")}
        found[arm]["log_loss"] = loss(target, held.values[name], p, held.weights)
    return found


def summary(rows: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means and deviations over draws, and paired differences to `once`."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        found[arm] = {}
        for figure in rows[0][arm]:
            values = np.array([row[arm][figure] for row in rows])
            gaps = values - np.array([row["once"][figure] for row in rows])
            half = student_t.ppf(0.975, len(rows) - 1) * gaps.std(ddof=1) / len(rows) ** 0.5
            told = {"mean": values.mean(), "sd": values.std(ddof=1)}
            told |= {"against_once": gaps.mean(), "low": gaps.mean() - half, "high": gaps.mean() + half}
            found[arm][figure] = {key: round(float(one), 4) for key, one in told.items()}
    return found


if __name__ == "__main__":
    run_main(main)
