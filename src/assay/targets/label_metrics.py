"""Weighted metrics of multi-label predictions, and the thresholds at which a probability becomes a label.

As in `metrics`, weights W have shape [B, n] and every metric returns [B]; truth is 0/1 of shape [n, L],
probabilities are [n, L].
"""

from __future__ import annotations

import numpy as np

from assay.targets.weighted import auroc

Array = np.ndarray
GRID = np.round(np.arange(0.05, 0.951, 0.01), 2)
MOST_SHIFT = 30.0  # of logits
EXPECTED = 0.75  # the weight of a label's probability in what F1 is computed of, to choose a threshold


def label_metrics(y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
    """Macro and micro F1 at `thresholds` [L] and at 0.5, macro ROC-AUC, macro average precision, exact matches.

    Macro figures are means over the labels that are defined in a replicate: F1 where a label is true
    or predicted somewhere, AUC and precision where both truths occur.
    """
    found = per_label(y, p, w, thresholds)
    half = counts(y, decide(p, None), w)
    chosen = decide(p, thresholds)
    return {
        "f1_macro": _mean(found["f1"]),
        "f1_micro": _micro(found),
        "f1_macro_at_half": _mean(half["f1"]),
        "f1_micro_at_half": _micro(half),
        "auroc_macro": _mean(found["auroc"]),
        "average_precision": _mean(found["average_precision"]),
        "exact_match": w @ (chosen == (y > 0.5)).all(1) / w.sum(1),
    }


def per_label(y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
    """What `counts` gives at the thresholds, ROC-AUC and average precision of each label, [B, L] each."""
    labels = range(y.shape[1])
    return counts(y, decide(p, thresholds), w) | {
        "auroc": np.stack([auroc(y[:, k] > 0.5, p[:, k], w) for k in labels], axis=1),
        "average_precision": np.stack([average_precision(y[:, k] > 0.5, p[:, k], w) for k in labels], axis=1),
    }


def counts(y: Array, chosen: Array, w: Array) -> dict[str, Array]:
    """Support, predicted, hits, precision, recall and F1 of each label, [B, L]; chosen is bool [n, L].

    Recall and F1 are nan where no post has the label (F1: and none is predicted to have it).
    """
    truth, said = (y > 0.5).astype(float), chosen.astype(float)
    support, predicted, hits = w @ truth, w @ said, w @ (truth * said)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        recall = np.where(support > 0, hits / support, np.nan)
        f1 = np.where(support + predicted > 0, 2 * hits / (support + predicted), np.nan)
    return {
        "support": support,
        "predicted": predicted,
        "hits": hits,
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def decide(p: Array, thresholds: Array | None) -> Array:
    """Which labels hold: bool [n, L], probability at or above the threshold of the label, or of post and label (0.5
    where none is given).
    """
    return np.asarray(p >= (0.5 if thresholds is None else np.asarray(thresholds)))


def average_precision(positive: Array, score: Array, w: Array) -> Array:
    """Weighted average precision: the sum of recall steps times precision, from the highest score down.

    Equal scores form one step, as in scikit-learn. nan where no post has the label.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    weight, side = w[:, order], positive[order].astype(float)
    hits = np.cumsum(weight * side, axis=1)[:, ends]
    taken = np.cumsum(weight, axis=1)[:, ends]
    steps = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (steps * np.where(taken > 0, hits / taken, 0.0)).sum(1)
        return np.where(hits[:, -1] > 0, total / hits[:, -1], np.nan)


def fit_thresholds(y: Array, p: Array, weights: Array) -> Array:
    """For each label the threshold of 0.05 to 0.95 with the highest F1, [L]; 0.5 where no post has the label.

    What a post has counts by a quarter, and what its probability lets expect by three: a label of few posts then leaves
    less to chance (docs/results.md). Probabilities are shifted for that, in logits, to the label's weighted share. Of
    equally good thresholds the middle is taken, which moves least from sample to sample.
    """
    found = np.full(y.shape[1], 0.5)
    for k in range(y.shape[1]):
        truth = y[:, k] > 0.5
        if not truth.any():
            continue
        held = (1 - EXPECTED) * truth + EXPECTED * _shifted(p[:, k], weights, float(weights @ truth))
        chosen = p[:, k][None, :] >= GRID[:, None] - 1e-9
        hits, sizes = chosen @ (weights * held), chosen @ weights
        f1 = 2 * hits / (sizes + weights @ held)
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        found[k] = GRID[best[len(best) // 2]]
    return found


def _shifted(p: Array, weights: Array, wanted: float) -> Array:
    """Probabilities [n] whose logits are moved alike, so that their weighted sum is `wanted`."""
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    logits = logit(np.clip(p, 1e-6, 1 - 1e-6))

    def off(by: float) -> float:
        return float(weights @ expit(logits + by)) - wanted

    return np.asarray(expit(logits + (brentq(off, -MOST_SHIFT, MOST_SHIFT) if off(MOST_SHIFT) > 0 else MOST_SHIFT)))


def _mean(values: Array) -> Array:
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(1) / known.sum(1))


def _micro(found: dict[str, Array]) -> Array:
    hits, support, predicted = (found[name].sum(1) for name in ("hits", "support", "predicted"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(support + predicted > 0, 2 * hits / (support + predicted), np.nan)
