"""A student beside its baselines on the test split: figures with intervals, per-post errors, plot data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.config import ClassesTarget, ScoreTarget, Target
from assay.measure import metrics
from assay.measure.baselines import PROBES
from assay.measure.calibrate import expected_calibration_error


class Judged(NamedTuple):
    """The test posts: truth, weights, leakage groups, and everybody's predictions."""

    y: np.ndarray  # scores float [n] or class numbers int [n]
    weights: np.ndarray  # inverse inclusion probabilities [n]
    group: np.ndarray  # [n]
    student: np.ndarray  # scores [n] or probabilities [n, K]
    baselines: dict[str, np.ndarray]


def evaluate(test: Judged, target: Target, *, replicates: int = metrics.REPLICATES) -> dict[str, Any]:
    """The content of evaluate.json: every figure `{value, low, high}`, baselines beside it, and the gaps.

    The same bootstrap draws serve student and baselines, so that gaps are paired.
    """
    w = metrics.replicate_weights(test.weights, test.group, replicates=replicates)
    student = metrics.bootstrap(test.y, test.student, w, target)
    others = {name: metrics.bootstrap(test.y, p, w, target) for name, p in test.baselines.items()}
    main = metrics.headline(target)
    found: dict[str, Any] = {
        "n": len(test.y),
        "groups": len(np.unique(test.group)),
        **{name: metrics.interval(values).rounded() for name, values in student.items()},
        "gap": _best_gap(student, others, main, list(others)),
        "gap_probe": _best_gap(student, others, main, [name for name in PROBES if name in others]),
        "baselines": {
            name: {k: metrics.interval(v).rounded() for k, v in values.items()} for name, values in others.items()
        },
    }
    if isinstance(target, ClassesTarget):
        found["classes"] = _per_class(test, target, w)
        found["confusion"] = _confusion_shares(test, target)
        found["ece"] = round(expected_calibration_error(test.y, test.student, test.weights), 4)
    return found


def _best_gap(student: dict[str, np.ndarray], others: dict[str, Any], main: str, among: list[str]) -> dict[str, Any]:
    """The paired difference to the best of some baselines, and which one that is."""
    if not among:
        return {"value": None, "low": None, "high": None, "against": None}
    sign = 1 if main in metrics.HIGHER_IS_BETTER else -1
    best = max(among, key=lambda name: sign * others[name][main][0])
    return {**metrics.gap(student[main], others[best][main], main).rounded(), "against": best}


def _per_class(test: Judged, target: ClassesTarget, w: np.ndarray) -> dict[str, Any]:
    found = metrics.per_class(test.y, test.student, w)
    return {
        name: {
            "n": int((test.y == k).sum()),
            **{m: metrics.interval(found[m][:, k]).rounded() for m in ("precision", "recall", "f1", "auroc")},
        }
        for k, name in enumerate(target.names)
    }


def _confusion_shares(test: Judged, target: ClassesTarget) -> dict[str, dict[str, float]]:
    """Of the posts that truly are of a class (rows), the weighted share predicted as each class."""
    table = metrics.confusion(test.y, test.student.argmax(1), test.weights, len(target.names))
    shares = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
    return {
        truth: {said: round(float(share), 4) for said, share in zip(target.names, row, strict=True)}
        for truth, row in zip(target.names, shares, strict=True)
    }


# ------------------------------------------------------------------------------------ plot tables


def errors(test: Judged, target: Target) -> np.ndarray:
    """The error of each post: |score difference|, or one minus the probability of the true class."""
    if isinstance(target, ClassesTarget):
        return np.asarray(1 - test.student[np.arange(len(test.y)), test.y])
    return np.asarray(np.abs(test.student - test.y))


def plot_tables(test: Judged, target: Target) -> dict[str, list[dict[str, Any]]]:
    """The rows of the plot files: predicted, errors, calibration, confusion; the same four for all targets."""
    return {
        "predicted": _predicted(test, target),
        "errors": _histogram(errors(test, target), test.weights, _error_edges(target)),
        "calibration": _calibration(test, target),
        "confusion": _confusion(test, target),
    }


def _predicted(test: Judged, target: Target) -> list[dict[str, Any]]:
    if isinstance(target, ClassesTarget):
        own = test.student[np.arange(len(test.y)), test.y]
        return [{"teacher": target.names[y], "student": round(float(p), 4)} for y, p in zip(test.y, own, strict=True)]
    return [{"teacher": float(y), "student": round(float(p), 4)} for y, p in zip(test.y, test.student, strict=True)]


def _error_edges(target: Target) -> np.ndarray:
    return np.linspace(0, (target.max - target.min) if isinstance(target, ScoreTarget) else 1.0, 21)


def _histogram(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    shares = np.histogram(values, edges, weights=weights)[0] / weights.sum()
    return [{"error": f"{low:.2f}", "share": round(float(s), 5)} for low, s in zip(edges, shares, strict=False)]


def _calibration(test: Judged, target: Target) -> list[dict[str, Any]]:
    """Binned prediction against truth: mean scores, or confidence against accuracy."""
    if isinstance(target, ClassesTarget):
        x, y = test.student.max(1), (test.student.argmax(1) == test.y).astype(float)
        edges = np.linspace(0, 1, 11)
    else:
        x, y = test.student.astype(float), test.y.astype(float)
        edges = np.linspace(target.min, target.max, 11)
    where = np.clip(np.digitize(x, edges) - 1, 0, 9)
    rows = []
    for number in range(10):
        inside = where == number
        if inside.any():
            w = test.weights[inside] / test.weights[inside].sum()
            rows.append(
                {
                    "predicted": round(float(w @ x[inside]), 4),
                    "observed": round(float(w @ y[inside]), 4),
                    "posts": int(inside.sum()),
                }
            )
    return rows


def _confusion(test: Judged, target: Target) -> list[dict[str, Any]]:
    """One row a post, as DVC's confusion template wants it; scores by their bands."""
    if isinstance(target, ClassesTarget):
        names, actual, predicted = target.names, test.y, test.student.argmax(1)
    else:
        names = target.names_of_bands()
        actual, predicted = np.digitize(test.y, target.bands), np.digitize(test.student, target.bands)
    return [{"actual": names[a], "predicted": names[p]} for a, p in zip(actual, predicted, strict=True)]
