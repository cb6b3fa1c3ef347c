"""Whether trees tell more of the same features than a linear model: sentiment on MVSA.

    python benchmarks/heads.py --mvsa /data/mvsa_single

The features of the default student (frozen encoders), grouped 5-fold of all posts: a logistic regression, gradient
boosting of trees (scikit-learn's, stopped early by a tenth of what it learns from) on principal components of the
features, and the mean of the two. Prints a line a model, and one JSON object as its last line: accuracy, weighted F1,
macro ROC-AUC, log loss, and the difference of the mean to the logistic regression alone with its 95 % bootstrap
interval by leakage group.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import kfold
import numpy as np
from image_features import figures, labels_and_folds, out_of_fold, standardised
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier

from assay.errors import run_main
from assay.measure import metrics
from assay.splits import split

COMPONENTS = (64, 128)
SHOWN = ("accuracy", "f1_weighted", "auroc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvsa", required=True, help="MVSA-single")
    parser.add_argument("--quick", action="store_true", help="400 posts")
    args = parser.parse_args()
    params = kfold.params_of(quick=args.quick, path=args.mvsa)
    with tempfile.TemporaryDirectory(prefix="assay-heads-") as work:
        data = kfold.Prepared(params, "sentiment", Path(work), baselines=False)
        y, folds = labels_and_folds(data)
        rows = split(data.sample, data.labels, data.task.split, data.task.target).to_pylist()
        groups = {row["post_id"]: row["group"] for row in rows}
    blocks = [data.features.image, data.features.text]
    said = {"logistic": out_of_fold(blocks, y, folds)}
    took = {}
    for count in COMPONENTS:
        started = time.perf_counter()
        said[f"boosting, {count} components"] = boosted(blocks, y, folds, count)
        took[count] = round(time.perf_counter() - started, 1)
        said[f"mean with {count}"] = (said["logistic"] + said[f"boosting, {count} components"]) / 2
    found: dict[str, object] = {name: figures(y, one) for name, one in said.items()}
    for name, told in found.items():
        print(name, told, flush=True)
    weights = metrics.replicate_weights(np.ones(len(y)), np.array([groups[i] for i in data.ids]))
    by_way = {name: metrics.bootstrap(y, one, weights, data.task.target) for name, one in said.items()}
    for count in COMPONENTS:
        both, alone = by_way[f"mean with {count}"], by_way["logistic"]
        gaps = {name: metrics.gap(both[name], alone[name], higher=True).rounded() for name in SHOWN}
        found[f"mean with {count} over logistic"] = gaps
    print(json.dumps(found | {"seconds": took}))


def boosted(blocks: list[np.ndarray], y: np.ndarray, folds: np.ndarray, count: int) -> np.ndarray:
    """Out-of-fold probabilities [n, 3] of trees on so many principal components."""
    said = np.zeros((len(y), 3))
    for fold in range(5):
        learn, held = folds != fold, folds == fold
        x = np.hstack([standardised(block, learn) for block in blocks])
        reduced = PCA(min(count, int(learn.sum()) - 1), random_state=0).fit(x[learn])
        trees = HistGradientBoostingClassifier(
            learning_rate=0.06, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=True, random_state=0
        )
        said[held] = trees.fit(reduced.transform(x[learn]), y[learn]).predict_proba(reduced.transform(x[held]))
    return said


if __name__ == "__main__":
    run_main(main)
