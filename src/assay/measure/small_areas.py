"""Small groups: estimates that borrow strength from the other groups, where a group's own labels are too few.

Fay and Herriot's model (1979) of small-area estimation: what the student misses of a group, D = theta - lambda mean(f),
is drawn around a line in its mean prediction, with a spread that all groups tell together,

    D_d ~ N(b0 + b1 mean(f)_d, A + s_d^2 / N_d),   its estimate from n_d labels ~ N(D_d, (1 - n_d / N_d) s_d^2 / n_d)

so that a group with many labels keeps its own figure, and one with none gets the student's, shifted as the others are,
with an interval as wide as groups differ. The spread A has a flat prior and is integrated out (Datta, Rao and Smith,
2005), coefficients too; residual variances are those within groups, drawn to the pooled one.

Intervals hold on average over groups, not of each: a group that is unlike all others is drawn to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import norm

from assay.errors import DataError
from assay.measure.domains import Domains
from assay.measure.found import Lent
from assay.measure.frame import Frame
from assay.measure.metrics import UNKNOWN, Figure

Array = np.ndarray
LEAST_GROUPS = 10  # groups with two labels or more, below which their spread is not known
PULL = 20.0  # labels that the pooled residual variance counts for beside a group's own
GRID = 80  # values of the spread


@dataclass(frozen=True)
class Borrowed:
    """Estimates of groups, by name, that rest on their own labels and on those of the other groups."""

    names: list[str]
    value: Array  # [D]
    low: Array
    high: Array
    own: Array  # [D], 0 to 1: how much of what the student misses is told by the group's own labels
    labels: Array  # int [D]
    posts: Array  # int [D]
    spread: float  # the standard deviation of what the student misses, between groups

    def figure(self, number: int) -> Figure:
        """One estimate with its interval; nan for a group without posts."""
        figure = Figure(float(self.value[number]), float(self.low[number]), float(self.high[number]))
        return figure if np.isfinite(figure.value) else UNKNOWN

    def rows(self) -> list[Lent]:
        """One dict a group: name, posts, labels, value, low, high and own."""
        told = zip(self.names, self.posts, self.labels, self.own, strict=True)
        return [
            Lent(name=name, posts=int(n), labels=int(m), **self.figure(i).rounded(), own=round(float(own), 3))
            for i, (name, n, m, own) in enumerate(told)
        ]


def borrowed(est: Frame, domains: Domains, estimand: str) -> Borrowed:
    """Estimates of all groups of `domains`; groups should not overlap much.

    DataError where labels do not tell how much groups differ (fewer than 10 groups have two labels), or the figures are
    about posts like these, whose authors this model does not know.
    """
    if est.of != "these_posts":
        raise DataError("small groups borrow strength for these posts only; set report.target to these_posts")
    y, f, learnt = est.frame(estimand)
    members = domains.members.astype(float)
    posts = np.asarray(members.sum(1))
    offset, part = np.zeros(len(posts)), np.ones(len(posts))
    if est.design.learnt is not None:
        offset = members @ np.where(est.design.learnt, learnt, 0) / np.maximum(posts, 1)
        members = (members @ sparse.diags_array((~est.design.learnt).astype(float))).tocsr()
        part = np.asarray(members.sum(1)) / np.maximum(posts, 1)
    own = _Own.of(members, est.design.rows, est.design.weight, y, f, est.trust(estimand))
    mean, variance, weight, spread = _posterior(own)
    half = float(norm.ppf(0.975)) * np.sqrt(variance)
    bounds = (0.0, 1.0) if est.task.is_share(estimand) else est.task.bounds

    def shown(edge: Array) -> Array:
        return np.where(posts > 0, offset + part * np.clip(own.guess + mean + edge, *bounds), np.nan)

    return Borrowed(
        domains.names,
        value=shown(np.zeros(len(posts))),
        low=shown(-half),
        high=shown(half),
        own=weight,
        labels=own.labels.astype(int),
        posts=posts.astype(int),
        spread=spread,
    )


@dataclass(frozen=True)
class _Own:
    """What each group's own posts and labels say."""

    guess: Array  # lambda times the mean prediction [D]
    missed: Array  # the mean of label - lambda prediction over labelled posts [D]; 0 without labels
    size: Array  # effective labels [D]
    labels: Array  # [D]
    posts: Array  # [D]
    residual: Array  # the variance of label - lambda prediction within the group [D]

    @classmethod
    def of(cls, members: Any, rows: Array, w: Array, y: Array, f: Array, trust: float) -> _Own:
        inside = members[:, rows]
        posts, labels = np.asarray(members.sum(1)), np.asarray(inside.sum(1))
        total, squares = inside @ w, inside @ w**2
        r = y - trust * f[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = np.nan_to_num(trust * (members @ f) / posts)
            missed = np.nan_to_num((inside @ (w * r)) / total)
            size = np.nan_to_num(total**2 / squares)
            within = np.maximum(np.nan_to_num((inside @ (w * r**2)) / total) - missed**2, 0)
        if int((labels >= 2).sum()) < LEAST_GROUPS:
            raise DataError(
                f"{int((labels >= 2).sum())} groups have two labels or more; {LEAST_GROUPS} are needed to tell how "
                "much groups differ"
            )
        several = size > 1
        squared = within * np.where(several, size, 0)
        pooled = float(squared.sum() / np.maximum((size - 1)[several].sum(), 1e-9))
        residual = (squared + PULL * pooled) / (np.where(several, size - 1, 0) + PULL)
        return cls(guess, missed, size, labels, posts, np.maximum(residual, 1e-12))


def _posterior(own: _Own) -> tuple[Array, Array, Array, float]:
    """Mean and variance of what the student misses of each group, the weight of its own labels, and the spread."""
    known = own.size > 0
    left = np.clip(1 - own.labels / np.maximum(own.posts, 1), 0, 1)
    with np.errstate(divide="ignore"):
        error = np.where(known, left * own.residual / np.where(known, own.size, 1), np.inf)
    finite = own.residual / np.maximum(own.posts, 1)
    x = np.column_stack([np.ones(len(own.guess)), own.guess])
    if np.ptp(own.guess[known]) < 1e-9:
        x = x[:, :1]
    grid = _grid(own.missed[known], own.size[known])
    logs, means, variances, weights = [], [], [], []
    for spread in grid:
        prior = spread + finite
        total = prior[known] + error[known]
        scaled = x[known] / total[:, None]
        information = x[known].T @ scaled
        inverse = np.linalg.inv(information)
        line = inverse @ (scaled.T @ own.missed[known])
        off = own.missed[known] - x[known] @ line
        logs.append(-0.5 * (np.log(total).sum() + np.linalg.slogdet(information)[1] + (off**2 / total).sum()))
        with np.errstate(invalid="ignore"):
            weight = np.where(known, prior / (prior + error), 0.0)
        expected = x @ line
        of_line = np.einsum("di,ij,dj->d", x, inverse, x)
        means.append(expected + weight * np.where(known, own.missed - expected, 0))
        variances.append((1 - weight) * prior + (1 - weight) ** 2 * of_line)
        weights.append(weight)
    chance = np.exp(np.array(logs) - max(logs)) * np.gradient(grid)
    chance /= chance.sum()
    mean = chance @ np.array(means)
    variance = chance @ (np.array(variances) + (np.array(means) - mean) ** 2)
    return mean, variance, chance @ np.array(weights), float(chance @ grid) ** 0.5


def _grid(missed: Array, size: Array) -> Array:
    """Values of A from 0 to well above what there can be, denser where small."""
    weight = np.sqrt(size)
    scale = float(np.average((missed - np.average(missed, weights=weight)) ** 2, weights=weight))
    return np.asarray(5 * max(scale, 1e-12) * np.linspace(0, 1, GRID) ** 2)
