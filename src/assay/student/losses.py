"""What training minimises, as functions of raw outputs and targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.config import Target, Train
from assay.student.heads import ScoreOutput

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(settings: Train, target: Target, output: torch.nn.Module, values: Tensor) -> Loss:
    """The loss on raw outputs [n, outputs] and targets [n]; `values` are the training targets.

    Scores are compared after scaling to [0, 1]; class weights are n / (classes x count).
    """
    if isinstance(output, ScoreOutput):
        span = output.high - output.low
        kind = F.huber_loss if settings.loss == "huber" else F.mse_loss

        def score_loss(raw: Tensor, wanted: Tensor) -> Tensor:
            return 10 * kind(output(raw) / span, wanted / span)

        return score_loss
    weight = None
    if settings.class_weights == "balanced" and target.kind == "classes":
        counts = torch.bincount(values.long(), minlength=len(target.names)).float().clamp(min=1)
        weight = counts.sum() / (len(counts) * counts)

    def class_loss(raw: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(raw, wanted.long(), weight=weight, label_smoothing=settings.label_smoothing)

    return class_loss
