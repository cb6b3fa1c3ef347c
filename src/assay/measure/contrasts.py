"""Differences between groups of posts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from assay.measure import domains as groups
from assay.measure import intervals
from assay.measure.domains import Domains, Value
from assay.measure.estimate import Joint
from assay.measure.frame import Frame
from assay.measure.metrics import Figure

WITHIN = "within all"


def differences(
    est: Frame, column: str, a: Value, b: Value, *, within: str | None, estimand: str
) -> list[dict[str, Any]]:
    """See estimator.Estimator.difference."""
    sides = est.groups(column)
    pair = sides.take([sides.at(a), sides.at(b)])
    outer = groups.everyone(est.n)
    if within:
        inner = est.groups(within)
        outer = Domains(outer.names + inner.names, sparse.csr_array(sparse.vstack([outer.members, inner.members])))
    joint = est.over(estimand, groups.crossed(outer, pair)).joint
    low, high = joint.interval()
    rows = []
    for i, name in enumerate(outer.names):
        one, other = 2 * i, 2 * i + 1
        row: dict[str, Any] = {"name": name, "labels": [int(joint.labels[one]), int(joint.labels[other])]}
        if joint.known[one] and joint.known[other]:
            first, second = ((float(joint.value[k]), float(low[k]), float(high[k])) for k in (one, other))
            edges = intervals.difference_interval(first, second, joint.correlation(one, other))
            figure = Figure(first[0] - second[0], *edges)
        else:
            figure = Figure(np.nan, np.nan, np.nan)
        rows.append(row | figure.rounded() | {"decided": bool(figure.low > 0 or figure.high < 0)})
    if within:
        rows.insert(1, _within_all(joint, len(outer)))
    return rows


def _within_all(joint: Joint, count: int) -> dict[str, Any]:
    """The mean of differences within groups, weighted by the groups' posts, where both sides are known."""
    kept = [i for i in range(1, count) if joint.known[2 * i] and joint.known[2 * i + 1]]
    weights = np.array([joint.posts[2 * i] + joint.posts[2 * i + 1] for i in kept], dtype=float)
    row: dict[str, Any] = {"name": WITHIN, "groups": len(kept)}
    if not kept:
        return row | Figure(np.nan, np.nan, np.nan).rounded() | {"decided": False}
    weights /= weights.sum()
    contrast = np.zeros(len(joint.value))
    contrast[[2 * i for i in kept]], contrast[[2 * i + 1 for i in kept]] = weights, -weights
    mixed = sparse.csr_array(contrast[None, :]) @ joint.influence
    variance = float(joint.chance.products(mixed, mixed)[0])
    df = float(min(sum(joint.df[2 * i + side] for i in kept) for side in (0, 1)))
    value = float(contrast @ np.nan_to_num(joint.value))
    low, high = intervals.mean_interval(np.array(value), np.array(variance), np.array(df))
    figure = Figure(value, float(low), float(high))
    return row | figure.rounded() | {"decided": bool(figure.low > 0 or figure.high < 0)}
