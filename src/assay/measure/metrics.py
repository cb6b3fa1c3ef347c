"""Weighted metrics with bootstrap intervals by group; the metrics themselves are those of the target.

Every metric takes weights W of shape [B, n] (rows: bootstrap replicates, or one row for the plain
figure) and returns [B]. Weights are inverse inclusion probabilities times how often a group was drawn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from assay.measure.found import Interval
from assay.targets import Target

Array = np.ndarray
REPLICATES = 1000
CHUNK = 4_000_000  # elements of W at a time


class Figure(NamedTuple):
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, told: Interval) -> Figure:
        """The figure that `rounded` wrote; nan where it is not defined."""
        return cls(*(math.nan if one is None else one for one in (told["value"], told["low"], told["high"])))

    def rounded(self) -> Interval:
        """As metrics files hold it: four decimals, null where it is not defined."""
        value, low, high = (None if not math.isfinite(v) else round(v, 4) + 0.0 for v in self)
        return Interval(value=value, low=low, high=high)

    @property
    def width(self) -> float:
        """High less low."""
        return self.high - self.low

    @property
    def leaves_zero_out(self) -> bool:
        """Whether the interval is all above or all below 0; False where it is not known."""
        return bool(self.low > 0 or self.high < 0)


UNKNOWN = Figure(math.nan, math.nan, math.nan)  # too little is known


# --------------------------------------------------------------------------------------- intervals


def point(y: Array, p: Array, weights: Array, target: Target, thresholds: Array | None = None) -> dict[str, float]:
    """The plain figures, without intervals; weights [n]."""
    weigh = np.asarray(weights, float)[None, :]
    found = target.figures(np.asarray(y), np.asarray(p, dtype=float), weigh, thresholds)
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
    rows = max(1, CHUNK // max(1, w.shape[1]))
    parts = [target.figures(y, p, w[start : start + rows], thresholds) for start in range(0, len(w), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(values: Array) -> Figure:
    """A figure and its 95 % percentile interval, from its plain value and its replicates."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(drawn):
        return Figure(float(values[0]), math.nan, math.nan)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(float(values[0]), float(low), float(high))


def gap(student: Array, other: Array, *, higher: bool) -> Figure:
    """The paired difference of a metric, positive where the student is better; `higher`: more of it is better."""
    return interval(student - other if higher else other - student)
