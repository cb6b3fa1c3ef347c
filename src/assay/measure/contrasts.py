"""Differences between groups of posts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from assay.measure import domains as groups
from assay.measure import intervals
from assay.measure.domains import Value
from assay.measure.estimate import Joint
from assay.measure.found import Difference
from assay.measure.frame import Frame
from assay.measure.metrics import UNKNOWN, Figure

WITHIN = "within all"


def differences(est: Frame, column: str, a: Value, b: Value, *, within: str | None, estimand: str) -> list[Difference]:
    """See estimator.Estimator.difference."""
    sides = est.groups(column)
    pair = sides.take([sides.at(a), sides.at(b)])
    outer = groups.everyone(est.n)
    if within:
        outer = outer.joined(est.groups(within))
    joint = est.over(estimand, groups.crossed(outer, pair)).joint
    low, high = joint.interval()
    rows = []
    for i, name in enumerate(outer.names):
        one, other = 2 * i, 2 * i + 1
        figure = UNKNOWN
        if joint.known[one] and joint.known[other]:
            first, second = ((float(joint.value[k]), float(low[k]), float(high[k])) for k in (one, other))
            edges = intervals.difference_interval(first, second, joint.correlation(one, other))
            figure = Figure(first[0] - second[0], *edges)
        labels = [int(joint.labels[one]), int(joint.labels[other])]
        rows.append(_row(name, figure, labels=labels))
    if within:
        rows.insert(1, _within_all(joint, len(outer)))
    return rows


def _within_all(joint: Joint, count: int) -> Difference:
    """The mean of differences within groups, weighted by the groups' posts, where both sides are known."""
    kept = [i for i in range(1, count) if joint.known[2 * i] and joint.known[2 * i + 1]]
    weights = np.array([joint.posts[2 * i] + joint.posts[2 * i + 1] for i in kept], dtype=float)
    figure = UNKNOWN
    if kept:
        contrast = np.zeros(len(joint.value))
        contrast[[2 * i for i in kept]] = weights / weights.sum()
        contrast[[2 * i + 1 for i in kept]] = -weights / weights.sum()
        figure = joint.contrast(contrast, min(sum(joint.df[2 * i + side] for i in kept) for side in (0, 1)))
    return _row(WITHIN, figure, groups=len(kept))


def _row(name: str, figure: Figure, **more: Any) -> Difference:
    return cast(Difference, {"name": name, **more, **figure.rounded(), "decided": figure.leaves_zero_out})
