"""Weighted measures of order: Spearman correlation and area under the ROC curve, for many weightings at once."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def spearman(y: Array, p: Array, w: Array) -> Array:
    """Weighted Spearman correlation: Pearson of weighted mid-ranks; nan where either is constant."""
    total = w.sum(1, keepdims=True)
    return _correlation(_midranks(y, w) / total, _midranks(p, w) / total, w)  # in [0, 1], whatever the weights


def pearson(y: Array, p: Array, w: Array) -> Array:
    """Weighted Pearson correlation; nan where either is constant."""
    scale = max(float(np.abs(y).max(initial=0.0)), float(np.abs(p).max(initial=0.0)), 1e-300)
    return _correlation(np.broadcast_to(y / scale, w.shape), np.broadcast_to(p / scale, w.shape), w)


def _correlation(a: Array, b: Array, w: Array) -> Array:
    """Of values [B, n] of at most 1, with weights [B, n]."""
    total = w.sum(1, keepdims=True)
    a = a - (w * a).sum(1, keepdims=True) / total
    b = b - (w * b).sum(1, keepdims=True) / total
    both = (w * a * b).sum(1)
    norm = np.sqrt((w * a * a).sum(1) * (w * b * b).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 1e-9 * total[:, 0], both / norm, np.nan)


def _midranks(values: Array, w: Array) -> Array:
    """Weight below plus half the weight of ties, [B, n]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    tied = np.add.reduceat(w[:, order], starts, axis=1)
    middle = np.cumsum(tied, axis=1) - tied / 2
    of = np.searchsorted(starts, np.arange(len(values)), side="right") - 1
    ranks = np.empty(w.shape)
    ranks[:, order] = middle[:, of]
    return ranks


def auroc(positive: Array, score: Array, w: Array) -> Array:
    """Weighted area under the ROC curve, ties counted half; nan where a side is empty."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weight, side = w[:, order], positive[order].astype(float)
    above = np.add.reduceat(weight * side, starts, axis=1)
    below = np.add.reduceat(weight * (1 - side), starts, axis=1)
    beaten = np.cumsum(below, axis=1) - below / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = above.sum(1) * below.sum(1)
        return np.where(pairs > 0, (above * beaten).sum(1) / pairs, np.nan)
