"""p-values, and what many tests at once decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as student_t

from assay.measure.found import Coded, Moved

LEVEL = 0.05


def adjust(p_values: Sequence[float], method: str) -> list[float]:
    """p-values corrected for their number: holm (Holm, 1979), bh (Benjamini and Hochberg, 1995), or none."""
    p = np.asarray(p_values, dtype=float)
    if method == "none" or not len(p):
        return [float(value) for value in p]
    if method == "bh":
        return [float(value) for value in false_discovery_control(p, method="bh")]
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    found = np.empty(len(p))
    found[order] = stepped
    return [float(value) for value in found]


def tail(distance: float, error: float, df: float) -> float:
    """The chance to be so far above 0 by luck, one-sided, by Student's t; nan where nothing is known."""
    if not df > 0 or not np.isfinite(distance):
        return float("nan")
    if error == 0:
        return 0.0 if distance > 0 else 0.5
    return float(student_t.sf(distance / error, df))


def decide(rows: Sequence[Moved | Coded]) -> None:
    """Correct `p` of rows for their number (Holm) and say in `decided` whether it is below 0.05; None: not known."""
    known = [(row, row["p"]) for row in rows if row["p"] is not None]
    for (row, _), p in zip(known, adjust([p for _, p in known], "holm"), strict=True):
        row["p"], row["decided"] = round(p, 4), p < LEVEL
