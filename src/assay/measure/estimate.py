"""The core of all findings: means over domains of a corpus, from predictions of every post and labels of a sample.

    theta_d = mean of lambda f over domain d + mean of r = y - lambda f over its labelled posts, weighted by 1 / pi

which is a survey's difference estimator (Särndal, Swensson and Wretman, 1992) and, with lambda tuned, a form of
prediction-powered inference (PPI++; Angelopoulos, Duchi and Zrnic, 2023), cross-fitted (Zrnic and Candès, 2024): what f
says of a labelled post comes from a student that never saw it, also in the first mean. A labelled post moves theta_d by
its influence u = w (r - mean of r) / sum of w; sums of squares of these within strata and clusters give the variance,
and since each domain's influences stand on the same posts, all covariances.

Two things can be estimated. *These posts*: the corpus is what it is, and chance lies in which posts were labelled;
clusters are posts, and what is labelled whole is known. *Posts like these*: the corpus itself is a draw; clusters are
authors (or leakage groups), and the spread of the predictions counts too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from assay.measure import intervals
from assay.measure.metrics import Figure

Array = np.ndarray
Of = Literal["these_posts", "posts_like_these"]
LEAST_EFFECTIVE = 5.0  # effective clusters with a label, (sum w)^2 / sum w^2, below which there is no interval
PULL = 30.0  # labels that the trust of the whole corpus counts for beside a domain's own
PULL_SHARES = 10.0  # the same for what a rare share's variance is made from, in posts that have it


@dataclass(frozen=True)
class Design:
    """Which posts are labelled, and how they came to be; n posts are scored, m of them labelled."""

    n: int
    rows: Array  # int [m], the place of each labelled post
    weight: Array  # float [m], 1 / pi
    stratum: Array  # int [m], 0 to H - 1
    cluster: Array  # int [n], of every post; used for posts like these, and where groups were held out together
    of: Of = "these_posts"
    learnt: Array | None = None  # bool [n], posts with a label that the student learnt from; they count with these

    @property
    def is_clustered(self) -> bool:
        """Whether chance takes whole clusters: of authors, or of leakage groups that were held out together."""
        return self.of == "posts_like_these" or self.learnt is not None

    @property
    def left(self) -> Array:
        """1 - pi of each labelled post: how much of it is chance; 1 for posts like these."""
        return np.asarray(np.clip(1 - 1 / self.weight, 0, 1)) if self.of == "these_posts" else np.ones(len(self.rows))


@dataclass(frozen=True)
class Chance:
    """How influences of clusters become covariances: sums of products in strata, less those of the strata's means."""

    stratum: Array  # int [clusters]
    left: Array  # [clusters], the part of each that is chance

    def scaled(self, influence: sparse.csr_array) -> sparse.csr_array:
        """Influences [D, clusters] times the root of (1 - pi) n / (n - 1) of their stratum."""
        counts = np.bincount(self.stratum)
        factor = np.sqrt(self.left * (counts / np.maximum(counts - 1, 1))[self.stratum])
        return sparse.csr_array(influence @ sparse.diags_array(factor))

    def products(self, a: sparse.csr_array, b: sparse.csr_array) -> Array:
        """The covariance of each row of a with the same row of b, both scaled, [D]."""
        whole = np.asarray(a.multiply(b).sum(1))
        strata = indicator(self.stratum)
        counts = np.maximum(np.bincount(self.stratum, minlength=strata.shape[1]), 1)
        one, other = a @ strata, b @ strata @ sparse.diags_array(1 / counts)
        return np.asarray(whole - np.asarray(sparse.csr_array(one).multiply(other).sum(1)))

    def centred(self, draws: Array) -> Array:
        """Multipliers [clusters, B] less their mean in each stratum: influence @ these has the right covariance."""
        strata = indicator(self.stratum)
        counts = np.maximum(np.bincount(self.stratum, minlength=strata.shape[1]), 1)[:, None]
        return np.asarray(draws - strata @ ((strata.T @ draws) / counts))


