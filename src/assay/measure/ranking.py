"""Which of many groups is above which: simultaneous intervals and the ranks that each group may have.

The largest of many estimates is the largest also by luck, so that its own interval misses its truth more often than it
says. The critical value of the largest of all |t| comes from a multiplier bootstrap of the joint influences
(Chernozhukov, Chetverikov and Kato, 2013); ranks follow from the differences that it decides (Mogstad, Romano, Shaikh
and Wilhelm, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import norm

from assay.measure import intervals
from assay.measure.estimate import Joint
from assay.measure.metrics import Figure

DRAWS = 2000
MOST = 200  # groups that all pairs of are compared; beyond, the largest differences of neighbours would take minutes


@dataclass(frozen=True)
class Ranking:
    """Groups, highest first, with what is decided of their order."""

    names: list[str]
    figures: list[Figure]  # with simultaneous 95 % intervals
    ranks: list[tuple[int, int]]  # the best and the worst rank that each may have; 1 is the highest
    above: list[list[int]]  # of each, the numbers (in `names`) of those that it is decided to be above

    @property
    def is_decided(self) -> bool:
        """Whether the whole order is."""
        return all(first == last for first, last in self.ranks)

    def rows(self) -> list[dict[str, Any]]:
        """One dict a group: name, value, low, high, rank_low and rank_high."""
        told = zip(self.names, self.figures, self.ranks, strict=True)
        return [{"name": n, **f.rounded(), "rank_low": low, "rank_high": high} for n, f, (low, high) in told]

    def words(self) -> str:
        """What is decided, in a sentence."""
        if len(self.names) < 2:
            return "fewer than two groups have labels enough to be compared"
        if self.is_decided:
            return f"the order is decided: {' > '.join(self.names)}"
        top = [name for name, (best, _) in zip(self.names, self.ranks, strict=True) if best == 1]
        last = [name for name, (_, worst) in zip(self.names, self.ranks, strict=True) if worst == len(self.names)]
        high = f"{top[0]} is highest" if len(top) == 1 else f"which of {_listed(top)} is highest is not decided"
        low = f"{last[0]} is lowest" if len(last) == 1 else f"which of {_listed(last)} is lowest is not decided"
        return f"{high}; {low}"


def ranked(names: list[str], joint: Joint, kept: np.ndarray) -> Ranking:
    """Order the domains `kept` of a joint estimate; `names` are theirs."""
    if not len(kept):
        return Ranking([], [], [], [])
    order = kept[np.argsort(-joint.value[kept], kind="stable")]
    by_number = dict(zip(kept.tolist(), names, strict=True))
    low, high = simultaneous(joint, order)
    figures = [
        Figure(float(joint.value[k]), *edges) for k, *edges in zip(order, low.tolist(), high.tolist(), strict=True)
    ]
    above = decided(joint, order)
    below = np.zeros(len(order), dtype=int)
    for beaten in above:
        below[beaten] += 1
    ranks = [(int(1 + below[i]), len(order) - len(above[i])) for i in range(len(order))]
    return Ranking([by_number[int(k)] for k in order], figures, ranks, above)


def simultaneous(joint: Joint, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of domains, which all hold their truths at once in 95 % of samples."""
    influence = sparse.csr_array(joint.influence[numbers])
    scale = np.sqrt(joint.variance[numbers])
    moving = np.flatnonzero(scale > 0)
    if not len(moving):
        low, high = joint.interval()
        return low[numbers], high[numbers]
    drawn = influence[moving] @ _multipliers(joint)
    largest = np.abs(drawn / scale[moving, None]).max(0)
    level = intervals.level_of(max(float(np.quantile(largest, intervals.LEVEL)), float(norm.ppf(0.975))))
    low, high = joint.interval(level)
    return low[numbers], high[numbers]


def decided(joint: Joint, order: np.ndarray) -> list[list[int]]:
    """Of each domain in `order`, the places of those that it is decided to be above; at most 5 % of samples err."""
    found: list[list[int]] = [[] for _ in order]
    if len(order) > MOST:
        return _decided_by_intervals(joint, order)
    pairs = list(combinations(range(len(order)), 2))
    if not pairs:
        return found
    first, second = (order[[pair[side] for pair in pairs]] for side in (0, 1))
    apart = sparse.csr_array(joint.influence[first] - joint.influence[second])
    gap = joint.value[first] - joint.value[second]
    error = np.sqrt(np.maximum(joint.chance.products(apart, apart), 0))
    moving = np.flatnonzero(error > 0)
    level = intervals.LEVEL
    if len(moving):
        drawn = sparse.csr_array(joint.influence[order]) @ _multipliers(joint)
        at = np.array(pairs)[moving]
        largest = np.zeros(drawn.shape[1])
        for start in range(0, len(at), 500):
            part = at[start : start + 500]
            scale = error[moving[start : start + 500], None]
            largest = np.maximum(largest, np.abs((drawn[part[:, 0]] - drawn[part[:, 1]]) / scale).max(0))
        level = intervals.level_of(float(np.quantile(largest, intervals.LEVEL)))
    critical = intervals.quantile(np.minimum(joint.df[first], joint.df[second]), level)
    with np.errstate(invalid="ignore"):
        sure = np.where(error > 0, np.abs(gap) > critical * error, gap != 0)
    for (i, j), is_sure, by in zip(pairs, sure, gap, strict=True):
        if is_sure:
            found[i if by > 0 else j].append(j if by > 0 else i)
    return found


def _decided_by_intervals(joint: Joint, order: np.ndarray) -> list[list[int]]:
    """The same where there are too many pairs: one is above another where their simultaneous intervals do not meet."""
    low, high = simultaneous(joint, order)
    return [np.flatnonzero(high < one).tolist() for one in low]


def _multipliers(joint: Joint) -> np.ndarray:
    """Normal multipliers of the clusters, [clusters, draws], centred as the variances are."""
    random = np.random.default_rng(0)
    return joint.chance.centred(random.standard_normal((joint.influence.shape[1], DRAWS)))


def _listed(names: list[str]) -> str:
    shown = names[:6] + ([f"{len(names) - 6} more"] if len(names) > 6 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
