"""How often a post is drawn in an epoch: rare classes, labels and score bands more often."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from assay.targets import Target


def post_weights(values: dict[str, np.ndarray], targets: dict[str, Target]) -> Tensor:
    """A weight a post, float64 [n]: the inverse frequency of its class or band, or of its rarest label.

    Of a joint student, the mean over tasks.
    """
    return torch.from_numpy(np.mean([_one(values[name], target) for name, target in targets.items()], axis=0))


def _one(values: np.ndarray, target: Target) -> np.ndarray:
    _, index, counts = np.unique(target.strata_with_gaps(values), return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[index])
