"""How many labels a width needs, from what the labels so far say of the student."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from assay.errors import DataError
from assay.measure.frame import Frame

FEWEST = 20


@dataclass(frozen=True)
class Needed:
    """A plan: labels for a 95 % interval of a width."""

    width: float
    width_now: float
    labels_now: int
    labels: int | None  # in all; None: not even by labelling every post
    without_student: int | None
    correlation: tuple[float, float]  # of labels and predictions: what it is, and the low end that was planned with

    @property
    def more(self) -> int | None:
        """How many more labels."""
        return None if self.labels is None else max(0, self.labels - self.labels_now)


def needed(est: Frame, width: float, *, estimand: str) -> Needed:
    """Labels of a random sample for an interval of `width` (high - low) of an estimand over all posts.

    The variance of the labels that the student does not tell, 1 - rho^2 of it, at the low end of rho's 95 % interval
    (Fisher, 1915), so that a plan made from few labels is not a hope; posts that are labelled already count. DataError
    for a width that is not above 0, or where too few labels are there to plan by.
    """
    if not width > 0:
        raise DataError(f"width {width:g} must be above 0: it is high less low of the interval")
    y, f, _ = est.frame(estimand)
    rows, w = est.design.rows, est.design.weight
    if len(rows) < FEWEST:
        raise DataError(f"{len(rows)} labels are too few to plan by; label {FEWEST} posts first")
    g, share = f[rows], w / w.sum()
    y_off, f_off = y - share @ y, g - share @ g
    spread = float(share @ y_off**2) * len(y) / (len(y) - 1)
    norms = float((share @ y_off**2) * (share @ f_off**2)) ** 0.5
    rho = float(np.clip(share @ (y_off * f_off) / norms, 0, 0.999)) if norms > 0 else 0.0
    effective = float(w.sum() ** 2 / (w**2).sum())
    low = max(0.0, float(np.tanh(np.arctanh(rho) - norm.ppf(0.975) / max(effective - 3, 1) ** 0.5)))
    now = est.of_groups(estimand).figure(0)
    clustered = _design_effect(est, estimand)
    with_student = _labels(est, width, spread * (1 - low**2) * clustered)
    return Needed(
        width, now.high - now.low, len(rows), with_student, _labels(est, width, spread * clustered), (rho, low)
    )


def _labels(est: Frame, width: float, variance: float) -> int | None:
    """The size n of a random sample with 2 x 1.96 sqrt(variance / n (1 - n / N)) = width."""
    square = (2 * float(norm.ppf(0.975)) / width) ** 2 * variance
    if est.of == "these_posts":
        return int(np.ceil(square / (1 + square / est.n)))
    return int(np.ceil(square)) if square <= est.n else None


def _design_effect(est: Frame, estimand: str) -> float:
    """How much more the labels vary than independent ones of a random sample; at least 1."""
    joint = est.of_groups(estimand).joint
    y, _, _ = est.frame(estimand)
    share = est.design.weight / est.design.weight.sum()
    plain = float(share @ (y - share @ y) ** 2) / len(y)
    left = float(joint.left[0]) if est.of == "these_posts" else 1.0
    return max(1.0, float(joint.plain_variance[0]) / (plain * left)) if plain * left > 0 else 1.0
