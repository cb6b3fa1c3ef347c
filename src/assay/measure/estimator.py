"""Estimator: what labels would say of every post of a corpus, by any group of posts, with intervals that hold.

    est = Estimator(posts, predictions, labels, design, task=target)
    est.mean(by="brand"); est.share("high"); est.difference("sponsored", within="brand"); est.rank("brand")

Tables are joined by post id. What is estimated, and how, is told in `measure.estimate`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import DataError
from assay.measure import domains as groups
from assay.measure import intervals
from assay.measure.contrasts import differences
from assay.measure.domains import Value
from assay.measure.estimate import Of
from assay.measure.found import Decided, Difference
from assay.measure.frame import CODES, DESIGN, WORDS, Estimates, Frame, design_of
from assay.measure.metrics import UNKNOWN, Figure
from assay.measure.needed import Needed, needed
from assay.measure.people import People, people
from assay.measure.ranking import Ranking, ranked
from assay.measure.regress import regress
from assay.measure.small_areas import Borrowed, borrowed
from assay.measure.trend import Trend, trend
from assay.targets import Target

__all__ = ["DESIGN", "WORDS", "Estimates", "Estimator", "design_of", "read_estimator"]


class Estimator(Frame):
    """Corrected means, shares, differences, ratios, ranks, trends and regressions of a task; its tables: see Frame."""

    def mean(self, by: str | None = None) -> Estimates:
        """The mean score, of all posts or by the groups of a column; DataError for a task without scores."""
        if "mean" not in self.task.estimands:
            raise DataError(f"a task of {self.task.words()} has no mean; ask for the share of one")
        return self.of_groups("mean", by)

    def share(self, name: str | None = None, by: str | None = None, *, band: str | None = None) -> Estimates:
        """The share of posts with a class or label, or of a score in a `band`, of all posts or by groups."""
        wanted = name or band
        if wanted not in self.task.groups:
            raise DataError(f"no share of {wanted!r}; there are: {', '.join(self.task.groups)}")
        return self.of_groups(str(wanted), by)

    def difference(
        self, column: str, a: Value = True, b: Value = False, *, within: str | None = None, estimand: str | None = None
    ) -> list[Difference]:
        """Posts with value `a` of a column against those with `b`: of all posts, and within each group of another one.

        Rows of name, value, low, high and `decided` (the interval does not hold 0). With `within`, the row "within all"
        is the mean over groups where both are known, weighted by their posts: it does not confuse what the groups
        differ in with what a and b differ in.
        """
        return differences(self, column, a, b, within=within, estimand=estimand or self.task.estimands[0])

    def ratio(self, a: dict[str, Value], b: dict[str, Value], *, estimand: str | None = None) -> Figure:
        """The ratio of an estimand over two groups given as {column: value}, by Fieller's method."""
        both = groups.those(self.posts, a).joined(groups.those(self.posts, b))
        joint = self.over(estimand or self.task.estimands[0], both).joint
        if not joint.known.all():
            return UNKNOWN
        shared = joint.covariance(0, 1)
        covariance = np.array([[joint.variance[0], shared], [shared, joint.variance[1]]])
        critical = float(intervals.quantile(joint.df.min()))
        found = intervals.ratio_interval(float(joint.value[0]), float(joint.value[1]), covariance, critical)
        value = float(joint.value[0] / joint.value[1]) if joint.value[1] else np.nan
        return Figure(value, *(found or (np.nan, np.nan)))

    def rank(self, by: str, *, estimand: str | None = None, least_posts: int = 1) -> Ranking:
        """Groups in order, with simultaneous intervals and the ranks that each may have; see `ranking`."""
        return ranked(self.of_groups(estimand or self.task.estimands[0], by), least_posts=least_posts)

    def human(self, codes: pa.Table | None = None, *, by: str | None = None, estimand: str | None = None) -> People:
        """What people would say of all posts, and the teacher's bias by group, from human codes; see `people`.

        `codes` has the columns post_id, people and people_p; default: those that annotate found.
        """
        return people(self, by=by, estimand=estimand or self.task.estimands[0], codes=codes)

    def small(self, by: str, *, estimand: str | None = None) -> Borrowed:
        """Estimates of all groups, also of those with few labels or none, that borrow strength; see `small_areas`."""
        return borrowed(self, self.groups(by), estimand or self.task.estimands[0])

    def regress(self, formula: str, *, estimand: str | None = None) -> list[Decided]:
        """A regression on columns of the posts, such as `y ~ sponsored + year`; see `measure.regress`."""
        return regress(self, formula, estimand=estimand or self.task.estimands[0])

    def trend(self, by: str = "month", *, estimand: str | None = None) -> Trend:
        """Estimates by month or year, their slope, and whether the student's error drifts; see `measure.trend`."""
        return trend(self, by, estimand=estimand or self.task.estimands[0])

    def plan(
        self, width: float, *, estimand: str | None = None, between: tuple[str, Value, Value] | None = None
    ) -> Needed:
        """How many labels an interval of this width needs, of an estimand or of its difference `between` posts of two
        values of a column, such as ("sponsored", True, False); see `measure.needed`.
        """
        return needed(self, width, estimand=estimand or self.task.estimands[0], between=between)


def read_estimator(
    posts: pa.Table,
    predictions: pa.Table,
    *,
    labels: Path,
    people: Path | None,
    split: Path,
    sample: Path,
    task: Target,
    target: Of,
) -> Estimator:
    """The Estimator of posts and predictions with what annotate (labels and, where there are, human codes), split and
    sample wrote.
    """
    columns = ["post_id", "status", "value", "inclusion_p"]
    shards = sorted(sample.glob("part-*.parquet"))
    drawn = pa.concat_tables(pq.read_table(path, columns=["post_id", "stratum"]) for path in shards)
    design = design_of(drawn, pq.read_table(split), predictions)
    known = pq.read_table(labels, columns=columns)
    codes = pq.read_table(people, columns=CODES) if people else None
    return Estimator(posts, predictions, known, design, task=task, target=target, codes=codes)
