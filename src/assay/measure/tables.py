"""The rows of the plot files."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.measure.judged import Judged
from assay.targets import Target


def plot_tables(test: Judged, target: Target) -> dict[str, list[dict[str, Any]]]:
    """The rows of the plot files: predicted, errors, calibration, confusion; the same four for all targets."""
    y, p, at = test.y, test.student, test.thresholds.get("student")
    return {
        "predicted": [{"teacher": truth, "student": round(said, 4)} for truth, said in target.pairs(y, p)],
        "errors": _histogram(target.errors(y, p), test.weights, np.linspace(0, target.largest_error, 21)),
        "calibration": _calibration(*target.calibration(y, p, test.weights)),
        "confusion": [{"actual": actual, "predicted": said} for actual, said in target.crossed(y, p, at)],
    }


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
