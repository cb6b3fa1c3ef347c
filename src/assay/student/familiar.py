"""Whether a post is like those that a student learnt from: conformal p-values of Mahalanobis distances.

For each modality the features of the training posts, brought to unit length, are described by probabilistic PCA
(Tipping and Bishop, 1999): the main directions with their variances, and one variance for all others. The distance of
a post under it (Lee et al., 2018) is compared with those of held-out posts: the share of these that lie at least as
far is a valid p-value for "drawn like them" (Bates et al., 2023). A score of a post that is unlike them rests on
nothing that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from assay.errors import ModelError

FILE = "familiar.safetensors"
DIRECTIONS = 64
FEWEST, FEWEST_HELD = 20, 50  # training and held-out posts; with fewer nothing is said of a modality
LEVEL = 0.01  # of ordinary posts at most so many are called unlike, where there are 200 held-out ones or more
NAMES = ("mean", "basis", "variance", "rest", "held")


@dataclass(frozen=True)
class Seen:
    """What is kept of one modality."""

    mean: np.ndarray  # [d]
    basis: np.ndarray  # [d, k], orthonormal
    variance: np.ndarray  # [k], along these directions
    rest: np.ndarray  # [1], along each other one
    held: np.ndarray  # [m], squared distances of held-out posts, rising

    @classmethod
    def fit(cls, train: np.ndarray, held: np.ndarray) -> Seen | None:
        """From features of training and held-out posts, [n, d] and [m, d]; None where there are too few."""
        if len(train) < FEWEST or len(held) < FEWEST_HELD:
            return None
        unit = _unit(train)
        mean = unit.mean(0)
        _, sizes, directions = np.linalg.svd(unit - mean, full_matrices=False)
        variance = sizes**2 / (len(train) - 1)
        k = max(1, min(DIRECTIONS, len(train) // 4, train.shape[1] - 1))
        rest = variance[k:].sum() / max(1, train.shape[1] - k)
        floor = max(float(variance.sum()) / train.shape[1] * 1e-3, 1e-9)
        kept = np.maximum(variance[:k], floor), np.array([max(rest, floor)])
        seen = cls(mean, directions[:k].T, *kept, np.zeros(0)).as_float32()
        return replace(seen, held=np.sort(seen.distances(held)).astype(np.float32))

    def as_float32(self) -> Seen:
        """As it is kept."""
        return Seen(*(np.ascontiguousarray(getattr(self, name), dtype=np.float32) for name in NAMES))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """The squared distance of each post, [n]."""
        off = _unit(features) - self.mean
        along = off @ self.basis
        beside = np.maximum((off**2).sum(1) - (along**2).sum(1), 0)
        return np.asarray((along**2 / self.variance).sum(1) + beside / self.rest[0])

    def p_values(self, features: np.ndarray) -> np.ndarray:
        """The share of held-out posts that lie at least as far, the post itself counted, [n]."""
        farther = len(self.held) - np.searchsorted(self.held, self.distances(features).astype(np.float32), side="left")
        return np.asarray((farther + 1) / (len(self.held) + 1))


@dataclass(frozen=True)
class Familiar:
    """What a student knows of the posts that it learnt from, by modality."""

    seen: dict[str, Seen]

    @classmethod
    def fit(cls, train: Mapping[str, np.ndarray], held: Mapping[str, np.ndarray]) -> Familiar | None:
        """From the features of posts that have a modality, by modality; None where nothing can be said."""
        found = {name: seen for name in train if (seen := Seen.fit(train[name], held[name])) is not None}
        return cls(found) if found else None

    def __call__(
        self, features: Mapping[str, np.ndarray], has: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """How familiar posts are, float [n], and whether they are unlike those learnt from, bool [n].

        `features` [n, d] and `has` (bool [n]) by modality. Familiarity is a p-value, 0 to 1: the smallest of the
        post's modalities times how many it has (Bonferroni); nan: not known. Unlike is what has one of at most 1 %,
        or where fewer posts were held out, what lies farther than all of these.
        """
        count = len(next(iter(has.values())))
        told = np.sum([has[name] for name in self.seen], axis=0)
        familiarity, unlike = np.full(count, np.nan), np.zeros(count, bool)
        for name, seen in self.seen.items():
            rows = np.flatnonzero(has[name])
            if len(rows):
                own = np.minimum(told[rows] * seen.p_values(features[name][rows]), 1.0)
                familiarity[rows] = np.fmin(familiarity[rows], own)
                unlike[rows] |= own <= np.maximum(LEVEL, told[rows] / (len(seen.held) + 1))
        return familiarity, unlike

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        tensors = {f"{b}.{n}": np.ascontiguousarray(getattr(seen, n)) for b, seen in self.seen.items() for n in NAMES}
        save_file(tensors, folder / FILE)

    @classmethod
    def load(cls, folder: Path, dims: Mapping[str, int]) -> Familiar | None:
        """Read it from a model folder, None where it has none; ModelError unless it fits encoders of these sizes."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path}: {' '.join(str(error).split())[:160]}; train again") from error
        branches = {name.split(".")[0] for name in tensors}
        if not branches <= set(dims) or set(tensors) != {f"{b}.{n}" for b in branches for n in NAMES}:
            raise ModelError(f"{path}: its tensors are not those of this student; train again")
        found = {b: Seen(*(tensors[f"{b}.{n}"] for n in NAMES)) for b in sorted(branches)}
        for branch, seen in found.items():
            d, k = dims[branch], seen.basis.shape[-1]
            arrays = [getattr(seen, name) for name in NAMES]
            wanted = [(d,), (d, k), (k,), (1,), (len(seen.held),)]
            fits = [array.shape for array in arrays] == wanted and len(seen.held) > 0 and k > 0
            sound = all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)
            if not fits or not sound or min(seen.variance.min(), seen.rest[0]) <= 0:
                raise ModelError(f"{path}: {branch} has other sizes than config.json, or no numbers; train again")
        return cls(found) if found else None


def _unit(rows: np.ndarray) -> np.ndarray:
    found = rows.astype(np.float64)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-8))
