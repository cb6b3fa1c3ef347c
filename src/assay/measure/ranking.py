"""Which of many groups is above which: simultaneous intervals and the ranks that each group may have.

The largest of many estimates is the largest also by luck, so that its own interval misses its truth more often than it
says. The critical value of the largest of all |t| comes from a multiplier bootstrap of the joint influences
(Chernozhukov, Chetverikov and Kato, 2013); ranks follow from the differences that it decides (Mogstad, Romano, Shaikh
and Wilhelm, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse

from assay.measure import intervals
from assay.measure.estimate import Joint
from assay.measure.found import Rank
from assay.measure.frame import Estimates
from assay.measure.metrics import Figure

DRAWS = 2000
MOST = 200  # groups of which all pairs are compared; of more, one is above another where their intervals do not meet


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

    def rows(self) -> list[Rank]:
        """One dict a group: name, value, low, high, rank_low and rank_high."""
        told = zip(self.names, self.figures, self.ranks, strict=True)
        return [Rank(name=n, **f.rounded(), rank_low=low, rank_high=high) for n, f, (low, high) in told]

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


def ranked(found: Estimates, *, least_posts: int = 1) -> Ranking:
    """The order of those estimates of which enough is known, over at least so many posts."""
    joint = found.joint
    kept = np.flatnonzero(joint.known & (joint.posts >= least_posts))
    if not len(kept):
        return Ranking([], [], [], [])
    order = kept[np.argsort(-joint.value[kept], kind="stable")]
    draws = _draws(joint, order)
    low, high = _simultaneous(joint, order, draws)
    figures = [Figure(float(joint.value[k]), float(a), float(b)) for k, a, b in zip(order, low, high, strict=True)]
    above = (
        _decided(joint, order, draws) if len(order) <= MOST else [np.flatnonzero(high < one).tolist() for one in low]
    )
    below = np.zeros(len(order), dtype=int)
    for beaten in above:
        below[beaten] += 1
    ranks = [(int(1 + below[i]), len(order) - len(above[i])) for i in range(len(order))]
    return Ranking([found.names[k] for k in order], figures, ranks, above)


def simultaneous(joint: Joint, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of domains, which all hold their truths at once in 95 % of samples."""
    return _simultaneous(joint, numbers, _draws(joint, numbers))


def _draws(joint: Joint, numbers: np.ndarray) -> np.ndarray:
    """Errors of domains as they might have been, [domains, draws], by normal multipliers of the clusters."""
    random = np.random.default_rng(0)
    multipliers = random.standard_normal((joint.influence.shape[1], DRAWS))
    return np.asarray(sparse.csr_array(joint.influence[numbers]) @ joint.chance.centred(multipliers))


def _simultaneous(joint: Joint, numbers: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.sqrt(joint.variance[numbers])
    moving = scale > 0
    level = intervals.LEVEL
    if moving.any():
        largest = np.abs(draws[moving] / scale[moving, None]).max(0)
        level = intervals.joint_level(largest)
    low, high = joint.interval(level)
    return low[numbers], high[numbers]


def _decided(joint: Joint, order: np.ndarray, draws: np.ndarray) -> list[list[int]]:
    """Of each domain in `order`, the places of those that it is decided to be above; at most 5 % of samples err."""
    found: list[list[int]] = [[] for _ in order]
    pairs = np.array(list(combinations(range(len(order)), 2)), dtype=int).reshape(-1, 2)
    first, second = order[pairs[:, 0]], order[pairs[:, 1]]
    apart = sparse.csr_array(joint.influence[first] - joint.influence[second])
    gap = joint.value[first] - joint.value[second]
    error = np.sqrt(np.maximum(joint.chance.products(apart, apart), 0))
    moving = np.flatnonzero(error > 0)
    level = intervals.LEVEL
    if len(moving):
        largest = np.zeros(draws.shape[1])
        for start in range(0, len(moving), 500):
            part = moving[start : start + 500]
            off = draws[pairs[part, 0]] - draws[pairs[part, 1]]
            largest = np.maximum(largest, np.abs(off / error[part, None]).max(0))
        level = intervals.level_of(float(np.quantile(largest, level)))
    critical = intervals.quantile(np.minimum(joint.df[first], joint.df[second]), level)
    with np.errstate(invalid="ignore"):
        sure = np.where(error > 0, np.abs(gap) > critical * error, gap != 0)
    for (i, j), by in zip(pairs[sure].tolist(), gap[sure], strict=True):
        found[i if by > 0 else j].append(j if by > 0 else i)
    return found


def _listed(names: list[str]) -> str:
    shown = names[:6] + ([f"{len(names) - 6} more"] if len(names) > 6 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
