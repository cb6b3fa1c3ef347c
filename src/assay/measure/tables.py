"""The rows of the plot files."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from assay.measure.judged import Judged
from assay.targets import NAME, NUMBER, Target

CURVE_POINTS = 101


def plot_tables(test: Judged, target: Target) -> dict[str, list[dict[str, Any]]]:
    """The rows of the plot files: predicted, errors, calibration, confusion, roc, precision_recall; for all targets.

    Curves are of each class or label against the rest, and of a score, of each band and those above it.
    """
    y, p, at = test.y, test.student, test.thresholds.get("student")
    return {
        "predicted": [{"teacher": truth, "student": round(said, 4)} for truth, said in target.pairs(y, p)],
        "errors": _histogram(target.errors(y, p), test.weights, np.linspace(0, target.largest_error, 21)),
        "calibration": _calibration(*target.calibration(y, p, test.weights)),
        "confusion": [{"actual": actual, "predicted": said} for actual, said in target.crossed(y, p, at)],
        **_ranked(test, target),
    }


def _ranked(test: Judged, target: Target) -> dict[str, list[dict[str, Any]]]:
    """Curves of receiver operating characteristic, and of precision and recall, at most CURVE_POINTS a name."""
    y, p, w = test.y, test.student, test.weights
    if target.shape == NUMBER:
        cuts = getattr(target, "bands", None) or [float(np.median(y))]
        asked = [(f"at least {cut:g}", y >= cut, p) for cut in cuts]
    elif target.shape == NAME:
        asked = [(name, y == k, p[:, k]) for k, name in enumerate(target.groups)]
    else:
        asked = [(name, y[:, k] > 0.5, p[:, k]) for k, name in enumerate(target.groups)]
    found: dict[str, list[dict[str, Any]]] = {"roc": [], "precision_recall": []}
    for name, truth, score in asked:
        if truth.all() or not truth.any():  # nothing to tell apart
            continue
        false, true, _ = roc_curve(truth, score, sample_weight=w)
        precision, recall, _ = precision_recall_curve(truth, score, sample_weight=w)
        found["roc"] += _thinned(name, ("false_positive_rate", false), ("true_positive_rate", true))
        found["precision_recall"] += _thinned(name, ("recall", recall), ("precision", precision))
    return found


def _thinned(name: str, *axes: tuple[str, np.ndarray]) -> list[dict[str, Any]]:
    size = len(axes[0][1])
    kept = np.unique(np.linspace(0, size - 1, min(size, CURVE_POINTS)).round().astype(int))
    return [{"name": name, **{axis: round(float(values[i]), 4) for axis, values in axes}} for i in kept]


def _histogram(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    shares = np.histogram(values, edges, weights=weights)[0] / weights.sum()
    return [{"error": f"{low:.2f}", "share": round(float(s), 5)} for low, s in zip(edges, shares, strict=False)]


def _calibration(x: np.ndarray, y: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    """Binned prediction against truth."""
    where = np.clip(np.digitize(x, edges) - 1, 0, 9)
    rows = []
    for number in range(10):
        inside = where == number
        if inside.any():
            w = weights[inside] / weights[inside].sum()
            rows.append(
                {
                    "predicted": round(float(w @ x[inside]), 4),
                    "observed": round(float(w @ y[inside]), 4),
                    "posts": int(inside.sum()),
                }
            )
    return rows
