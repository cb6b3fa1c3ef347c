"""The student's figure by slice of the judged posts, with counts and intervals, and the slice where it is worst.

Slices are small and many: an interval by quantiles of a bootstrap is too narrow for twenty posts, and the worst of
twelve slices is the worst also by luck. So an interval is Student's t on as many degrees of freedom as the slice has
effective leakage groups, on the scale where the figure is symmetric (Wilson's for shares, the logarithm for errors);
`joint_low` and `joint_high` hold for all slices at once, by the largest of their bootstrap deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame

from assay.measure import intervals
from assay.measure.judged import Judged, rows_of
from assay.measure.metrics import UNKNOWN as NOTHING
from assay.measure.metrics import Figure
from assay.targets import Metric, Target

UNKNOWN = "(unknown)"
WIDEST = float(np.log(100))  # an interval of an error that reaches further than a hundred times it is none
PULL = 10.0  # posts that speak for a design effect of 1


@dataclass(frozen=True)
class _Slice:
    """One slice: its headline figure plain and in bootstrap replicates, and how much it rests on."""

    values: np.ndarray  # [1 + B]
    posts: int
    groups: float  # effective leakage groups
    held: np.ndarray | None  # bool [posts]
    weights: np.ndarray  # [posts]
    group: np.ndarray  # [posts]

    @property
    def error(self) -> float:
        drawn = self.values[1:][np.isfinite(self.values[1:])]
        correction = self.groups / max(self.groups - 1, 1e-9)
        return float(drawn.std() * correction**0.5) if len(drawn) > 1 and self.groups > 1 else np.nan


def by_slice(test: Judged, target: Target, w: np.ndarray, *, smallest: int) -> dict[str, Any]:
    """For each column of `test.slices`: the headline figure of every value with at least `smallest` posts, and how
    often the interval or set of a post holds its label there (`held`).

    `w` holds weights and bootstrap replicates [1 + B, n]. A post with several values (brands) counts
    for each. `worst` names the slice whose figure is worst of all, among those whose interval is known.
    """
    metric = target.metrics[0]
    slices: dict[tuple[str, str], _Slice] = {}
    few: dict[str, int] = {}
    for column, values in test.slices.items():
        pairs = [(i, name) for i, value in enumerate(values) for name in _names(value)]
        counts = pd.Series([name for _, name in pairs], dtype=object).value_counts()
        shown = set(counts[counts >= smallest].index)
        kept = [pair for pair in pairs if pair[1] in shown]
        if not kept:
            continue
        rows = [i for i, _ in kept]
        frame = MetricFrame(
            metrics={"slice": lambda at, _: _slice(test, target, w, np.asarray(at))},
            y_true=rows,
            y_pred=rows,
            sensitive_features=pd.DataFrame({column: [name for _, name in kept]}),
        )
        slices |= {(column, str(name)): frame.by_group["slice"][name] for name in sorted(shown)}
        few[column] = int(counts[counts < smallest].sum())
    level = _level(list(slices.values()))
    found: dict[str, Any] = {"figure": metric.name, "by": {column: {} for column in few}}
    for (column, name), one in slices.items():
        own, joint = (_figure(one, metric, at).rounded() for at in (intervals.LEVEL, level))
        told = {"n": one.posts, **own, "joint_low": joint["low"], "joint_high": joint["high"]}
        found["by"][column][name] = told | ({} if one.held is None else {"held": _held(one).rounded()})
    for column, n in few.items():
        found["by"][column] |= {"(too few)": {"n": n}} if n else {}
    found["worst"] = _worst(found["by"], higher=metric.higher)
    return found


def _slice(test: Judged, target: Target, w: np.ndarray, at: np.ndarray) -> _Slice:
    cuts = rows_of(test.thresholds.get("student"), at)
    values = target.figures(test.y[at], test.student[at], w[:, at], cuts)[target.headline]
    weights, group = test.weights[at], np.unique(test.group[at], return_inverse=True)[1]
    held = None if test.held is None else test.held[at]
    return _Slice(np.asarray(values), len(at), _effective(weights, group), held, weights, group)


def _effective(weights: np.ndarray, group: np.ndarray) -> float:
    """Leakage groups, by Kish's formula over their weights."""
    sums = np.bincount(group, weights)
    return float(sums.sum() ** 2 / (sums**2).sum())


def _level(slices: list[_Slice]) -> float:
    """The two-sided level at which the intervals of all slices hold at once in 95 of 100 samples."""
    known = [one for one in slices if np.isfinite(one.error) and one.error > 0]
    if not known:
        return intervals.LEVEL
    largest = np.nanmax([np.abs(one.values[1:] - np.nanmean(one.values[1:])) / one.error for one in known], axis=0)
    return intervals.joint_level(largest)


def _figure(one: _Slice, metric: Metric, level: float) -> Figure:
    value, error, df = float(one.values[0]), one.error, np.array(one.groups - 1)
    if not np.isfinite(value) or not np.isfinite(error):
        return NOTHING._replace(value=value)
    if metric.is_share:
        return _share(value, error**2, one, level)
    half = float(intervals.quantile(df, level)) * error
    if not metric.higher and value > 0:
        if half / value > WIDEST:  # of one or two leakage groups, which know nothing of others
            return NOTHING._replace(value=value)
        return Figure(value, value * float(np.exp(-half / value)), value * float(np.exp(half / value)))
    return Figure(value, value - half, value + half)


def _share(value: float, variance: float, one: _Slice, level: float) -> Figure:
    """Wilson's interval on an effective number of groups; where nearly all posts agree, their variance says little, and
    the design effect is drawn to 1.
    """
    spread = value * (1 - value)
    many = one.posts * min(value, 1 - value)
    own = variance * one.groups / spread if spread > 0 else 1.0
    design = (many * own + PULL) / (many + PULL)
    size, df = np.array(one.groups / max(design, 1e-9)), np.array(one.groups - 1)
    low, high = intervals.share_interval(np.array(value), size, df, level)
    return Figure(value, float(low), float(high))


def _held(one: _Slice) -> Figure:
    """How often the interval or set of a post holds its label, with its interval."""
    assert one.held is not None
    share = one.weights / one.weights.sum()
    value = float(share @ one.held)
    by_group = np.bincount(one.group, share * (one.held - value))
    variance = float((by_group**2).sum()) * one.groups / max(one.groups - 1, 1e-9)
    return _share(value, variance, one, intervals.LEVEL) if one.groups > 1 else NOTHING._replace(value=value)


def _names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value] or ["none"]
    return [UNKNOWN if value is None or value == "" else str(value)]


def _worst(by: dict[str, Any], *, higher: bool) -> dict[str, Any] | None:
    sign = 1 if higher else -1
    known = [
        {"column": column, "slice": name, **figures}
        for column, rows in by.items()
        if len([1 for figures in rows.values() if figures.get("low") is not None]) > 1
        for name, figures in rows.items()
        if figures.get("low") is not None
    ]
    return min(known, key=lambda row: sign * row["value"], default=None)
