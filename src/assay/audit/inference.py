"""Intervals by bootstrap over activities, p-values by permuting groups within an activity, corrections, power.

The activity is the unit: images of one activity are alike, and what is found should hold for other
activities. All randomness comes from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from assay.audit.found import UNKNOWN, MeanTest
from assay.config import Statistics
from assay.measure.found import Interval


@dataclass(frozen=True)
class Draws:
    """Random numbers that all tests of one audit share: [B, n] bootstrap counts, [P, n] signs of -1 and 1."""

    weights: np.ndarray
    signs: np.ndarray

    @classmethod
    def of(cls, n: int, settings: Statistics, salt: int = 0) -> Draws:
        """For n units."""
        rng = np.random.default_rng([settings.seed, n, salt])
        weights = rng.multinomial(n, np.full(n, 1 / n), size=settings.bootstrap).astype(np.float32)
        signs = rng.integers(0, 2, size=(settings.permutations, n)).astype(np.float32) * 2 - 1
        return cls(weights, signs)


def p_value(found: float, permuted: np.ndarray, *, two_sided: bool = True) -> float:
    """The share of permutations at least as extreme, the observed one counted (Phipson and Smyth, 2010).

    Values within rounding of the observed one count as extreme.
    """
    if two_sided:
        found, permuted = abs(found), np.abs(permuted)
    slack = 1e-6 * max(abs(found), 1e-12)
    return float((1 + (permuted >= found - slack).sum()) / (1 + len(permuted)))


def percentile(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray, weights: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The bootstrap-t interval of a mean (Efron and Tibshirani, 1993, chapter 12), which holds for few units too."""
    n = len(values)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if sd <= 1e-9 * max(abs(mean), 1e-3):  # nothing but rounding
        return mean, mean
    means = weights @ values / n
    spread = np.sqrt(np.maximum(weights @ (values**2) / n - means**2, 0) * n / (n - 1))
    usable = spread > 1e-6 * sd
    if not usable.any():
        return mean, mean
    t = (means[usable] - mean) / (spread[usable] / np.sqrt(n))
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    return mean - float(high) * sd / np.sqrt(n), mean - float(low) * sd / np.sqrt(n)


def mean_test(values: np.ndarray, draws: Draws, settings: Statistics) -> MeanTest:
    """The mean of a difference per activity, with interval, sign-flip p-value, effect size and detectable effect.

    Swapping the two groups of an activity turns the sign of its difference, so under the null
    hypothesis that the words for the group change nothing all signs are equally likely. `effect` is the mean over the
    standard deviation (Cohen's d of paired differences). `reach` adds what can be found.
    """
    n = len(values)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    low, high = mean_interval(values, draws.weights)
    return {
        "value": mean,
        "low": low,
        "high": high,
        "p": p_value(mean, draws.signs @ values / n),
        "activities": n,
        "effect": mean / sd if sd else 0.0,
        "sd": sd,
    }


def reach(figure: MeanTest, tests: int, settings: Statistics) -> None:
    """Add to a figure of `mean_test` what it can find as one of so many tests.

    `detectable` is the smallest mean that this many activities find with `power`, by t quantiles, at `alpha` over the
    number of tests (Bonferroni, the first step of Holm); None where even the smallest p-value of so few sign flips,
    2 / 2^n, is too large. `needed`: how many activities the observed mean would take.
    """
    n, level = figure["activities"], settings.alpha if settings.correction == "none" else settings.alpha / tests
    if 2.0 ** (1 - min(n, 60)) >= level:
        figure["detectable"] = figure["needed"] = None
        return
    quantiles = float(student_t.ppf(1 - level / 2, n - 1) + student_t.ppf(settings.power, n - 1))
    figure["detectable"] = quantiles * figure["sd"] / float(np.sqrt(n))
    value = figure["value"] or 0.0
    small = abs(value) <= 1e-3 * figure["sd"]
    figure["needed"] = None if small else int(np.ceil((quantiles * figure["sd"] / value) ** 2))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> Interval:
    """Spearman's rho with the interval of Bonett and Wright (2000)."""
    from scipy.stats import spearmanr

    n = len(first)
    if n < 5 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return UNKNOWN.copy()
    rho = float(spearmanr(first, second).statistic)
    half = float(norm.ppf(0.975)) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    return {"value": rho, "low": float(np.tanh(z - half)), "high": float(np.tanh(z + half))}
