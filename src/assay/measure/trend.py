"""How an estimate moves over periods, and whether the student's error moves with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import DataError
from assay.measure.domains import FORMATS
from assay.measure.estimate import Joint, estimate
from assay.measure.found import Named
from assay.measure.frame import Frame
from assay.measure.metrics import Figure
from assay.measure.ranking import simultaneous

LEAST = 3  # periods with labels enough


@dataclass(frozen=True)
class Trend:
    """Estimates by period, in order; intervals hold all at once."""

    names: list[str]
    figures: list[Figure]
    slope: Figure  # change of the estimate a period, by least squares over the periods
    drift: Figure  # the same of label minus prediction: where its interval leaves 0 out, the student ages

    def rows(self) -> list[Named]:
        """One dict a period: name, value, low, high."""
        return [Named(name=n, **figure.rounded()) for n, figure in zip(self.names, self.figures, strict=True)]

    def words(self) -> str:
        """What is decided, in a sentence."""
        moves = "rises" if self.slope.low > 0 else "falls" if self.slope.high < 0 else "does not decidedly move"
        ages = self.drift.leaves_zero_out
        said = "the student's error drifts with it; label newer posts" if ages else "no drift of its error is seen"
        return f"over {len(self.names)} periods the figure {moves}; {said}"


def trend(est: Frame, by: str, *, estimand: str) -> Trend:
    """Estimates by month or year; DataError where fewer than three periods have labels enough."""
    if by not in FORMATS:
        raise DataError(f"a trend is by {' or '.join(FORMATS)}, not by {by!r}")
    groups = est.groups(by)
    joint = est.over(estimand, groups).joint
    kept = np.flatnonzero(joint.known)
    if len(kept) < LEAST:
        raise DataError(f"only {len(kept)} periods have labels enough, a trend needs {LEAST}; label more posts")
    low, high = simultaneous(joint, kept)
    figures = [Figure(float(joint.value[k]), float(a), float(b)) for k, a, b in zip(kept, low, high, strict=True)]
    y, f, _ = est.frame(estimand)
    error = y - f[est.design.rows]
    off = estimate(est.design, groups.members, error, np.zeros(est.n), are_shares=False, bounds=(-np.inf, np.inf))
    names = [groups.names[k] for k in kept]
    times = _months(names) if by == "month" else np.array([float(name) for name in names])
    return Trend(names, figures, _slope(joint, kept, times), _slope(off, kept, times))


def _months(names: list[str]) -> np.ndarray:
    return np.array([12.0 * int(name[:4]) + int(name[5:]) for name in names])


def _slope(joint: Joint, kept: np.ndarray, times: np.ndarray) -> Figure:
    contrast = np.zeros(len(joint.value))
    contrast[kept] = (times - times.mean()) / ((times - times.mean()) ** 2).sum()
    return joint.contrast(contrast, float(joint.df[kept].sum()))
