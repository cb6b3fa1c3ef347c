"""Makes predicted probabilities mean what they say, and says how far a score may be off."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar

FOLDS = 10  # of posts, by which scaling shows whether it helps
Ways = Callable[[np.ndarray], np.ndarray]  # rows that are fitted on -> losses of all rows


def temperature(y: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature that minimises the log loss of classes y [n] and probabilities [n, K].

    Guo et al. (2017). Bounded to [0.05, 20]; 1.0 where posts that it was not fitted on do not gain by it.
    """
    logits = np.log(np.clip(probabilities, 1e-12, 1))

    def losses(heat: float) -> np.ndarray:
        scaled = logits / heat
        scaled = scaled - scaled.max(1, keepdims=True)
        return np.asarray(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(y)), y])

    helps = _gain(losses(1.0), lambda rows: losses(_best(losses, rows))) > 0
    return _best(losses, np.arange(len(y))) if helps else 1.0


def label_scaling(y: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift [L] of the logits of labels y [n, L] with probabilities [n, L].

    Of each label by itself (Platt, 1999), one temperature for all (scale 1 / temperature, shift 0), or as they are
    (1, 0): whichever is best for posts that it was not fitted on.
    """
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    logits = np.log(clipped) - np.log1p(-clipped)

    def losses(scale: np.ndarray | float, shift: np.ndarray | float = 0.0) -> np.ndarray:
        scaled = logits * scale + shift
        return np.asarray((np.logaddexp(0, scaled) - y * scaled).mean(1))

    def heated(heat: float) -> np.ndarray:
        return losses(1 / heat)

    plain = losses(1.0)
    together = _gain(plain, lambda rows: heated(_best(heated, rows)))
    apart = _gain(plain, lambda rows: losses(*_platt(y[rows], logits[rows])))
    ones, zeros = np.ones(y.shape[1]), np.zeros(y.shape[1])
    if max(together, apart) <= 0:
        return ones, zeros
    rows = np.arange(len(y))
    return _platt(y, logits) if apart > together else (ones / _best(heated, rows), zeros)


def _gain(plain: np.ndarray, way: Ways) -> float:
    """By how much a way lowers the mean loss of posts left out; 0 where that is within a standard error.

    Posts are taken as independent.
    """
    posts = len(plain)
    if posts < 2 * FOLDS:
        return 0.0
    place = np.random.default_rng(0).permutation(posts) % FOLDS
    gain = np.zeros(posts)
    for number in range(FOLDS):
        left_out = place == number
        gain[left_out] = (plain - way(np.flatnonzero(~left_out)))[left_out]
    mean = float(gain.mean())
    return mean if mean > gain.std(ddof=1) / math.sqrt(posts) else 0.0


def _best(losses: Callable[[float], np.ndarray], rows: np.ndarray) -> float:
    bounds = math.log(0.05), math.log(20)
    found = minimize_scalar(lambda log_t: float(losses(math.exp(log_t))[rows].mean()), bounds=bounds, method="bounded")
    return float(math.exp(found.x))


def _platt(y: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each label, towards Platt's softened targets; (1, 0) of a label that all or no posts have."""
    scale, shift = np.ones(y.shape[1]), np.zeros(y.shape[1])
    for k in range(y.shape[1]):
        have = y[:, k] > 0.5
        more, fewer = int(have.sum()), int((~have).sum())
        if not more or not fewer:
            continue
        target = np.where(have, (more + 1) / (more + 2), 1 / (fewer + 2))
        z = logits[:, k]

        def loss(at: np.ndarray, z: np.ndarray = z, target: np.ndarray = target) -> tuple[float, np.ndarray]:
            grown = math.exp(at[0])
            scaled = z * grown + at[1]
            off = 1 / (1 + np.exp(-scaled)) - target
            slope = np.array([float((off * z).mean()) * grown, float(off.mean())])
            return float((np.logaddexp(0, scaled) - target * scaled).mean()), slope

        bounds = [(math.log(0.05), math.log(20)), (-20.0, 20.0)]
        found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
        scale[k], shift[k] = math.exp(found.x[0]), found.x[1]
    return scale, shift


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
