"""Three levels: the student of all posts, the teacher of a sample, people of a part of that sample.

    theta_people = mean of what people say + lambda (theta_teacher - mean of what the teacher says), over coded posts

a difference estimator of two phases (Särndal, Swensson and Wretman, 1992): a coded post weighs 1 / (pi p), pi its
chance to be labelled and p that to be coded then. Its influence has both parts, so that sums of squares give the
variance of the whole. The teacher's bias of a group, teacher less people over its coded posts, shows what no figure of
the teacher can: that it is harder on one brand.

People differ too: where several rated the same posts, the variance between them (one-way analysis of variance) counts
by the share of the posts that each coded, so that figures are about people like these, not these people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from assay.errors import DataError
from assay.measure import domains as groups
from assay.measure import intervals
from assay.measure.domains import Domains
from assay.measure.estimate import LEAST_EFFECTIVE, Chance, indicator, influence_of, kish
from assay.measure.found import Coded
from assay.measure.frame import Frame
from assay.measure.many import decide, tail
from assay.measure.metrics import UNKNOWN, Figure

Array = np.ndarray
ONE_CODER = "one person coded: what is their own habit cannot be told from what people say"
NOT_SHARED = "no post was coded by two: how far people differ is not known, and not in the intervals"


@dataclass(frozen=True)
class People:
    """What people would say of all posts, by groups, beside the teacher.

    `habits` of a row is the part of the variance that more posts do not lessen, only more people; `df` are those of
    `people`; `p` and `decided` are of the bias, for all rows together.
    """

    rows: list[Coded]
    coded: int
    coders: int
    coder_sd: float | None  # how far a person's mean is from that of people; None: not known
    note: str | None


@dataclass(frozen=True)
class _Coded:
    """Labelled posts that people coded: places among the labelled, chance, and what each person said."""

    at: Array  # int [k]
    chance: Array  # [k]
    said: list[list[tuple[str, Any]]]

    def means(self, est: Frame, estimand: str) -> tuple[list[Array], Array]:
        """What each person's answers give to an estimand, a post, and the mean [k]."""
        each = [est.task.observed([value for _, value in answers], estimand) for answers in self.said]
        return each, np.array([one.mean() for one in each])

    @cached_property
    def coders(self) -> list[str]:
        """Who coded, by name."""
        return sorted({coder for answers in self.said for coder, _ in answers})

    def who(self, answers: Sequence[tuple[str, Any]]) -> list[int]:
        """The number of each answer's person."""
        return [self.coders.index(coder) for coder, _ in answers]

    def shares(self) -> Array:
        """Of each post the share of each person in its answers, [k, people]."""
        found = np.zeros((len(self.said), len(self.coders)))
        for i, answers in enumerate(self.said):
            found[i, self.who(answers)] = 1 / len(answers)
        return found


def people(est: Frame, *, by: str | None, estimand: str, codes: pa.Table | None = None) -> People:
    """What people would say of all posts, first of all, then by the groups of a column.

    `codes` has post_id, `people` (a list of {coder, value}) and `people_p`. DataError where
    nobody coded a labelled post, or by what chance posts were chosen is not known.
    """
    if est.design.learnt is not None:
        raise DataError("what people would say needs a student of cross-fitting; set train.crossfit to 5")
    table = codes if codes is not None else est.codes
    known = _coded(est, table)
    domains = groups.everyone(est.n)
    if by:
        domains = domains.joined(est.groups(by))
    each, said = known.means(est, estimand)
    between, note = _between(known, each)
    rows = _rows(est, domains, estimand, known, said, between or 0.0)
    return People(rows, len(known.at), len(known.coders), None if between is None else between**0.5, note)


def _coded(est: Frame, table: pa.Table | None) -> _Coded:
    place = {post_id: i for i, post_id in enumerate(est.labelled_ids())}
    rows = [] if table is None else table.filter(pc.is_valid(table["people"])).to_pylist()
    found = [(place[row["post_id"]], row) for row in rows if row["post_id"] in place and row["people"]]
    if not found:
        raise DataError("nobody coded a labelled post: `assay answers export` takes posts to Label Studio")
    by_lot = [(at, row) for at, row in found if row["people_p"] is not None]
    if not by_lot:
        raise DataError(
            f"none of {len(found)} coded posts has a chance to be coded: choose posts by "
            "`assay answers export`, or write their chance into column p of the human labels"
        )
    found = by_lot  # posts that were picked, as in a review, say nothing of all posts
    wrong = next((row for _, row in found if not 0 < row["people_p"] <= 1), None)
    if wrong:
        raise DataError(f"post {wrong['post_id']}: p is {wrong['people_p']}, must be above 0 and at most 1")
    return _Coded(
        np.array([at for at, _ in found]),
        np.array([row["people_p"] for _, row in found], dtype=float),
        [[(one["coder"], one["value"]) for one in row["people"]] for _, row in found],
    )


