"""Weighted metrics for many weightings at once, and bootstrap intervals by group.

Every metric takes weights W of shape [B, n] (rows: bootstrap replicates, or one row for the plain
figure) and returns [B]. Weights are inverse inclusion probabilities times how often a group was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from assay.config import ClassesTarget, LabelsTarget, Target
from assay.measure.labels import label_metrics
from assay.measure.rank import auroc, pearson, spearman

Array = np.ndarray
HIGHER_IS_BETTER = {
    "r2",
    "pearson",
    "spearman",
    "within_0_5",
    "within_1",
    "within_2",
    "accuracy",
    "f1_macro",
    "f1_weighted",
    "auroc",
    "f1_micro",
    "f1_macro_at_half",
    "f1_micro_at_half",
    "auroc_macro",
    "average_precision",
    "exact_match",
    "precision",
    "recall",
    "f1",
}
REPLICATES = 1000
CHUNK = 4_000_000  # elements of W at a time


class Figure(NamedTuple):
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, float | None]:
        """As metrics files hold it: four decimals, null where it is not defined."""
        return {name: None if not math.isfinite(v) else round(v, 4) for name, v in zip(self._fields, self, strict=True)}


def headline(target: Target) -> str:
    """The figure that decides which of two predictors is better."""
    return {"score": "mae", "classes": "f1_weighted", "labels": "f1_macro"}[target.kind]


# ------------------------------------------------------------------------------------------ scores


def score_metrics(y: Array, p: Array, w: Array) -> dict[str, Array]:
    """MAE, RMSE, R2, Pearson, Spearman and the share within 0.5, 1 and 2 of scores y [n] and predictions p [n]."""
    error, total = p - y, w.sum(1)
    squares = w @ error**2
    mean = w @ y / total
    spread = w @ y**2 - total * mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(spread > 1e-12, 1 - squares / spread, np.nan)
    distance = np.abs(error)
    return {
        "mae": w @ distance / total,
        "rmse": np.sqrt(squares / total),
        "r2": r2,
        "pearson": pearson(y, p, w),
        "spearman": spearman(y, p, w),
        "within_0_5": w @ (distance <= 0.5 + 1e-9) / total,
        "within_1": w @ (distance <= 1 + 1e-9) / total,
        "within_2": w @ (distance <= 2 + 1e-9) / total,
    }


# ----------------------------------------------------------------------------------------- classes


def class_metrics(y: Array, p: Array, w: Array) -> dict[str, Array]:
    """Accuracy, macro and weighted F1 and macro AUROC of classes y [n] and probabilities p [n, K]."""
    found = per_class(y, p, w)
    support, f1 = found["support"], found["f1"]
    there = support > 0
    predicted = p.argmax(1)
    classes = there.sum(1)
    defined = there & ~np.isnan(found["auroc"])
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.where(defined, found["auroc"], 0).sum(1) / defined.sum(1)
    return {
        "accuracy": w @ (predicted == y) / w.sum(1),
        "f1_macro": np.where(there, f1, 0).sum(1) / classes,
        "f1_weighted": (f1 * support).sum(1) / support.sum(1),
        "auroc": area,
    }


def per_class(y: Array, p: Array, w: Array) -> dict[str, Array]:
    """Support, precision, recall, F1 and one-against-rest AUROC of each class, each [B, K]."""
    classes = p.shape[1]
    truth, chosen = np.eye(classes)[y], np.eye(classes)[p.argmax(1)]
    support, predicted, hits = w @ truth, w @ chosen, w @ (truth * chosen)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        recall = np.where(support > 0, hits / support, 0.0)
        f1 = np.where(support + predicted > 0, 2 * hits / (support + predicted), 0.0)
    areas = np.stack([auroc(y == k, p[:, k], w) for k in range(classes)], axis=1)
    return {"support": support, "precision": precision, "recall": recall, "f1": f1, "auroc": areas}


def confusion(y: Array, predicted: Array, w: Array, classes: int) -> Array:
    """Weighted confusion matrix [K, K]: rows truth, columns prediction; w [n]."""
    table = np.zeros((classes, classes))
    np.add.at(table, (y, predicted), w)
    return table


# --------------------------------------------------------------------------------------- intervals


def metrics_of(target: Target, thresholds: Array | None = None) -> Callable[[Array, Array, Array], dict[str, Array]]:
    """The metrics function of a target; `thresholds` [L] are those of labels."""
    if isinstance(target, LabelsTarget):
        return lambda y, p, w: label_metrics(y, p, w, thresholds)
    return class_metrics if isinstance(target, ClassesTarget) else score_metrics


def point(y: Array, p: Array, weights: Array, target: Target, thresholds: Array | None = None) -> dict[str, float]:
    """The plain figures, without intervals; weights [n]."""
    weigh = np.asarray(weights, float)[None, :]
    found = metrics_of(target, thresholds)(np.asarray(y), np.asarray(p, dtype=float), weigh)
    return {name: float(value[0]) for name, value in found.items()}


def replicate_weights(weights: Array, group: Array, *, replicates: int = REPLICATES, seed: int = 0) -> Array:
    """W [1 + replicates, n]: the weights themselves, then bootstrap draws of whole groups.

    Groups are drawn with replacement (cluster bootstrap), so that posts of one author or one
    duplicated picture do not count as independent.
    """
    _, index = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = int(index.max()) + 1
    times = rng.multinomial(counts, np.full(counts, 1 / counts), size=replicates)
    drawn = np.vstack([np.ones(counts, dtype=times.dtype), times])
    return np.asarray(weights * drawn[:, index], dtype=float)


def bootstrap(y: Array, p: Array, w: Array, target: Target, thresholds: Array | None = None) -> dict[str, Array]:
    """All metrics for every row of w, [1 + replicates] each; row 0 is the plain figure."""
    metrics = metrics_of(target, thresholds)
    rows = max(1, CHUNK // max(1, w.shape[1]))
    parts = [metrics(y, p, w[start : start + rows]) for start in range(0, len(w), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(values: Array) -> Figure:
    """A figure and its 95 % percentile interval, from its plain value and its replicates."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(drawn):
        return Figure(float(values[0]), math.nan, math.nan)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(float(values[0]), float(low), float(high))


def gap(student: Array, other: Array, metric: str) -> Figure:
    """The paired difference of a metric, positive where the student is better."""
    return interval(student - other if metric in HIGHER_IS_BETTER else other - student)
