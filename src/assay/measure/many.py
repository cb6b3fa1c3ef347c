"""p-values of many tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control


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
