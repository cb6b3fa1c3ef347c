"""Makes predicted probabilities mean what they say, and says how far a score may be off."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

FOLDS = 10  # of posts, by which a temperature shows whether it helps
Losses = Callable[[float, np.ndarray], np.ndarray]  # temperature and rows -> a loss for each of the rows


def temperature(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature that minimises the log loss of classes y [n] and probabilities [n, K].

    Guo et al. (2017). Bounded to [0.05, 20]; 1.0 where posts that it was not fitted on do not gain by it.
    """
    logits = np.log(np.clip(probabilities, 1e-12, 1))

    def losses(heat: float, rows: np.ndarray) -> np.ndarray:
        scaled = logits[rows] / heat
        scaled = scaled - scaled.max(1, keepdims=True)
        return np.asarray(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(rows)), y[rows]])

    return _kept(losses, len(y))


def label_temperature(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature that minimises the log loss of labels y [n, L] and probabilities [n, L]; as above."""
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    logits = np.log(clipped) - np.log1p(-clipped)

    def losses(heat: float, rows: np.ndarray) -> np.ndarray:
        scaled = logits[rows] / heat
        return np.asarray((np.logaddexp(0, scaled) - y[rows] * scaled).mean(1))

    return _kept(losses, len(y))


def _kept(losses: Losses, posts: int) -> float:
    """The best temperature, or 1 where it does not lower the loss of posts left out by more than a standard error.

    Posts are taken as independent.
    """
    if posts < 2 * FOLDS:
        return 1.0
    place = np.random.default_rng(0).permutation(posts) % FOLDS
    gain = np.zeros(posts)
    for number in range(FOLDS):
        rows = np.flatnonzero(place == number)
        gain[rows] = losses(1.0, rows) - losses(_best(losses, np.flatnonzero(place != number)), rows)
    if gain.mean() <= gain.std(ddof=1) / math.sqrt(posts):
        return 1.0
    return _best(losses, np.arange(posts))


def _best(losses: Losses, rows: np.ndarray) -> float:
    bounds = math.log(0.05), math.log(20)
    found = minimize_scalar(lambda log_t: float(losses(math.exp(log_t), rows).mean()), bounds=bounds, method="bounded")
    return float(math.exp(found.x))


def residual_quantile(
    y: np.ndarray, predicted: np.ndarray, coverage: float = 0.9, *, weights: np.ndarray | None = None
) -> float | None:
    """Half the width of a conformal interval: the smallest |y - predicted| [n] that `coverage` of the posts are within.

    Split conformal (Lei et al., 2018). `weights` [n] are inverse inclusion probabilities, by which a sample with more
    hard posts than the corpus is told from it (Tibshirani et al., 2019); a new post weighs as much as the mean one.
    None where there are too few posts for that coverage.
    """
    apart = np.abs(np.asarray(y, float) - predicted)
    w = np.ones(len(apart)) if weights is None else np.asarray(weights, float)
    order = np.argsort(apart, kind="stable")
    along = np.cumsum(w[order])
    wanted = coverage * (along[-1] + w.mean()) if len(w) else np.inf
    at = int(np.searchsorted(along, wanted * (1 - 1e-12))) if len(w) else 0
    return float(apart[order[at]]) if at < len(w) else None


def expected_calibration_error(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, bins: int = 10) -> float:
    """The weighted mean distance of confidence and accuracy over equal-width bins (Naeini et al., 2015).

    Of classes y [n]: the confidence in the chosen class. Of labels y [n, L]: each label's probability
    against how often it is true, averaged over labels.
    """
    if y.ndim == 2:
        columns = range(y.shape[1])
        return float(np.mean([_binned(probabilities[:, k], y[:, k] > 0.5, weights, bins) for k in columns]))
    return _binned(probabilities.max(1), probabilities.argmax(1) == y, weights, bins)


def _binned(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, bins: int) -> float:
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for number in range(bins):
        inside = where == number
        if inside.any():
            total += abs(float((weights[inside] * (right[inside] - confidence[inside])).sum()))
    return total / float(weights.sum())
