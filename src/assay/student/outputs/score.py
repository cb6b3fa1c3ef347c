"""A bounded score: a sigmoid stretched over the range, and the losses of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.measure import calibrate
from assay.student.outputs.base import Loss, LossContext, Output
from assay.targets import Target


def mse(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Squared distance of scores scaled to [0, 1], times ten."""
    return 10 * F.mse_loss(torch.sigmoid(raw.squeeze(1)), _share(wanted, context), reduction="none")[:, None]


def huber(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Huber's loss of scores scaled to [0, 1], times ten."""
    return 10 * F.huber_loss(torch.sigmoid(raw.squeeze(1)), _share(wanted, context), reduction="none")[:, None]


def ordinal(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """The absolute distance plus cross-entropy to the share of the range.

    So the order of scores counts, and far misses are not alone in charge.
    """
    share = _share(wanted, context)
    entropy = F.binary_cross_entropy_with_logits(raw.squeeze(1), share, reduction="none")
    return (5 * (torch.sigmoid(raw.squeeze(1)) - share).abs() + entropy)[:, None]


def _share(wanted: Tensor, context: LossContext) -> Tensor:
    output = context.output
    return (wanted - output.low) / (output.high - output.low)  # type: ignore[operator]


class ScoreOutput(Output):
    """Bounded regression: a sigmoid stretched over [min, max], so that no score lies outside."""

    outputs = 1
    is_linear = True
    losses: ClassVar[Mapping[str, Loss]] = {"mse": mse, "huber": huber, "ordinal": ordinal}

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.low, self.high = target.bounds

    def start(self, values: Tensor) -> Tensor:
        """The logit of the training mean."""
        share = ((values.mean() - self.low) / (self.high - self.low)).clamp(0.02, 0.98)
        return torch.logit(share).reshape(1)

    def forward(self, raw: Tensor) -> Tensor:
        """[n, 1] -> scores [n]."""
        return self.low + (self.high - self.low) * torch.sigmoid(raw.squeeze(1))

    def bend(self, linear: Tensor) -> Tensor:
        """The logit of a share of the range."""
        return torch.logit(linear.clamp(0.01, 0.99))

    def soft_loss(self, raw: Tensor, soft: Tensor, hard: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return hard(raw, soft.squeeze(1))

    def calibrate(self, target: Target, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """The 90 % residual."""
        half = calibrate.residual_quantile(y, p, weights=weights)
        return {"residual_q90": round(half, 6)} if half is not None else {}
