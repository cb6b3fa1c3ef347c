"""The rows of the plot files, and the error of each test post."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget, Target
from assay.measure.evaluate import Judged
from assay.measure.labels import decide


def errors(test: Judged, target: Target) -> np.ndarray:
    """Each post's error: |difference| of scores, mean |difference| of labels, 1 - the true class' probability."""
    if isinstance(target, LabelsTarget):
        return np.asarray(np.abs(test.student - test.y).mean(1))
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
    if isinstance(target, LabelsTarget):  # a row for each label that holds
        return [
            {"teacher": target.names[k], "student": round(float(test.student[i, k]), 4)}
            for i, k in np.argwhere(test.y > 0.5)
        ]
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
    """Binned prediction against truth: scores, confidence against accuracy, labels' probability against share."""
    weights = test.weights
    if isinstance(target, ClassesTarget):
        x, y = test.student.max(1), (test.student.argmax(1) == test.y).astype(float)
        edges = np.linspace(0, 1, 11)
    elif isinstance(target, LabelsTarget):
        x, y, weights = test.student.ravel(), test.y.ravel(), np.repeat(weights, len(target.names))
        edges = np.linspace(0, 1, 11)
    else:
        x, y = test.student.astype(float), test.y.astype(float)
        edges = np.linspace(target.min, target.max, 11)
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


def _confusion(test: Judged, target: Target) -> list[dict[str, Any]]:
    """One row a post, as DVC's confusion template wants it; scores by their bands, labels against none."""
    if isinstance(target, LabelsTarget):
        chosen, truth = decide(test.student, test.thresholds.get("student")), test.y > 0.5
        return [
            {
                "actual": target.names[k] if truth[i, k] else "none",
                "predicted": target.names[k] if chosen[i, k] else "none",
            }
            for i, k in np.argwhere(chosen | truth)
        ]
    if isinstance(target, ClassesTarget):
        names, actual, predicted = target.names, test.y, test.student.argmax(1)
    else:
        names = target.names_of_bands()
        actual, predicted = np.digitize(test.y, target.bands), np.digitize(test.student, target.bands)
    return [{"actual": names[a], "predicted": names[p]} for a, p in zip(actual, predicted, strict=True)]
