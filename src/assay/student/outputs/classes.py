"""Exactly one of several classes: softmax with a temperature, and the losses of classes."""

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


def cross_entropy(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Cross-entropy with label smoothing and class weights."""
    wanted, weight = wanted.long(), context.weight
    smoothing = context.settings.label_smoothing
    found = F.cross_entropy(raw, wanted, weight=weight, label_smoothing=smoothing, reduction="none")
    return (found if weight is None else found / weight[wanted].mean())[:, None]


def focal(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Focal loss (Lin et al., 2017): posts that are right already count less."""
    wanted, weight = wanted.long(), context.weight
    gamma = context.settings.focal_gamma
    if not gamma:
        return cross_entropy(raw, wanted, context)
    right = torch.softmax(raw, dim=1).gather(1, wanted[:, None]).squeeze(1)
    entropy = F.cross_entropy(raw, wanted, label_smoothing=context.settings.label_smoothing, reduction="none")
    found = (1 - right) ** gamma * entropy
    return (found if weight is None else found * weight[wanted] / weight[wanted].mean())[:, None]


class ClassesOutput(Output):
    """Classes: logits divided by the temperature that calibration fitted (1 before)."""

    losses: ClassVar[Mapping[str, Loss]] = {"cross_entropy": cross_entropy, "focal": focal}
    temperature: Tensor
    is_linear = True

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.names = len(target.groups)
        self.outputs = self.names
        self.register_buffer("temperature", torch.ones(()))

    def start(self, values: Tensor) -> Tensor:
        """Log frequencies of the classes."""
        return self.prior(values)

    def forward(self, raw: Tensor) -> Tensor:
        """[n, classes] -> probabilities [n, classes]."""
        return torch.softmax(raw / self.temperature, dim=1)

    def uncalibrated(self, raw: Tensor) -> Tensor:
        return torch.softmax(raw, dim=1)

    def prior(self, values: Tensor) -> Tensor:
        """Log shares of the classes, none of them nothing."""
        counts = torch.bincount(values.long(), minlength=self.names).float() + 1
        return torch.log(counts / counts.sum())

    def balanced(self, values: Tensor) -> Tensor | None:
        """n / (classes x count)."""
        counts = torch.bincount(values.long(), minlength=self.names).float().clamp(min=1)
        return counts.sum() / (len(counts) * counts)

    def soft_loss(self, raw: Tensor, soft: Tensor, hard: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return -(soft * torch.log_softmax(raw, dim=1)).sum(1, keepdim=True)

    def calibrate(self, target: Target, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """The temperature, and how far the true class may lie below certainty in 90 % of posts."""
        heat = calibrate.temperature(y, p)
        self.temperature.fill_(heat)
        powered = np.clip(p, 1e-12, 1) ** (1 / heat)
        given = powered[np.arange(len(y)), y.astype(int)] / powered.sum(1) if len(y) else np.zeros(0)
        return {"temperature": round(heat, 6), **set_of(given, weights)}


def set_of(given: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The figure of prediction sets, by the probability that each post's true class was given."""
    apart = calibrate.residual_quantile(np.ones(len(given)), given, weights=weights)
    return {"set_q90": round(apart, 6)} if apart is not None else {}
