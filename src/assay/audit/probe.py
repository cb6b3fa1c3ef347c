"""A linear probe: can the group be told from a vector alone, for activities that the probe has not seen?"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from assay.audit.found import Accuracy
from assay.audit.inference import Draws, mean_interval, p_value
from assay.audit.spaces import Space
from assay.config import Statistics

FOLDS = 5
MOST_DIMENSIONS = 128
PENALTY = 10.0


class Probe:
    """Ridge regression on one-hot groups, over principal components of all images, which know no group."""

    def __init__(self, space: Space, draws: Draws, settings: Statistics) -> None:
        assert space.vectors is not None
        self.there, self.draws, self.settings = space.there, draws, settings
        activities, groups, replicates, width = space.vectors.shape
        rows = np.broadcast_to(space.there[:, None, :], (activities, groups, replicates)).reshape(-1)
        flat = space.vectors.reshape(-1, width)
        size = min(MOST_DIMENSIONS, width, int(rows.sum()) - 1)
        reduced = PCA(size, random_state=0).fit(flat[rows]).transform(flat)
        self._x = (reduced / (reduced[rows].std() or 1.0)).reshape(activities, groups, replicates, size)

    def accuracy(self, groups: list[int]) -> Accuracy:
        """Accuracy of telling `groups` apart, out of fold by activity, with interval, p-value, chance and floor.

        Permutations deal the groups anew within every activity, and the probe learns again.
        """
        settings, picked = self.settings, self._x[:, groups]  # [A, g, R, d]
        activities, count, replicates, width = picked.shape
        rng = np.random.default_rng([settings.seed, 9])  # folds first: they are the same for any number of permutations
        places = rng.permuted(np.arange(activities) % FOLDS)
        as_is = np.tile(np.arange(count), (activities, 1))
        dealt = np.stack([as_is, *(rng.permuted(as_is, axis=1) for _ in range(settings.probe_permutations))])
        there = np.broadcast_to(self.there[:, None, :], (activities, count, replicates)).reshape(-1)
        x = picked.reshape(-1, width)[there]
        owner = np.repeat(np.arange(activities), count * replicates)[there]
        said = np.repeat(dealt[..., None], replicates, axis=3).reshape(len(dealt), -1)[:, there]  # [1 + P, rows]
        fold = places[owner]
        right = np.zeros((len(dealt), len(x)), dtype=bool)
        for k in range(min(FOLDS, activities)):
            train, test = fold != k, fold == k
            targets = (said[:, train, None] == np.arange(count)).astype(np.float32)  # [1 + P, rows, g]
            model = Ridge(PENALTY).fit(x[train], targets.transpose(1, 0, 2).reshape(int(train.sum()), -1))
            scores = model.predict(x[test]).reshape(int(test.sum()), len(dealt), count)
            right[:, test] = said[:, test] == scores.argmax(2).T
        images = np.maximum(np.bincount(owner, minlength=activities), 1)
        by_activity = np.stack([np.bincount(owner, row, activities) for row in right.astype(float)]) / images
        value, permuted = float(by_activity[0].mean()), by_activity[1:].mean(1)
        low, high = mean_interval(by_activity[0], self.draws.weights)
        return {
            "value": value,
            "low": max(0.0, low),
            "high": min(1.0, high),
            "p": p_value(value, permuted, two_sided=False),
            "chance": 1 / count,
            "floor": float(np.quantile(permuted, 0.95)),
        }
