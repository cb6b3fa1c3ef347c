"""How often a post is drawn in an epoch: rare classes, labels and score bands more often."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from assay.config import ClassesTarget, LabelsTarget, Target


def post_weights(values: dict[str, np.ndarray], targets: dict[str, Target]) -> Tensor:
    """A weight a post, float64 [n]: the inverse frequency of its class or band, or of its rarest label.

    Of a joint student, the mean over tasks.
    """
    return torch.from_numpy(np.mean([_one(values[name], target) for name, target in targets.items()], axis=0))


def _one(values: np.ndarray, target: Target) -> np.ndarray:
    if isinstance(target, LabelsTarget):
        held = np.nan_to_num(values) > 0.5
        counts, none = held.sum(0), int((~held.any(1)).sum())
        inverse = np.where(held, 1 / np.maximum(counts, 1), 0).max(1)
        return np.where(held.any(1), inverse, 1 / max(none, 1))
    if isinstance(target, ClassesTarget):
        stratum = values
    else:
        stratum = np.digitize(values, target.bands or np.nanquantile(values, [0.2, 0.4, 0.6, 0.8]))
    _, index, counts = np.unique(stratum, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[index])