def _rows(est: Frame, domains: Domains, estimand: str, known: _Coded, said: Array, between: float) -> list[Coded]:
    y, _, _ = est.frame(estimand)
    design, at = est.design, known.at
    w = design.weight[at] / known.chance
    teacher = est.over(estimand, domains)
    joint = teacher.joint
    inside = sparse.csr_array(domains.members.astype(float)[:, design.rows[at]])
    sums, counts = inside @ w, np.asarray(inside.sum(1)).astype(int)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_people, of_teacher = inside @ (w * said) / sums, inside @ (w * y[at]) / sums
    chance = joint.chance
    moved = [
        _phase_two(est, influence_of(inside, w, values, mean, sums), at, w)
        for values, mean in ((said, of_people), (y[at], of_teacher))
    ]
    apart = joint.influence - moved[1]
    trust = float(np.clip(-_product(chance, moved[0], apart)[0] / max(_product(chance, apart, apart)[0], 1e-18), 0, 1))
    effective = kish(inside @ sparse.diags_array(w))
    sampled = [np.maximum(_product(chance, one, one), 0) for one in (moved[0] + trust * apart, moved[1] - moved[0])]
    persons = len(known.coders)
    weighed = np.asarray((inside @ sparse.diags_array(w)) @ known.shares())
    with np.errstate(divide="ignore", invalid="ignore"):
        weighed = weighed / weighed.sum(1, keepdims=True)
    habits = between * np.nan_to_num((weighed**2).sum(1))  # of one coder all of it, of k who share alike a k-th
    variances = [one + habits for one in sampled]
    dfs = [intervals.satterthwaite((one, habits), (effective - 1, np.array(persons - 1))) for one in sampled]
    value = of_people + trust * (joint.value - of_teacher)
    is_share = est.task.is_share(estimand)
    low, high = _interval(value, variances[0], dfs[0], share=is_share, bounds=est.task.bounds)
    bias = of_teacher - of_people
    edges = intervals.mean_interval(bias, variances[1], dfs[1])
    enough = effective >= LEAST_EFFECTIVE
    found: list[Coded] = []
    for i, name in enumerate(domains.names):
        told = Figure(float(value[i]), float(low[i]), float(high[i])) if enough[i] else UNKNOWN
        own = Figure(float(bias[i]), float(edges[0][i]), float(edges[1][i])) if enough[i] else UNKNOWN
        p = 2 * tail(abs(own.value), float(variances[1][i]) ** 0.5, float(dfs[1][i])) if enough[i] else None
        row = Coded(
            name=name,
            posts=int(joint.posts[i]),
            labels=int(joint.labels[i]),
            coded=int(counts[i]),
            people=told.rounded(),
            teacher=teacher.figure(i).rounded(),
            bias=own.rounded(),
            habits=float(habits[i]),
            df=float(dfs[0][i]),
            p=p,
            decided=False,
        )
        found.append(row)
    decide(found)
    return found


def _phase_two(est: Frame, influence: sparse.csr_array, at: Array, w: Array) -> sparse.csr_array:
    """Influences of coded posts [D, k] as those of the units of chance, scaled."""
    design = est.design
    if design.is_clustered:
        to = indicator(design.cluster)
        return sparse.csr_array(influence @ sparse.csr_array(to[design.rows[at]]))
    left = np.clip(1 - 1 / w, 0, 1)
    scaled = Chance(np.unique(design.stratum[at], return_inverse=True)[1], left).scaled(influence)
    shape = influence.shape[0], len(design.rows)
    return sparse.csr_array((scaled.data, at[scaled.indices], scaled.indptr), shape=shape)


def _product(chance: Chance, a: Any, b: Any) -> Array:
    return chance.products(sparse.csr_array(a), sparse.csr_array(b))


def _interval(
    value: Array, variance: Array, df: Array, *, share: bool, bounds: tuple[float, float]
) -> tuple[Array, Array]:
    if not share:
        low, high = intervals.mean_interval(value, variance, df)
        return np.clip(low, *bounds), np.clip(high, *bounds)
    inside = np.clip(value, 0.005, 0.995)
    with np.errstate(divide="ignore"):
        size = np.where(variance > 0, inside * (1 - inside) / variance, np.inf)
    return intervals.share_interval(value, size, df)


def _between(known: _Coded, each: list[Array]) -> tuple[float | None, str | None]:
    """The variance between people's means, from posts that two or more coded, and what cannot be told.

    Henderson's third method (1953): posts are fixed, people random.
    """
    if len(known.coders) < 2:
        return None, ONE_CODER
    shared = [(answers, values) for answers, values in zip(known.said, each, strict=True) if len(values) > 1]
    if not shared:
        return None, NOT_SHARED
    people_of = np.concatenate([known.who(answers) for answers, _ in shared])
    post = np.repeat(np.arange(len(shared)), [len(values) for _, values in shared])
    x = _less_mean(np.eye(len(known.coders))[people_of], post)
    y = _less_mean(np.concatenate([values for _, values in shared])[:, None], post)[:, 0]
    rank = int(np.linalg.matrix_rank(x))
    explained = float(y @ x @ np.linalg.pinv(x.T @ x) @ (x.T @ y))
    left = len(y) - len(shared) - rank
    if left < 1 or rank < 1:
        return None, NOT_SHARED
    noise = (float(y @ y) - explained) / left
    return max(0.0, (explained - rank * noise) / float(np.trace(x.T @ x))), None


def _less_mean(values: Array, post: Array) -> Array:
    """Rows less the mean of their post's."""
    sums = indicator(post).T @ values
    return np.asarray(values - (sums / np.bincount(post)[:, None])[post])
