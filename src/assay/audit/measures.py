"""Measures of one space: nearness, association, separation, centroids, dispersion. Each beside its floor.

Notation: activity i, groups n (the reference), a, b; replicate r (a template with a seed). k is the
likeness of two images: the cosine, or the split-product of patches.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import t as student_t

from assay.audit.found import UNKNOWN, Dispersion, DispersionGap, MeanTest, Nearness, Test, Weat
from assay.audit.inference import Draws, mean_interval, mean_test, p_value, percentile
from assay.audit.spaces import Space
from assay.config import Statistics
from assay.measure.found import Interval


class Measures:
    """The measures of one space, with the random draws that they share."""

    def __init__(self, space: Space, settings: Statistics) -> None:
        self.space, self.settings = space, settings
        self.n = len(space.there)
        self.draws = Draws.of(self.n, settings)
        self.paired = _mean_over(space.likeness, _pairs(space, same=True))  # [A, G, G]
        other = _pairs(space, same=False)
        self.has_seeds = bool(other.any((1, 2)).all())  # every activity has a prompt with two seeds
        self.crossed = _mean_over(space.likeness, other) if self.has_seeds else None
        self._other = other

    # ------------------------------------------------------------------------------- nearness

    def nearness(self, reference: int, group: int) -> Nearness:
        """Mean likeness of the reference to a group: of images with the same seed, and with other seeds.

        `floor` is the likeness of images of the very same prompt with other seeds; what is as near as that is no
        farther away than chance puts two images of one prompt.
        """
        values = self.paired[:, reference, group]
        found: Nearness = {"same_seed": self._mean(values)}
        if self.crossed is not None:
            found["other_seeds"] = self._mean(self.crossed[:, reference, group])
            found["floor"] = self._mean(self.crossed[:, reference, reference])
        return found

    def leans(self, reference: int, first: int, second: int) -> np.ndarray:
        """[A] k(n, a) - k(n, b), over images with the same seed: above 0 the reference is nearer to the first."""
        return np.asarray(self.paired[:, reference, first] - self.paired[:, reference, second], dtype=float)

    def lean(self, reference: int, first: int, second: int) -> MeanTest:
        """The mean lean with its test; `floor`: the lean that permuted groups reach in 95 of 100 draws."""
        values = self.leans(reference, first, second)
        found = mean_test(values, self.draws, self.settings)
        found["floor"] = float(np.quantile(np.abs(self.draws.signs @ values / self.n), 0.95))
        found["position"] = self._position(reference, first, second)
        return found

    def _position(self, reference: int, first: int, second: int) -> Interval:
        """Where on the way from the first group (0) to the second (1) the reference stands.

        For vectors of length 1 the projection of n on the way from a to b is
        1/2 - (k(n,a) - k(n,b)) / (2 (1 - k(a,b))); here as a ratio of means over activities.
        """
        lean, apart = self.leans(reference, first, second), 1 - self.paired[:, first, second]
        if apart.mean() < 1e-9:
            return UNKNOWN.copy()
        weights = self.draws.weights
        low, high = percentile(0.5 - (weights @ lean) / (2 * np.maximum(weights @ apart, 1e-12)))
        return {"value": float(0.5 - lean.mean() / (2 * apart.mean())), "low": low, "high": high}

    def lean_all(self, reference: int, first: int, second: int) -> MeanTest:
        """The lean of all images of the reference to all of two groups, those of other activities too, with its test.

        Half of how much nearer, in squared distance, the mean of the reference is to the mean of the first group than
        to that of the second: (n - (a + b) / 2)(a - b) for means n, a and b over activities, from pairs of different
        activities i and j, so that chance adds nothing. A reference halfway between the means has 0, however the groups
        are dispersed. One image of a person is compared with one in `lean`, and tells little; here with all.
        `position` is where on the way from the first group (0) to the second (1) the mean of the reference stands.
        """
        one, other = self._means(first), self._means(second)
        apart, off = (one - other).astype(float), (self._means(reference) - (one + other) / 2).astype(float)
        products = off @ apart.T
        means, errors = studentised(products, np.vstack([np.ones((1, self.n), np.float32), self.draws.signs]))
        ratios = means / errors
        value, error = float(means[0]), float(errors[0])
        half = float(student_t.ppf(0.975, self.n - 1)) * error
        figure: MeanTest = {
            "value": value,
            "low": value - half,
            "high": value + half,
            "p": p_value(float(ratios[0]), ratios[1:]),
            "activities": self.n,
            "floor": float(np.quantile(np.abs(means[1:]), 0.95)),
            "effect": value / (error * self.n**0.5),
            "sd": error * self.n**0.5,
            "position": UNKNOWN.copy(),
        }
        way = apart @ apart.T
        length = float(_off_diagonal(way, np.ones((1, self.n), np.float32))[0])
        if length <= 1e-9:
            return figure
        ways = np.maximum(_off_diagonal(way, self.draws.weights), 1e-9)
        low, high = percentile(0.5 - _off_diagonal((products + products.T) / 2, self.draws.weights) / ways)
        figure["position"] = {"value": 0.5 - value / length, "low": low, "high": high}
        return figure

    # ---------------------------------------------------------------------------- association

    def associations(self, reference: int, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """[A] mean k(n, a) - mean k(n, b) over all images of an activity, and [A] the variance of k(n, x) of any x.

        All replicates are compared with all of the same template.
        """
        allowed = _pairs(self.space, same=True) | self._other
        to_first, to_second = (self._values(reference, group, allowed) for group in (first, second))
        difference = np.nanmean(to_first, (1, 2)) - np.nanmean(to_second, (1, 2))
        both = np.concatenate([to_first, to_second], axis=2)  # [A, R of n, 2 R]
        with warnings.catch_warnings():  # of replicates that are not there
            warnings.simplefilter("ignore", RuntimeWarning)
            variance = np.nanmean(np.nanvar(both, axis=2, ddof=1), axis=1)
        return difference, variance

    def single_category(self, reference: int, first: int, second: int) -> Test:
        """SC-WEAT (Caliskan et al., 2017): the association of the reference with two groups, over its spread.

        Reference and groups are compared within an activity, and the variances of the activities are pooled.
        """
        difference, variance = self.associations(reference, first, second)
        scale = float(np.sqrt(np.nanmean(variance)))
        if not scale > 1e-9:
            return Test(value=None, low=None, high=None, p=None, floor=None)
        weights = self.draws.weights
        spreads = np.sqrt(np.maximum(weights @ np.nan_to_num(variance) / self.n, 1e-18))
        low, high = percentile(weights @ difference / self.n / spreads)
        permuted = self.draws.signs @ difference / self.n / scale
        value = float(difference.mean()) / scale
        floor = float(np.quantile(np.abs(permuted), 0.95))
        return {"value": value, "low": low, "high": high, "p": p_value(value, permuted), "floor": floor}

    def by_category(
        self, reference: int, first: int, second: int, categories: list[str], minimum: int
    ) -> dict[str, MeanTest]:
        """By category of activity: the mean lean with its test, and WEAT of this category against all others.

        WEAT (Caliskan et al., 2017): d = (mean of the leans in the category - mean of the others) / standard
        deviation of all; its p-value permutes the categories over activities.
        """
        values, names = self.leans(reference, first, second), np.array(categories)
        shuffled = np.random.default_rng([self.settings.seed, 77]).permuted(
            np.tile(np.arange(self.n), (min(self.settings.permutations, 1999), 1)), axis=1
        )
        found: dict[str, MeanTest] = {}
        for name in dict.fromkeys(categories):
            inside = names == name
            if inside.sum() < max(minimum, 3):
                nothing = MeanTest(value=None, low=None, high=None, p=None, activities=int(inside.sum()), too_few=True)
                found[name] = nothing
                continue
            own = values[inside]
            found[name] = mean_test(own, Draws.of(len(own), self.settings, salt=1), self.settings)
            if 0 < inside.sum() < self.n - 2 and values.std() > 0:
                permuted = _weat(values[shuffled], inside)
                d = float(_weat(values[None], inside)[0])
                found[name]["weat"] = Weat(value=d, p=p_value(d, permuted))
        return found

    # ----------------------------------------------------------------------------- separation

    def separation(self, first: int, second: int) -> Test:
        """How much less alike images of two groups are than images of one prompt, seeds always differing.

        ((k(a,a') + k(b,b')) / 2 - k(a,b')) is half of the squared distance of their means in the kernel's space
        (Gretton et al., 2012), without the noise of seeds. Permuted are the groups of each replicate on its own.
        """
        if not self.has_seeds:
            return Test(value=None, low=None, high=None, p=None)
        k = self.space.likeness
        contrast = k[:, first, :, first] + k[:, second, :, second] - k[:, first, :, second] - k[:, second, :, first]
        contrast = np.where(self._other, np.nan_to_num(contrast), 0) / 2  # [A, R, R]
        count = self._other.sum((1, 2))
        values = contrast.sum((1, 2)) / count
        rng = np.random.default_rng([self.settings.seed, 5])
        permuted = np.zeros(min(self.settings.permutations, 1999))
        for at in range(len(permuted)):
            signs = rng.integers(0, 2, size=contrast.shape[:2]) * 2 - 1
            permuted[at] = (np.einsum("ar,ars,as->a", signs, contrast, signs) / count).mean()
        low, high = mean_interval(values, self.draws.weights)
        value = float(values.mean())
        p = p_value(value, permuted, two_sided=False)
        return {"value": value, "low": low, "high": high, "p": p, "floor": float(np.quantile(permuted, 0.95))}

    def centroids(self, first: int, second: int) -> Test:
        """The distance of two groups' centroids over activities, 0 to 2, freed from the part that chance adds.

        The squared distance is the mean over pairs of different activities i, j of (a_i - b_i)(a_j - b_j), whose
        expectation is 0 where groups do not differ; its root keeps the sign. `floor`: 95 % of permutations are below.
        """
        gaps = self._means(first) - self._means(second)  # [A, d]
        gram = gaps @ gaps.T
        value = _off_diagonal(gram, np.ones((1, self.n), np.float32))[0]
        spread = _off_diagonal(gram, self.draws.weights)
        signs = self.draws.signs[:1999]
        permuted = (((signs @ gaps) ** 2).sum(1) - np.trace(gram)) / (self.n * (self.n - 1))
        low, high = percentile(_root(spread))
        p = p_value(float(value), permuted, two_sided=False)
        floor = float(_root(np.quantile(permuted, 0.95)))
        return {"value": float(_root(value)), "low": low, "high": high, "p": p, "floor": floor}

    # ----------------------------------------------------------------------------- dispersion

    def dispersion(self, group: int) -> Dispersion:
        """How far images of one group are from each other, as mean distance 1 - k, and how many kinds there seem to be.

        `across`: between activities. `within`: same prompt, other seeds. `vendi`: the Vendi score (Friedman and Dieng,
        2023) of the images of one activity, 1 to their number: the effective number of different images.
        """
        found: Dispersion = {}
        if self.space.vectors is not None:
            means = self._means(group)
            gram = means @ means.T
            low, high = percentile(1 - _off_diagonal(gram, self.draws.weights))
            value = float(1 - _off_diagonal(gram, np.ones((1, self.n), np.float32))[0])
            found["across"] = {"value": value, "low": low, "high": high}
        if self.crossed is not None:
            found["within"] = self._mean(1 - self.crossed[:, group, group])
            found["vendi"] = self._mean(self._vendi(group))
        return found

    def dispersion_gap(self, first: int, second: int) -> DispersionGap:
        """The dispersion of the first group less that of the second: below 0 the first is the more uniform."""
        found: DispersionGap = {}
        if self.space.vectors is not None:
            found["across"] = self._across_gap(first, second)
        if self.crossed is not None:
            within = self.crossed[:, second, second] - self.crossed[:, first, first]
            found["within"] = mean_test(np.asarray(within, float), self.draws, self.settings)
            vendi = self._vendi(first) - self._vendi(second)
            found["vendi"] = mean_test(vendi, self.draws, self.settings)
        return found

    def _across_gap(self, first: int, second: int) -> Test:
        """Its p-value is of a jackknife t-test: permuting groups would take a shift for a difference of dispersion."""
        one, other = self._means(first), self._means(second)
        weights = self.draws.weights
        value = _off_diagonal(other @ other.T, np.ones((1, self.n), np.float32))[0]
        value -= _off_diagonal(one @ one.T, np.ones((1, self.n), np.float32))[0]
        low, high = percentile(_off_diagonal(other @ other.T, weights) - _off_diagonal(one @ one.T, weights))
        spread = self._jackknife(other) - self._jackknife(one)
        error = float(np.sqrt((self.n - 1) / self.n * ((spread - spread.mean()) ** 2).sum()))
        p = float(2 * student_t.sf(abs(value) / error, self.n - 1)) if error else 1.0
        return {"value": float(value), "low": low, "high": high, "p": p}

    def _jackknife(self, means: np.ndarray) -> np.ndarray:
        """[A] the mean likeness between activities without each of them."""
        gram = means @ means.T
        total, own = gram.sum() - np.trace(gram), gram.sum(1) - np.diag(gram)
        return np.asarray((total - 2 * own) / ((self.n - 1) * (self.n - 2)))

    def _vendi(self, group: int) -> np.ndarray:
        found = np.full(self.n, np.nan)
        for i, there in enumerate(self.space.there):
            gram = self.space.likeness[i, group][:, group][np.ix_(there, there)].astype(float)
            found[i] = vendi(gram)
        return found

    # --------------------------------------------------------------------------------- helpers

    def _mean(self, values: np.ndarray) -> Interval:
        values = np.asarray(values, dtype=float)
        low, high = mean_interval(values, self.draws.weights)
        return {"value": float(values.mean()), "low": low, "high": high}

    def _means(self, group: int) -> np.ndarray:
        """[A, d] the mean vector of a group's images of each activity."""
        assert self.space.vectors is not None
        return np.asarray(self.space.vectors[:, group].sum(1) / self.space.there.sum(1)[:, None], dtype=np.float32)

    def _values(self, one: int, other: int, allowed: np.ndarray) -> np.ndarray:
        """[A, R, R] likeness of two groups' images, NaN where a pair is not allowed."""
        return np.where(allowed, self.space.likeness[:, one, :, other], np.nan)


def vendi(gram: np.ndarray) -> float:
    """The Vendi score of n items from their likeness [n, n] with ones on the diagonal: exp of the entropy of K/n."""
    eigenvalues = np.linalg.eigvalsh((gram + gram.T) / 2 / len(gram))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def _pairs(space: Space, *, same: bool) -> np.ndarray:
    """bool [A, R, R]: pairs of replicates that are there and are the same, or others of the same template."""
    own = np.eye(len(space.templates), dtype=bool)
    alike = np.array([[a == b for b in space.templates] for a in space.templates], dtype=bool)
    wanted = own if same else alike & ~own
    return np.asarray(space.there[:, :, None] & space.there[:, None, :] & wanted)


def _mean_over(likeness: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """[A, G, G] mean likeness over the allowed pairs of replicates."""
    total = np.einsum("agrhs,ars->agh", np.nan_to_num(likeness), allowed.astype(np.float32), optimize=True)
    return np.asarray(total / np.maximum(allowed.sum((1, 2)), 1)[:, None, None], dtype=float)


def _off_diagonal(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B] the weighted mean of gram [A, A] over pairs of different activities, for weights [B, A]."""
    weights = weights.astype(float)
    diagonal = np.diag(gram)
    total = ((weights @ gram) * weights).sum(1) - (weights**2) @ diagonal
    return np.asarray(total / np.maximum(weights.sum(1) ** 2 - (weights**2).sum(1), 1e-12))


def studentised(products: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[P] means of products [A, A] over pairs of different activities, columns by each row of signs [P, A], and their
    standard errors.

    That of a U-statistic of the second degree (Hoeffding, 1948): four times the variance of its projections, less what
    noise of the second order adds to these beyond what it adds to the mean; where groups do not differ, half.
    """
    n, signs = len(products), signs.astype(float)
    off = products - np.diag(np.diag(products))
    part = (signs * off.sum(0) + signs @ off.T) / (2 * (n - 1))  # [P, A] each activity's mean with all others
    means = part.mean(1)
    squares = ((off**2).sum() + ((signs @ (off * off.T)) * signs).sum(1)) / 2
    noise = np.maximum(squares - 2 * n * (part**2).sum(1) + n * (n + 1) * means**2, 0) / (n * (n - 1))
    spread, second = 4 * part.var(axis=1, ddof=1) / n, 2 * noise / (n * (n - 1))
    return means, np.sqrt(np.maximum(np.maximum(spread - second, second), 1e-24))


def _root(squared: np.ndarray | float) -> np.ndarray:
    return np.asarray(np.sign(squared) * np.sqrt(np.abs(squared)))


def _weat(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """[P] WEAT's effect size of values [P, A], of the activities inside against the others."""
    gap = values[:, inside].mean(1) - values[:, ~inside].mean(1)
    return np.asarray(gap / values.std(axis=1, ddof=1))
