"""Regression of what labels would say on covariates of the post table, from predictions of all posts and some labels.

Design-based supervised learning (Egami, Hinck, Stewart and Wei, 2023): each post's outcome is its prediction, and of a
labelled post also the weighted difference of its label from it,

    y~ = lambda f + w (y - lambda f),   w = 1 / pi for labelled posts and 0 for others,

which has the right mean whatever the student's errors. Coefficients are those that a regression of all labels on all
posts would have; they describe, and say nothing of causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from assay.errors import DataError
from assay.measure import intervals
from assay.measure.domains import FORMATS, MADE, by_column, text_of
from assay.measure.estimate import Chance, indicator
from assay.measure.found import Decided
from assay.measure.frame import Frame
from assay.measure.metrics import Figure

MOST_LEVELS = 50
STEPS, CLOSE = 100, 1e-9
LEAST_PER_TERM = 3  # labels


@dataclass(frozen=True)
class Terms:
    """The columns of a regression, the first the intercept; rows without a value of some term are left out."""

    names: list[str]
    x: np.ndarray  # float [n, p]
    known: np.ndarray  # bool [n]


def regress(est: Frame, formula: str, *, estimand: str) -> list[Decided]:
    """A row a term: name, value, low, high, decided. Linear for scores, logistic (log odds) for shares.

    `formula` is `y ~ a + b`: columns of the posts, `year` and `month` of created_at (numbers: years and months since
    the first), `likes` and the like as they are; true is 1; of text each value but the first (by name) is a term.
    DataError where the design is not identified, or labels are too few for its terms.
    """
    terms = _terms(est, formula)
    y, f, _ = est.frame(estimand)
    design = est.design
    if design.learnt is not None:
        raise DataError("regressions need a student of cross-fitting; set train.crossfit to 5")
    kept = terms.known
    x = terms.x[kept]
    _check(x, terms.names)
    place = np.cumsum(kept) - 1
    mine = kept[design.rows]
    rows, w = place[design.rows[mine]], design.weight[mine]
    if mine.sum() < LEAST_PER_TERM * x.shape[1]:
        raise DataError(f"not identified: {int(mine.sum())} labels for {x.shape[1]} terms; label more posts")
    trust = est.trust(estimand)
    r = y[mine] - trust * f[design.rows[mine]]
    outcome = trust * f[kept]
    outcome[rows] += w * r
    is_share = est.task.is_share(estimand)
    beta, bread = _logistic(x, outcome, terms.names) if is_share else _linear(x, outcome)
    if design.of == "these_posts":
        scores, cluster = x[rows] * (w * r)[:, None], None
        chance = Chance(design.stratum[mine], design.left[mine])
        df = float(len(rows) - x.shape[1])
    else:
        fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30))) if is_share else x @ beta
        scores, cluster = x * (outcome - fitted)[:, None], np.unique(design.cluster[kept], return_inverse=True)[1]
        chance = Chance(np.zeros(int(cluster.max()) + 1, dtype=np.int64), np.ones(int(cluster.max()) + 1))
        df = float(len(np.unique(cluster[rows])) - x.shape[1])
    influence = sparse.csr_array((scores @ bread).T)
    if cluster is not None:
        influence = sparse.csr_array(influence @ indicator(cluster))
    scaled = chance.scaled(influence)
    variance = chance.products(scaled, scaled)
    low, high = intervals.mean_interval(beta, variance, np.full(len(beta), df))
    found = []
    for name, *figure in zip(terms.names, beta.tolist(), low.tolist(), high.tolist(), strict=True):
        told = Figure(*figure)
        found.append(Decided(name=name, **told.rounded(), decided=told.leaves_zero_out))
    return found


def _terms(est: Frame, formula: str) -> Terms:
    sides = formula.split("~")
    wanted = [part.strip() for part in sides[-1].split("+")]
    if len(sides) != 2 or not all(wanted) or not sides[0].strip():
        raise DataError(f"formula {formula!r} is not understood; write it as `y ~ sponsored + year`")
    n = est.n
    names, columns, known = ["(intercept)"], [np.ones(n)], np.ones(n, dtype=bool)
    for name in wanted:
        for label, column, there in _columns(est.posts, name):
            names.append(label)
            columns.append(column)
            known &= there
    if not known.any():
        raise DataError(f"formula {formula!r}: no post has a value of every column")
    return Terms(names, np.column_stack(columns), known)


def _columns(posts: pa.Table, name: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The columns of a term: name, values [n] (0 where there is none), and where there is one."""
    column = MADE.get(name, name)
    if column in posts.column_names and name in FORMATS:
        values = posts[column].combine_chunks()
        number = pc.add(pc.multiply(pc.year(values), 12), pc.month(values)) if name == "month" else pc.year(values)
        first = pc.min(number).as_py()
        return [(name, *_filled(pc.subtract(number, first or 0)))]
    if column in posts.column_names and name not in MADE:
        values = posts[column].combine_chunks()
        if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            return [(name, *_filled(values))]
    groups = by_column(posts, name)
    if len(groups) > MOST_LEVELS:
        raise DataError(f"{name} has {len(groups)} values; a term may have {MOST_LEVELS}")
    members = groups.members.toarray().astype(float)
    several = members.sum(0).max(initial=0) > 1
    kept = range(len(groups)) if several else range(1, len(groups))  # of one value a post, the first is the reference
    there = np.ones(posts.num_rows, dtype=bool) if several else members.sum(0) > 0
    return [(f"{name} {text_of(groups.names[i])}", members[i], there) for i in kept]


def _filled(values: Any) -> tuple[np.ndarray, np.ndarray]:
    there = np.asarray(values.is_valid())
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64()), 0.0), dtype=float), there


def _check(x: np.ndarray, names: list[str]) -> None:
    """DataError where a column says nothing that those before it do not."""
    scaled = x / np.maximum(np.abs(x).max(0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
    lost = [name for name, size in zip(names, diagonal, strict=False) if size < 1e-7 * len(x) ** 0.5]
    if lost or len(x) < len(names):
        said = (
            f"{', '.join(lost[:5])}: the other terms tell it already, or it never varies" if lost else "too few posts"
        )
        raise DataError(f"not identified: {said}; leave it out")


def _linear(x: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bread = np.linalg.inv(x.T @ x)
    return bread @ (x.T @ outcome), bread


def _logistic(x: np.ndarray, outcome: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The root of the sum of x (outcome - expit(x beta)), by Newton's method with halved steps."""
    beta = np.zeros(x.shape[1])
    mean = float(np.clip(outcome.mean(), 1e-6, 1 - 1e-6))
    beta[0] = np.log(mean / (1 - mean))
    for _ in range(STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        bread = np.linalg.pinv(x.T @ (x * (fitted * (1 - fitted))[:, None]))
        step = bread @ (x.T @ (outcome - fitted))
        step /= max(1.0, float(np.abs(step).max()) / 2)
        beta = beta + step
        if np.abs(step).max() < CLOSE:
            return beta, bread
        if np.abs(beta).max() > 25:
            break
    worst = names[int(np.argmax(np.abs(beta)))]
    raise DataError(f"not identified: {worst} separates the posts that have it from those that do not; leave it out")
