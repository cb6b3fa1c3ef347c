"""Means and shares over a corpus, corrected by held-out labels, with intervals that account for the student's errors.

Prediction-powered inference with a tuned weight (PPI++; Angelopoulos, Duchi and Zrnic, 2023), in the shape of a
survey's difference estimator: the mean prediction of all posts that nothing was learnt from, plus the weighted mean
of label minus prediction over labelled posts that were held out. Posts that the student learnt from count with their
own labels. What is estimated is what the labels would say of every post; where these come from a teacher, its own
errors remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import t as student_t

from assay.measure.metrics import Figure
from assay.targets import Target

LEARNT, HELD_OUT = 1, 2
LEAST_GROUPS = 8  # held-out leakage groups below which there is no interval
NONE = Figure(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Labels:
    """What is known of posts, row by row beside their predictions."""

    values: list[Any]  # the label, None where there is none
    role: np.ndarray  # int [n]: 0 no label, LEARNT (train, val) or HELD_OUT (calibration, test)
    weight: np.ndarray  # float [n], of held-out posts: inverse to the chance to be labelled and held out
    group: np.ndarray  # int [n], leakage groups, which are drawn together; -1 where there is no label


def align(post_ids: Sequence[str], labels: pa.Table, split: pa.Table) -> Labels:
    """Labels and splits beside predictions of `post_ids`.

    A held-out post was sampled, with probability p, and then not taken for training, where a share s of the sample
    went. Among posts that nothing was learnt from, the chance to be such a one is p (1 - s) / (1 - p s).
    """
    where = {row["post_id"]: row for row in split.to_pylist()}
    known = {row["post_id"]: row for row in labels.to_pylist() if row["status"] == "ok" and row["post_id"] in where}
    learnt = {name for name in known if where[name]["split"] in ("train", "val")}
    s = len(learnt) / max(1, len(known))
    n = len(post_ids)
    found = Labels([None] * n, np.zeros(n, np.int8), np.zeros(n), np.full(n, -1, np.int64))
    for i, name in enumerate(post_ids):
        row = known.get(name)
        if row is not None:
            found.values[i], found.group[i] = row["value"], where[name]["group"]
            found.role[i] = LEARNT if name in learnt else HELD_OUT
            found.weight[i] = (1 - row["inclusion_p"] * s) / row["inclusion_p"]
    return found


class Corrected:
    """Corrected figures of one task; `names` are the classes or labels, or one entry for scores."""

    def __init__(self, values: list[Any], labels: Labels, target: Target) -> None:
        self.labels, self.target = labels, target
        self.scored = np.array([value is not None for value in values], dtype=bool)
        self.names = target.estimands
        self.low, self.high = target.bounds
        self.predicted = {name: target.observed(values, name) for name in self.names}
        self.truth = {name: target.observed(labels.values, name) for name in self.names}
        self.tuned = {name: self._tuned(name) for name in self.names}

    def __call__(self, rows: np.ndarray, name: str, *, labels_only: bool = False) -> Figure:
        """The mean or share `name` over posts `rows` (bool [n]) with its 95 % interval; nan where labels are too few.

        `labels_only`: from held-out labels alone, without predictions, as one would without a student.
        """
        role, of = self.labels.role, rows & self.scored
        learnt, held = of & (role == LEARNT), of & (role == HELD_OUT)
        groups = np.unique(self.labels.group[held], return_inverse=True)[1]
        count = int(groups.max()) + 1 if len(groups) else 0
        if count < LEAST_GROUPS:
            return NONE
        tuned = 0.0 if labels_only else self.tuned[name]
        weight = self.labels.weight[held] / self.labels.weight[held].sum()
        error = self.truth[name][held] - tuned * self.predicted[name][held]
        shift = float(weight @ error)
        sums = np.bincount(groups, weight * (error - shift), count)
        variance = count / (count - 1) * float(sums @ sums)
        if self.target.are_shares:  # one more post wrong each way (Agresti and Coull, 1998)
            variance += 2 / (1 / float(weight @ weight) + 2) ** 2
        share = learnt.sum() / of.sum()
        known = float(self.truth[name][learnt].mean()) if learnt.any() else 0.0
        rest = tuned * float(self.predicted[name][of & ~learnt].mean()) + shift
        value = share * known + (1 - share) * rest
        half = float(student_t.ppf(0.975, count - 1)) * (1 - share) * variance**0.5
        low, value, high = np.clip([value - half, value, value + half], self.low, self.high)
        return Figure(float(value), float(low), float(high))

    def held_out(self, rows: np.ndarray) -> int:
        """How many held-out labels stand behind figures over posts `rows`."""
        return int((rows & self.scored & (self.labels.role == HELD_OUT)).sum())

    def _tuned(self, name: str) -> float:
        """How far predictions are trusted, 0 to 1: the weight that makes held-out errors smallest, over the corpus."""
        held = self.scored & (self.labels.role == HELD_OUT)
        y, f, w = self.truth[name][held], self.predicted[name][held], self.labels.weight[held]
        if len(y) < 2:
            return 0.0
        y, f = y - np.average(y, weights=w), f - np.average(f, weights=w)
        spread = float(w @ f**2)
        return float(np.clip((w @ (y * f)) / spread, 0, 1)) if spread > 1e-12 else 0.0
