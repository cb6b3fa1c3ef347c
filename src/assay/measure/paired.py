"""Two students on the posts that neither learnt from: every metric's paired difference, and what it decides.

The same draws of leakage groups serve both, so that what makes posts easy or hard for both falls out of the difference.
Where both were trained from three or more seeds, the luck of a seed counts too, and the verdict is on the recipe; else
it is on these two fits alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student_t

from assay.errors import DataError
from assay.measure import intervals, metrics
from assay.measure.found import MetricVerdict, Verdict
from assay.measure.judged import Judged, rows_of
from assay.measure.many import LEVEL, adjust, tail
from assay.targets import Target

LEAST_SEEDS = 3
MARGIN = 0.01  # of what a metric can span: differences below it do not matter, unless told otherwise
FEWEST_GROUPS = 10  # leakage groups below which no verdict is given


@dataclass(frozen=True)
class Pair:
    """What two students said of the same posts."""

    y: np.ndarray  # [n] or [n, L]
    weights: np.ndarray  # [n]
    group: np.ndarray  # int [n]
    said: tuple[list[np.ndarray], list[np.ndarray]]  # of each side, predictions a seed
    cuts: tuple[list[np.ndarray | None], list[np.ndarray | None]]

    @property
    def is_of_recipes(self) -> bool:
        """Whether both were trained from seeds enough that their luck is known."""
        return all(len(side) >= LEAST_SEEDS for side in self.said)


def pair_up(a: tuple[list[str], Judged], b: tuple[list[str], Judged]) -> tuple[Pair, int]:
    """Both on the posts that both were judged by, and how many of these have another label on each side.

    DataError where there are none. A group of either side is whole: what leaks in one is drawn together in both.
    """
    place = {post_id: i for i, post_id in enumerate(b[0])}
    both = np.array([(i, place[one]) for i, one in enumerate(a[0]) if one in place], dtype=int).reshape(-1, 2)
    if not len(both):
        raise DataError("no post was held out by both: label the same posts, or train with train.crossfit")
    first, second = both[:, 0], both[:, 1]
    truths = a[1].y[first], b[1].y[second]
    same = truths[0].shape == truths[1].shape
    other = int((truths[0] != truths[1]).reshape(len(both), -1).any(1).sum()) if same else len(both)
    pair = Pair(
        truths[0],
        np.maximum(a[1].weights[first], b[1].weights[second]),  # a post of the rarer draw stands for more
        _joined(a[1].group[first], b[1].group[second]),
        (_said(a[1], first), _said(b[1], second)),
        (_cuts(a[1], first), _cuts(b[1], second)),
    )
    return pair, other


def verdicts(
    pair: Pair, target: Target, *, margin: float = MARGIN, replicates: int = metrics.REPLICATES
) -> list[MetricVerdict]:
    """A row a metric: `a` and `b` with intervals, `difference` (positive: b is better) with its interval, `p` (Holm's
    over all metrics), `margin` and `verdict` on b.

    equivalent: the difference is decided to be within the margin (two one-sided tests; Schuirmann, 1987). better,
    worse: it is decided not to be 0, and may matter. not decided: neither. `margin` is a share of what a metric can
    span, of scores their range.
    """
    w = metrics.replicate_weights(pair.weights, pair.group, replicates=replicates)
    drawn = [[metrics.bootstrap(pair.y, p, w, target, cut) for p, cut in _seeds(pair, side)] for side in (0, 1)]
    groups = len(np.unique(pair.group))
    rows: list[MetricVerdict] = []
    chance: list[tuple[float, float]] = []  # of so large a difference where there is none; of one beyond the margin
    for metric in target.metrics:
        values = [np.stack([seed[metric.name] for seed in side]) for side in drawn]
        value, error, df = _difference(values, groups, higher=metric.higher, recipes=pair.is_of_recipes)
        half = float(student_t.ppf(1 - LEVEL / 2, df)) * error if df > 0 else np.nan
        figure = metrics.Figure(value, value - half, value + half) if np.isfinite(half) else metrics.UNKNOWN
        within = margin * target.span(metric.name)
        chance.append((2 * tail(abs(value), error, df), tail(within - abs(value), error, df)))
        rows.append(
            MetricVerdict(
                metric=metric.name,
                higher_is_better=metric.higher,
                a=metrics.interval(values[0].mean(0)).rounded(),
                b=metrics.interval(values[1].mean(0)).rounded(),
                difference=figure.rounded(),
                margin=round(within, 6),
                p=None,
                verdict="not known",
            )
        )
    known = [i for i, pair_of in enumerate(chance) if np.isfinite(pair_of).all()]
    apart, beyond = (adjust([chance[i][which] for i in known], "holm") for which in (0, 1))
    for i, p, outside in zip(known, apart, beyond, strict=True):
        rows[i]["p"], rows[i]["verdict"] = round(p, 4), _verdict(rows[i]["difference"]["value"] or 0.0, p, outside)
    return rows


def _verdict(value: float, p: float, beyond: float) -> Verdict:
    if beyond < LEVEL:
        return "equivalent"
    return "not decided" if p >= LEVEL else "better" if value > 0 else "worse"


def _difference(values: list[np.ndarray], groups: int, *, higher: bool, recipes: bool) -> tuple[float, float, float]:
    """The difference of means over seeds, its standard error and degrees of freedom."""
    gap = (values[1].mean(0) - values[0].mean(0)) * (1 if higher else -1)
    drawn = gap[1:][np.isfinite(gap[1:])]
    if not np.isfinite(gap[0]) or len(drawn) < 2 or groups < FEWEST_GROUPS:
        return float(gap[0]), np.nan, 0.0
    parts = [(np.array(drawn.var(ddof=1)), np.array(groups - 1))]
    if recipes:
        parts += [(np.array(side[:, 0].var(ddof=1) / len(side)), np.array(len(side) - 1)) for side in values]
    variances, dfs = zip(*parts, strict=True)
    return float(gap[0]), float(sum(variances)) ** 0.5, float(intervals.satterthwaite(variances, dfs))


def _seeds(pair: Pair, side: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """What counts of a side: all seeds, or the fit itself."""
    every = list(zip(pair.said[side], pair.cuts[side], strict=True))
    return every if pair.is_of_recipes else every[:1]


def _said(test: Judged, rows: np.ndarray) -> list[np.ndarray]:
    return [said[rows] for said in (test.seeds.values() if test.seeds else [test.student])]


def _cuts(test: Judged, rows: np.ndarray) -> list[np.ndarray | None]:
    if test.seeds:
        return [rows_of(test.seed_thresholds.get(seed), rows) for seed in test.seeds]
    return [rows_of(test.thresholds.get("student"), rows)]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Groups of posts that share a group of either kind, int [n]."""
    if np.array_equal(first, second):
        return first
    n = len(first)
    one, other = (np.unique(groups, return_inverse=True)[1] for groups in (first, second))
    rows = np.arange(n)
    size = n + int(one.max()) + int(other.max()) + 2
    ends = np.concatenate([n + one, n + int(one.max()) + 1 + other])
    links = csr_array((np.ones(2 * n), (np.concatenate([rows, rows]), ends)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][:n])
