"""95 % intervals of estimates: means by Student's t, shares by Wilson's method on an effective sample, differences from
the two intervals and their covariance, ratios by Fieller's method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

Array = np.ndarray
LEVEL = 0.95


def quantile(df: Array, level: float = LEVEL) -> Array:
    """The two-sided critical value of Student's t; inf where there are no degrees of freedom."""
    df = np.asarray(df, dtype=float)
    return np.where(df > 0, student_t.ppf(0.5 + level / 2, np.maximum(df, 1e-9)), np.inf)


def mean_interval(value: Array, variance: Array, df: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Low and high of means; a variance of 0 is an exact figure, whatever the degrees of freedom."""
    with np.errstate(invalid="ignore"):
        half = np.where(variance > 0, quantile(df, level) * np.sqrt(np.maximum(variance, 0)), 0.0)
    return value - half, value + half


def share_interval(value: Array, size: Array, df: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Low and high of shares from an effective sample of `size` posts (Wilson, 1927; Dean and Pagano, 2015).

    An infinite size is an exact figure.
    """
    share = np.clip(value, 0.0, 1.0)
    square = quantile(df, level) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = square / np.maximum(size, 1e-9)
        middle = (share + pull / 2) / (1 + pull)
        half = np.sqrt(pull * share * (1 - share) + pull**2 / 4) / (1 + pull)
    endless = ~np.isfinite(pull)
    low, high = np.where(endless, 0.0, middle - half), np.where(endless, 1.0, middle + half)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def difference_interval(
    a: tuple[float, float, float], b: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """Low and high of a - b from (value, low, high) of each and their correlation (MOVER; Zou and Donner, 2008).

    For symmetric intervals this is the usual one; those of shares near 0 or 1 keep their skewness.
    """
    gap = a[0] - b[0]
    below, above = a[0] - a[1], b[2] - b[0]
    low = gap - max(below**2 + above**2 - 2 * correlation * below * above, 0.0) ** 0.5
    up, down = a[2] - a[0], b[0] - b[1]
    high = gap + max(up**2 + down**2 - 2 * correlation * up * down, 0.0) ** 0.5
    return low, high


def ratio_interval(a: float, b: float, covariance: Array, critical: float) -> tuple[float, float] | None:
    """Low and high of a / b by Fieller's method (1954), `covariance` [2, 2]; None where b may be 0."""
    square = critical**2
    leading = b * b - square * covariance[1, 1]
    if leading <= 0:
        return None
    middle = a * b - square * covariance[0, 1]
    inside = middle**2 - leading * (a * a - square * covariance[0, 0])
    half = max(inside, 0.0) ** 0.5
    return (middle - half) / leading, (middle + half) / leading


def satterthwaite(variances: Sequence[Array], dfs: Sequence[Array]) -> Array:
    """Degrees of freedom of a sum of variances, each with its own (Satterthwaite, 1946); where all are 0 the first."""
    total, parts = np.asarray(sum(variances), dtype=float), np.zeros(())
    with np.errstate(divide="ignore", invalid="ignore"):
        for variance, df in zip(variances, dfs, strict=True):
            parts = parts + np.where(np.asarray(variance) > 0, np.asarray(variance) ** 2 / df, 0.0)
        return np.asarray(np.where(total > 0, total**2 / parts, dfs[0]))


def joint_level(largest: Array) -> float:
    """The level at which intervals hold at once in 95 of 100 samples, from draws of the largest of all |t|."""
    critical = float(np.nanquantile(largest, LEVEL))
    return level_of(max(critical, float(norm.ppf(0.5 + LEVEL / 2))))


def level_of(critical: float) -> float:
    """The two-sided level of a critical value on the normal scale, at which t and Wilson intervals are then taken."""
    return float(1 - 2 * norm.sf(critical))
