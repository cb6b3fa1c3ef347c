"""How findings moved between two runs over the same posts, with intervals from the difference of their influences.

Both runs rest on (mostly) the same labelled posts, so that their errors go together: the difference is known better
than either figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from scipy import sparse

from assay.errors import DataError
from assay.measure import intervals
from assay.measure.estimate import Chance, Joint
from assay.measure.frame import Estimates, Frame
from assay.measure.metrics import UNKNOWN, Figure


def moved(a: Frame, b: Frame, by: str | None = None) -> list[dict[str, Any]]:
    """A row an estimand and group that both have: `estimand`, `name`, `a`, `b`, `difference` (b - a) and `decided`.

    `by` a column, or all posts. DataError where the two are not about the same posts.
    """
    if not a.predictions["post_id"].equals(b.predictions["post_id"]):
        raise DataError("the two runs did not score the same posts, so that their findings cannot be paired")
    both = _Union(a, b)
    found = []
    for estimand in [one for one in a.task.all_estimands if one in b.task.all_estimands]:
        first, second = a.of_groups(estimand, by), b.of_groups(estimand, by)
        figures = both.differences(first, second)
        for i, name in enumerate(first.names):
            if name not in second.names:
                continue
            at = second.names.index(name)
            found.append(
                {
                    "estimand": estimand,
                    "name": name,
                    "a": first.figure(i).rounded(),
                    "b": second.figure(at).rounded(),
                    "difference": figures[name].rounded(),
                    "decided": figures[name].leaves_zero_out,
                }
            )
    return found


class _Union:
    """The units of chance of both sides in one order."""

    def __init__(self, a: Frame, b: Frame) -> None:
        names: dict[str, int] = {}
        self.place = [np.array([names.setdefault(one, len(names)) for one in side.units()], int) for side in (a, b)]
        self.size = len(names)

    def differences(self, first: Estimates, second: Estimates) -> dict[str, Figure]:
        """Of each group of both, b - a."""
        chance = self._chance(first.joint, second.joint)
        one, other = (self._spread(side.joint, place) for side, place in zip((first, second), self.place, strict=True))
        found = {}
        for i, name in enumerate(first.names):
            at = second.names.index(name) if name in second.names else -1
            if at < 0 or not (first.joint.known[i] and second.joint.known[at]):
                found[name] = UNKNOWN
                continue
            apart = sparse.csr_array(other[[at]] - one[[i]])
            variance = np.maximum(chance.products(apart, apart), 0)
            value = np.array([second.joint.value[at] - first.joint.value[i]])
            df = np.array([min(first.joint.df[i], second.joint.df[at])])
            low, high = intervals.mean_interval(value, variance, df)
            found[name] = Figure(float(value[0]), float(low[0]), float(high[0]))
        return found

    def _spread(self, joint: Joint, place: np.ndarray) -> sparse.csr_array:
        to = sparse.csr_array((np.ones(len(place)), (np.arange(len(place)), place)), shape=(len(place), self.size))
        return sparse.csr_array(joint.influence @ to)

    def _chance(self, first: Joint, second: Joint) -> Chance:
        """Strata of the union: units that are alike on both sides."""
        strata = np.full((self.size, 2), -1)
        for side, (joint, place) in enumerate(zip((first, second), self.place, strict=True)):
            strata[place, side] = joint.chance.stratum
        return Chance(np.unique(strata, axis=0, return_inverse=True)[1].ravel(), np.ones(self.size))


def page(found: dict[str, Any]) -> str:
    """A comparison, as `scoring.compare` makes it, as one self-contained HTML page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    house = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return house.get_template("compare.html").render(**found)
