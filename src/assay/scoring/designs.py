"""Sampling designs that look at the posts: diverse and active, with inclusion probabilities that hold.

Both draw from a pool, a simple random sample of the corpus, whose frozen features are known. A post's
weight in the pool is such that weighted sums over the sample are unbiased for the pool.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from assay.sampling import allocate
from assay.targets import NAMES, NUMBER, Target

COMPONENTS = 128  # of the features that distances and the early student see
COMMITTEE = 8  # early students, each of a bootstrap sample
UNIFORM = 0.3  # share of a post's chance in the second batch that its uncertainty does not decide


class Chosen(NamedTuple):
    """Rows of the pool, and for each 1 / weight: its inclusion probability within the pool."""

    rows: np.ndarray  # int64 [n]
    p: np.ndarray  # float64 [n], above 0 and at most 1


def compress(features: np.ndarray) -> np.ndarray:
    """Standardised principal components of features, [n, at most COMPONENTS]."""
    scaled = StandardScaler().fit_transform(features)
    count = min(COMPONENTS, *scaled.shape)
    return np.asarray(PCA(count, svd_solver="randomized", random_state=0).fit_transform(scaled), dtype=np.float64)


def diverse(features: np.ndarray, numbers: np.ndarray, size: int) -> Chosen:
    """Strata around k-centres, then a random draw in each; `numbers`: permanent random numbers of the posts.

    Half as many centres as posts to draw are placed greedily, each as far from the others as can be
    (Gonzalez, 1985; Sener and Savarese, 2018); every post belongs to its nearest centre. Drawing at random within
    such strata keeps inclusion probabilities known, which taking the centres themselves would not.
    """
    count = max(1, min(size // 2, len(features)))
    nearest = k_centre(features, count, first=int(np.argmin(numbers)))
    counts = np.bincount(nearest, minlength=count)
    sizes = allocate(counts, min(size, len(features)), 1)
    rows, p = [], []
    for stratum in range(count):
        members = np.flatnonzero(nearest == stratum)
        drawn = members[np.argsort(numbers[members], kind="stable")][: sizes[stratum]]
        rows.append(drawn)
        p.append(np.full(len(drawn), sizes[stratum] / counts[stratum]))
    return Chosen(np.concatenate(rows), np.concatenate(p))


def k_centre(features: np.ndarray, count: int, *, first: int) -> np.ndarray:
    """The nearest of `count` greedily placed centres for each row, [n]; every centre has at least itself."""
    squares = (features**2).sum(1)
    distance = np.full(len(features), np.inf)
    nearest = np.zeros(len(features), dtype=np.int64)
    centre = first
    for number in range(count):
        away = squares + squares[centre] - 2 * features @ features[centre]
        closer = away < distance
        closer[centre] = True
        distance[closer], nearest[closer] = np.maximum(away[closer], 0), number
        distance[centre] = -1.0  # taken
        centre = int(np.argmax(distance))
    return nearest


def active(
    features: np.ndarray,
    numbers: np.ndarray,
    size: int,
    *,
    first: float,
    label: Callable[[np.ndarray], np.ndarray],
    target: Target,
) -> Chosen:
    """A random first batch, then posts where students of that batch are least sure.

    `label` asks for the labels of rows: float [n], int [n] (-1: none) or float [n, labels]; nan where there is
    none. The second batch is drawn with probability pi proportional to uncertainty, mixed with a uniform
    part, from the rest of the pool. Two estimators are unbiased: the first batch alone, weighted by its
    sampling fraction f, and the first batch with weight 1 beside the second with weight 1 / pi (given the
    first). Their mean, weighted by a, the first batch's share of all posts, gives the weights used here:
    a / f + 1 - a for the first batch and (1 - a) / pi for the second.
    """
    size = min(size, len(features))
    order = np.argsort(numbers, kind="stable")
    n1 = min(max(2, round(size * first)), size)
    batch, rest = order[:n1], order[n1:]
    share, fraction = n1 / size, n1 / len(features)
    p1 = np.full(n1, 1 / (share / fraction + 1 - share))
    if n1 == size:
        return Chosen(batch, np.full(n1, fraction))
    unsure = uncertainty(features[batch], label(batch), features[rest], target)
    mean = unsure.mean()
    chance = UNIFORM + (1 - UNIFORM) * unsure / mean if mean > 0 else np.ones(len(rest))
    pi = capped(chance, size - n1, most=1 - share)
    drawn = systematic(pi, float(numbers.sum() % 1.0))  # a start that no single post decides
    return Chosen(np.concatenate([batch, rest[drawn]]), np.concatenate([p1, pi[drawn] / (1 - share)]))


def capped(chance: np.ndarray, size: int, *, most: float) -> np.ndarray:
    """Inclusion probabilities proportional to `chance` whose sum is `size` (or all that `most` allows)."""
    pi = np.zeros(len(chance))
    full = np.zeros(len(chance), dtype=bool)
    for _ in range(len(chance)):
        left = size - most * full.sum()
        if left <= 0 or full.all():
            break
        pi = np.where(full, most, chance * left / chance[~full].sum())
        over = (pi > most) & ~full
        if not over.any():
            break
        full |= over
    return np.minimum(np.where(full, most, pi), most)


def systematic(pi: np.ndarray, start: float) -> np.ndarray:
    """Rows drawn with inclusion probabilities pi, by equal steps along their sum (Madow, 1949); `start`: 0 to 1."""
    along = np.concatenate([[0.0], np.cumsum(pi)])
    marks = start % 1.0 + np.arange(int(np.ceil(along[-1])) + 1)
    found = np.searchsorted(along, marks[marks < along[-1]], side="right") - 1
    return np.unique(found)


def uncertainty(known: np.ndarray, labels: np.ndarray, others: np.ndarray, target: Target) -> np.ndarray:
    """How unsure a committee of linear students is about other posts, [n], at least 0; 0 everywhere if none can learn.

    Scores: standard deviation over the committee. Classes and labels: entropy of its mean probabilities.
    """
    have = np.isfinite(labels).reshape(len(labels), -1).all(1)
    have &= (labels.reshape(len(labels), -1) >= 0).all(1) if target.shape != NUMBER else True
    known, labels = known[have], labels[have]
    random = np.random.default_rng(0)
    if len(known) < 4:
        return np.zeros(len(others))
    draws = [random.integers(0, len(known), len(known)) for _ in range(COMMITTEE)]
    if target.shape == NUMBER:
        said = [Ridge(alpha=len(known)).fit(known[rows], labels[rows]).predict(others) for rows in draws]
        return np.asarray(np.std(said, axis=0))
    if target.shape == NAMES:
        columns = [_probability(known, labels[:, k].astype(int), others, draws, [0, 1]) for k in range(labels.shape[1])]
        return np.asarray(np.sum([_entropy(column) for column in columns], axis=0))
    return _entropy(_probability(known, labels.astype(int), others, draws, list(range(len(target.groups)))))


def _probability(
    known: np.ndarray, labels: np.ndarray, others: np.ndarray, draws: list[np.ndarray], names: list[int]
) -> np.ndarray:
    """Mean probabilities of the committee, [n, names]."""
    total = np.zeros((len(others), len(names)))
    for rows in draws:
        seen = np.unique(labels[rows])
        if len(seen) < 2:
            total[:, names.index(int(seen[0]))] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=0.01, max_iter=200).fit(known[rows], labels[rows])
        total[:, [names.index(int(one)) for one in model.classes_]] += model.predict_proba(others)
    return total / len(draws)


def _entropy(p: np.ndarray) -> np.ndarray:
    return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(1))
