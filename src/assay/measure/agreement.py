"""How far two ratings of the same posts agree, with bootstrap intervals over posts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import krippendorff
import numpy as np
from sklearn.metrics import cohen_kappa_score

from assay.measure.found import Interval
from assay.targets import NAMES, NUMBER, Target, Value

RESAMPLES = 500


def agreement(first: Sequence[Value], second: Sequence[Value], target: Target, *, seed: int = 1) -> dict[str, Any]:
    """Agreement of two ratings a post, with 95 % intervals; `posts` is how many there are.

    Scores: Krippendorff's alpha (interval), ICC(2,1) for absolute agreement, mean absolute difference and
    mean difference (second - first). Classes: alpha (nominal; ordinal for ranks), Cohen's kappa (quadratic weights
    for ranks), share of equal answers. Labels:
    alpha (nominal) averaged over the labels that occur, share of equal label sets.
    """
    if len(first) < 2:
        return {"posts": len(first)}
    a, b = target.numbers(first), target.numbers(second)
    found = {name: interval(measure, [a, b], seed) for name, measure in _measures(target).items()}
    return {"posts": len(first), **found}


def interval(measure: Callable[..., float], columns: Sequence[np.ndarray], seed: int) -> Interval:
    """The measure of all rows, and the 2.5 and 97.5 % quantiles over resampled rows."""
    random, n = np.random.default_rng(seed), len(columns[0])
    draws = [measure(*(column[rows] for column in columns)) for rows in random.integers(0, n, (RESAMPLES, n))]
    kept = np.array(draws)[np.isfinite(draws)]
    low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) > RESAMPLES / 2 else (np.nan, np.nan)
    return Interval(value=_round(measure(*columns)), low=_round(low), high=_round(high))


def _round(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def alpha(ratings: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of raters x posts (nan: not rated); nan where all ratings are the same."""
    seen = ratings[np.isfinite(ratings)]
    if len(seen) == 0 or (seen == seen[0]).all():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(krippendorff.alpha(reliability_data=ratings, level_of_measurement=level))  # type: ignore[arg-type]


def icc(a: np.ndarray, b: np.ndarray) -> float:
    """ICC(2,1): two-way random effects, absolute agreement, one rating (Shrout and Fleiss, 1979)."""
    table = np.stack([a, b], axis=1)
    n, k = table.shape
    mean = table.mean()
    rows = k * ((table.mean(1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((table.mean(0) - mean) ** 2).sum() / (k - 1)
    rest = ((table - table.mean(1, keepdims=True) - table.mean(0) + mean) ** 2).sum() / ((n - 1) * (k - 1))
    total = rows + (k - 1) * rest + k * (columns - rest) / n
    return float((rows - rest) / total) if total > 0 else float("nan")


def _measures(target: Target) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    level = target.agreement_level
    if target.shape == NUMBER:
        return {
            "alpha": lambda a, b: alpha(np.stack([a, b]), level),
            "icc": icc,
            "mean_absolute_difference": lambda a, b: float(np.abs(a - b).mean()),
            "mean_difference": lambda a, b: float((b - a).mean()),
        }
    if target.shape == NAMES:
        return {"alpha": _label_alpha, "equal": lambda a, b: float((a == b).all(1).mean())}
    return {
        "alpha": lambda a, b: alpha(np.stack([a, b]), level),
        "kappa": lambda a, b: _kappa(a, b, "quadratic" if level == "ordinal" else None),
        "equal": lambda a, b: float((a == b).mean()),
    }


def _kappa(a: np.ndarray, b: np.ndarray, weights: str | None) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(a, b, weights=weights))


def _label_alpha(a: np.ndarray, b: np.ndarray) -> float:
    found = [alpha(np.stack([a[:, i], b[:, i]]), "nominal") for i in range(a.shape[1])]
    known = [one for one in found if np.isfinite(one)]
    return float(np.mean(known)) if known else float("nan")
