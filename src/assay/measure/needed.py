"""How many labels a width needs, from what the labels so far say of the student."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from assay.errors import DataError
from assay.measure.contrasts import differences
from assay.measure.domains import Value
from assay.measure.frame import Frame
from assay.measure.metrics import Figure
from assay.measure.people import people

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
    coded_now: int = 0  # posts that people coded
    coded: int | None = None  # that people must code for this width of what they would say; None: not to be had so

    @property
    def more(self) -> int | None:
        """How many more labels."""
        return None if self.labels is None else max(0, self.labels - self.labels_now)


def needed(est: Frame, width: float, *, estimand: str, between: tuple[str, Value, Value] | None = None) -> Needed:
    """Labels of a random sample for an interval of `width` (high - low) of an estimand over all posts, or of its
    difference `between` posts of two values of a column.

    The variance of the labels that the student does not tell, 1 - rho^2 of it, at the low end of rho's 95 % interval
    (Fisher, 1915), so that a plan made from few labels is not a hope; posts that are labelled already count. DataError
    for a width that is not above 0, or where too few labels are there to plan by.
    """
    if not width > 0:
        raise DataError(f"width {width:g} must be above 0: it is high less low of the interval")
    if len(est.design.rows) < FEWEST:
        raise DataError(f"{len(est.design.rows)} labels are too few to plan by; label {FEWEST} posts first")
    rho, low, spread = _correlation(est, estimand)
    labels = len(est.design.rows)
    if between is not None:
        row = differences(est, *between, within=None, estimand=estimand)[0]
        if row["value"] is None:
            raise DataError(f"too few labels of both {between[0]} {between[1]} and {between[2]} to plan by")
        now = Figure.of(row).width
        careful = ((1 - low**2) / max(1 - rho**2, 1e-9)) ** 0.5
        one, other = (_side(est, estimand, between[0], value) for value in between[1:])
        plans = (_scaled(est, now * careful, width), _scaled(est, float(np.hypot(one, other)), width))
        return Needed(width, now, labels, *plans, (rho, low))
    found = est.of_groups(estimand)
    figure = found.figure(0)
    clustered = _design_effect(est, estimand)
    plans = (
        _labels(est, width, spread * (1 - low**2) * clustered),
        _labels(est, width, spread * clustered),
    )
    return Needed(width, figure.high - figure.low, labels, *plans, (rho, low), *_coded(est, estimand, width))


def _correlation(est: Frame, estimand: str) -> tuple[float, float, float]:
    """Of labels and predictions, its low end, and the variance of the labels."""
    y, f, _ = est.frame(estimand)
    w, g = est.design.weight, f[est.design.rows]
    share = w / w.sum()
    y_off, f_off = y - share @ y, g - share @ g
    spread = float(share @ y_off**2) * len(y) / (len(y) - 1)
    if spread < 1e-12:  # all alike so far: not all there are
        if not est.task.is_share(estimand):
            raise DataError("all labels so far are the same: there is nothing to plan by; label more posts")
        smoothed = (float(y.sum()) + 2) / (len(y) + 4)
        spread = smoothed * (1 - smoothed)
    norms = float((share @ y_off**2) * (share @ f_off**2)) ** 0.5
    rho = float(np.clip(share @ (y_off * f_off) / norms, 0, 0.999)) if norms > 0 else 0.0
    effective = float(w.sum() ** 2 / (w**2).sum())
    low = max(0.0, float(np.tanh(np.arctanh(rho) - norm.ppf(0.975) / max(effective - 3, 1) ** 0.5)))
    return rho, low, spread


def _side(est: Frame, estimand: str, column: str, value: Value) -> float:
    """The width of one side of a difference, from the labels alone."""
    figure = est.over(estimand, est.groups(column).take([est.groups(column).at(value)])).figure(0, plain=True)
    return figure.high - figure.low


def _scaled(est: Frame, now: float, width: float) -> int | None:
    """Labels in all for a width, from the width that today's labels give: its square goes with 1 / n (- 1 / N)."""
    whole = 1 / est.n if est.of == "these_posts" else 0.0
    today = 1 / len(est.design.rows) - whole
    if today <= 0:
        return len(est.design.rows)
    found = int(np.ceil(1 / (today * (width / now) ** 2 + whole))) if now > 0 else len(est.design.rows)
    return found if found <= est.n else None


def _coded(est: Frame, estimand: str, width: float) -> tuple[int, int | None]:
    """Posts that people coded, and how many they must code, with today's labels, for a width of what they would say."""
    try:
        found = people(est, by=None, estimand=estimand)
    except DataError:
        return 0, None
    row = found.rows[0]
    if row["people"]["value"] is None:
        return found.coded, None
    now, teacher = Figure.of(row["people"]).width, Figure.of(row["teacher"]).width
    critical = 2 * float(student_t.ppf(0.975, row["df"]))
    habits = critical**2 * row["habits"]  # what more people would lessen, and more posts do not
    left = width**2 - teacher**2 - habits
    if left <= 0:
        return found.coded, None
    most = len(est.design.rows)
    wanted = int(np.ceil(max(now**2 - teacher**2 - habits, 0) * found.coded / left))
    return found.coded, wanted if wanted <= most else None


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