@dataclass(frozen=True)
class Joint:
    """Estimates over D domains whose errors are known together."""

    value: Array  # [D]
    plain: Array  # [D], from the labels alone
    influence: sparse.csr_array  # [D, clusters], scaled
    chance: Chance  # what makes covariances of them
    variance: Array  # [D]
    plain_variance: Array  # [D], of the labels alone
    trust: Array  # lambda [D]
    df: Array  # [D]
    effective: Array  # [D], clusters with a label, by Kish's formula
    labels: Array  # int [D], labelled posts
    posts: Array  # int [D]
    positives: Array  # [D], labelled posts that have it (shares)
    are_shares: bool
    bounds: tuple[float, float]
    offset: Array  # [D], what posts that were learnt from give to the value
    part: Array  # [D], the part of each domain that is not of these

    @property
    def known(self) -> Array:
        """Whether there are labels enough for an interval, bool [D]; a domain that is labelled whole needs none."""
        return np.asarray((self.effective >= LEAST_EFFECTIVE) & (self.df > 0) | self.whole)

    @property
    def whole(self) -> Array:
        """Whether every post has a label, bool [D]."""
        return np.asarray((self.labels >= np.round(self.part * self.posts)) & (self.posts > 0))

    def interval(self, level: float = intervals.LEVEL, *, plain: bool = False) -> tuple[Array, Array]:
        """Low and high of each domain; nan where too little is known. `plain`: of the labels alone."""
        value, variance = (self.plain, self.plain_variance) if plain else (self.value, self.variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            value, variance = (value - self.offset) / self.part, variance / self.part**2
        if self.are_shares:
            low, high = intervals.share_interval(value, *self._size(plain=plain), level)
        else:
            low, high = intervals.mean_interval(value, variance, self.df, level)
        low, high = (
            self.offset + np.where(self.part > 0, self.part * np.clip(edge, *self.bounds), 0.0) for edge in (low, high)
        )
        return np.where(self.known, low, np.nan), np.where(self.known, high, np.nan)

    def _size(self, *, plain: bool) -> tuple[Array, Array]:
        """How many posts of a simple random sample would say as much of a share, and the degrees of freedom of that.

        From the variance where many labelled posts have it; where few do, their variance is mostly chance, and the
        design's and the student's effect are drawn to 1 and to those over all domains. What is not told by these labels
        adds nothing to what is not known (Satterthwaite, 1946).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((self.plain - self.offset) / self.part, 1e-12, 1 - 1e-12)
            design = self.plain_variance / self.part**2 * self.effective / (share * (1 - share))
            gain = np.where(self.plain_variance > 0, self.variance / self.plain_variance, 1.0)
        many = np.minimum(self.positives, self.labels - self.positives)
        design = np.where(np.isfinite(design) & (many > 0), design, 1.0)
        left = self.left
        with np.errstate(divide="ignore", invalid="ignore"):
            told = np.where(many > 0, many * design / (many * design + PULL_SHARES * left), 0.0)
            df = self.df / told**2  # where they tell nothing of it, as of a design that is known
        design = (many * design + PULL_SHARES * left) / (many + PULL_SHARES)
        whole = float(np.average(gain, weights=np.maximum(many, 1e-9)))
        helped = (many * gain + PULL_SHARES * whole) / (many + PULL_SHARES)
        gain = np.ones_like(gain) if plain else np.where(self.trust > 0, helped, 1.0)
        with np.errstate(divide="ignore"):
            size = self.effective / np.maximum(design * gain, 1e-12)
        return np.where(self.whole & (self.variance == 0), np.inf, size), df

    @property
    def left(self) -> Array:
        """The part of each domain that is not labelled."""
        return np.asarray(np.clip(1 - self.labels / np.maximum(self.part * self.posts, 1), 0, 1))

    def contrast(self, weights: Array, df: float) -> Figure:
        """A sum of the estimates times weights [D], such as a difference or a slope; those of weight 0 may be nan."""
        value = weights @ np.where(weights == 0, 0, self.value)
        mixed = sparse.csr_array(weights[None, :]) @ self.influence
        variance = self.chance.products(mixed, mixed)[0]
        low, high = intervals.mean_interval(np.array(value), np.array(variance), np.array(df))
        return Figure(float(value), float(low), float(high))

    def covariance(self, a: int, b: int) -> float:
        """The covariance of two domains' errors."""
        return float(self.chance.products(self.influence[[a]], self.influence[[b]])[0])

    def correlation(self, a: int, b: int) -> float:
        """Their correlation; 0 where either is exact."""
        product = float(self.variance[a] * self.variance[b]) ** 0.5
        return float(np.clip(self.covariance(a, b) / product, -1, 1)) if product > 0 else 0.0


def estimate(
    design: Design,
    domains: sparse.csr_array,
    y: Array,
    f: Array,
    *,
    are_shares: bool,
    bounds: tuple[float, float],
    trust: float | None = None,
    learnt: Array | None = None,
) -> Joint:
    """Means over domains, bool [D, n], of what labels y [m] say of every post, with the help of predictions f [n].

    `trust` is lambda over the whole corpus; None: the one that makes its variance smallest. `learnt` [n] has the labels
    of posts that the student learnt from, where there are such: of the rest, chance alone says which are labelled.
    """
    members = sparse.csr_array(domains, dtype=float)
    everyone = np.asarray(members.sum(1))
    offset, part = np.zeros(len(everyone)), np.ones(len(everyone))
    if design.learnt is not None and learnt is not None:
        offset = members @ np.where(design.learnt, learnt, 0) / np.maximum(everyone, 1)
        members = sparse.csr_array(members @ sparse.diags_array((~design.learnt).astype(float)))
        members.eliminate_zeros()
        part = np.asarray(members.sum(1)) / np.maximum(everyone, 1)
    inside = sparse.csr_array(members[:, design.rows])
    w, g = design.weight, f[design.rows]
    posts, labels = np.asarray(members.sum(1)), np.asarray(inside.sum(1))
    sums = inside @ w
    with np.errstate(divide="ignore", invalid="ignore"):
        plain, guessed, all_guessed = inside @ (w * y) / sums, inside @ (w * g) / sums, members @ f / posts
    nothing = (posts == 0) & (everyone > 0)  # learnt from whole: its labels are all known, in the offset
    plain, guessed, all_guessed = (np.where(nothing, 0.0, one) for one in (plain, guessed, all_guessed))
    from_y = influence_of(inside, w, y, plain, sums)
    from_f = influence_of(inside, w, g, guessed, sums)
    weighed = inside @ sparse.diags_array(w)
    if design.is_clustered:
        to_cluster = indicator(design.cluster)
        of_labels = sparse.csr_array(to_cluster[design.rows])
        from_y, from_f, weighed = from_y @ of_labels, from_f @ of_labels, weighed @ of_labels
        if design.of == "posts_like_these":
            from_f = from_f - influence_of(members, np.ones(design.n), f, all_guessed, posts) @ to_cluster
        chance = Chance(np.zeros(to_cluster.shape[1], dtype=np.int64), np.ones(to_cluster.shape[1]))
        strata_seen = np.ones(len(posts))
    else:
        chance = Chance(design.stratum, design.left)
        strata_seen = np.asarray(((inside @ indicator(design.stratum)) > 0).sum(1), dtype=float)
    from_y, from_f = chance.scaled(from_y), chance.scaled(from_f)
    pairs = {"yy": (from_y, from_y), "yf": (from_y, from_f), "ff": (from_f, from_f)}
    own = {name: chance.products(*pair) for name, pair in pairs.items()}
    effective = kish(weighed)
    if trust is None:
        trust = whole_trust(design, y, f)
    tuned = _trust(own, effective, trust)
    positives = inside @ (y > 0.5).astype(float) if are_shares else np.zeros(len(posts))
    if are_shares:  # where all labels agree, nothing there tells whether the student is right
        tuned = np.where((positives > 0) & (positives < labels), tuned, 0.0)
    value = np.clip(plain + tuned * (all_guessed - guessed), *bounds)
    variance = np.maximum(own["yy"] - 2 * tuned * own["yf"] + tuned**2 * own["ff"], 0)
    chancy = part**2 * ~((labels == posts) & (design.of == "these_posts"))
    influence = sparse.diags_array(part) @ (from_y - sparse.diags_array(tuned) @ from_f)
    return Joint(
        value=offset + part * value,
        plain=offset + part * plain,
        influence=sparse.csr_array(influence),
        chance=chance,
        variance=chancy * variance,
        plain_variance=chancy * own["yy"],
        trust=tuned,
        df=effective - strata_seen,
        effective=effective,
        labels=labels.astype(np.int64),
        posts=everyone.astype(np.int64),
        positives=positives,
        are_shares=are_shares,
        bounds=bounds,
        offset=offset,
        part=part,
    )


def whole_trust(design: Design, y: Array, f: Array) -> float:
    """Lambda over the whole corpus, 0 to 1: 0 where predictions tell nothing of the labels."""
    w, g = design.weight, f[design.rows]
    y, g = y - np.average(y, weights=w), g - np.average(g, weights=w)
    spread = float((w**2 * g**2).sum())
    return float(np.clip((w**2 * y * g).sum() / spread, 0, 1)) if spread > 1e-12 else 0.0


def _trust(own: dict[str, Array], effective: Array, whole: float) -> Array:
    """Lambda a domain: its own best, drawn to that of the corpus, and never so that the labels alone are better."""
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.where(own["ff"] > 1e-18, own["yf"] / own["ff"], whole)
    drawn = (effective * np.clip(best, 0, 1) + PULL * whole) / (effective + PULL)
    most = np.where((effective >= PULL) & (own["ff"] > 1e-18), np.maximum(2 * best, 0), 1.0)
    return np.asarray(np.clip(np.minimum(drawn, most), 0, 1))


def influence_of(members: sparse.csr_array, w: Array, values: Array, mean: Array, sums: Array) -> sparse.csr_array:
    """w (value - mean of the domain) / sum of w, [D, posts], where a post is in a domain."""
    found = sparse.csr_array(members, copy=True)
    domain = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
    found.data = w[found.indices] * (values[found.indices] - mean[domain]) / sums[domain]
    return found


def indicator(numbers: Array) -> sparse.csr_array:
    """A 1 at each one's number, [n, numbers]."""
    n, most = len(numbers), int(numbers.max(initial=0)) + 1
    return sparse.csr_array((np.ones(n), (np.arange(n), numbers)), shape=(n, most))


def kish(weighed: sparse.csr_array) -> Array:
    """Effective clusters with a label a domain, (sum w)^2 / sum w^2 over the clusters' weights [D, clusters]."""
    total, squares = np.asarray(weighed.sum(1)), np.asarray(weighed.power(2).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(squares > 0, total**2 / squares, 0.0))
