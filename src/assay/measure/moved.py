"""How findings moved between two runs over the same posts, with intervals from the difference of their influences.

Both runs rest on (mostly) the same labelled posts, so that their errors go together: the difference is known better
than either figure.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from assay.errors import DataError
from assay.measure import intervals
from assay.measure.estimate import Chance, Joint
from assay.measure.found import Moved
from assay.measure.frame import Estimates, Frame
from assay.measure.many import decide, tail
from assay.measure.metrics import UNKNOWN, Figure


def moved(a: Frame, b: Frame, by: str | None = None) -> list[Moved]:
    """A row an estimand and group that both have: `estimand`, `name`, `a`, `b`, `difference` (b - a), `p`, `decided`.

    `by` a column, or all posts (then also a score's bands). Intervals are each of its own row; `p` and `decided` are
    corrected for the number of rows (Holm). DataError where the two are not about the same posts.
    """
    if not a.predictions["post_id"].equals(b.predictions["post_id"]):
        raise DataError("the two runs did not score the same posts, so that their findings cannot be paired")
    both = _Union(a, b)
    found: list[Moved] = []
    mine, theirs = ((side.task.estimands if by else side.task.all_estimands) for side in (a, b))
    for estimand in [one for one in mine if one in theirs]:
        first, second = a.of_groups(estimand, by), b.of_groups(estimand, by)
        place = {name: at for at, name in enumerate(second.names)}
        for i, name in enumerate(first.names):
            at = place.get(name)
            if at is None:
                continue
            figure, p = both.difference(first, i, second, at)
            sides = first.figure(i).rounded(), second.figure(at).rounded()
            told = Moved(
                estimand=estimand, name=name, a=sides[0], b=sides[1], difference=figure.rounded(), p=p, decided=False
            )
            found.append(told)
    decide(found)
    return found


class _Union:
    """The units of chance of both sides in one order."""

    def __init__(self, a: Frame, b: Frame) -> None:
        names: dict[str, int] = {}
        self.place = [np.array([names.setdefault(one, len(names)) for one in side.units()], int) for side in (a, b)]
        self.size = len(names)
        self._of: Chance | None = None

    def difference(self, first: Estimates, i: int, second: Estimates, at: int) -> tuple[Figure, float | None]:
        """b - a of one group, and the chance of so large a one where there is none."""
        one, other = first.joint, second.joint
        if not (one.known[i] and other.known[at]):
            return UNKNOWN, None
        apart = sparse.csr_array(self._spread(other, at, self.place[1]) - self._spread(one, i, self.place[0]))
        error = float(np.maximum(self._chance(one, other).products(apart, apart), 0)[0]) ** 0.5
        value, df = float(other.value[at] - one.value[i]), float(min(one.df[i], other.df[at]))
        half = float(intervals.quantile(np.array(df))) * error if error > 0 else 0.0
        return Figure(value, value - half, value + half), 2 * tail(abs(value), error, max(df, 1e-9))

    def _spread(self, joint: Joint, group: int, place: np.ndarray) -> sparse.csr_array:
        """The influences of one group, over the units of both sides, [1, units]."""
        own = sparse.csr_array(joint.influence[[group]])
        return sparse.csr_array((own.data, place[own.indices], own.indptr), shape=(1, self.size))

    def _chance(self, first: Joint, second: Joint) -> Chance:
        """Strata of the union: units that are alike on both sides; the same for all groups and estimands."""
        if self._of is None:
            strata = np.full((2, self.size), -1, dtype=np.int64)
            for side, (joint, place) in enumerate(zip((first, second), self.place, strict=True)):
                strata[side, place] = joint.chance.stratum
            codes = (strata[0] + 1) * (int(strata[1].max(initial=0)) + 2) + strata[1] + 1
            self._of = Chance(np.unique(codes, return_inverse=True)[1], np.ones(self.size))
        return self._of
