"""Any number of labels: a sigmoid each, scaled and with thresholds, and the losses of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from timm.loss.asymmetric_loss import AsymmetricLossMultiLabel
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from assay.measure import calibrate
from assay.student.outputs.base import Loss, LossContext, Output
from assay.targets import Target


def bce(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Binary cross-entropy of each label."""
    return F.binary_cross_entropy_with_logits(raw, wanted.float(), pos_weight=context.weight, reduction="none")


def focal(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Focal loss (Lin et al., 2017): labels that are right already count less."""
    found: Tensor = sigmoid_focal_loss(raw, wanted.float(), alpha=-1, gamma=context.settings.focal_gamma)
    return found if context.weight is None else found * torch.where(wanted > 0.5, context.weight, 1.0)


def asymmetric(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Asymmetric loss (Ridnik et al., 2021): easy negatives count little, and nothing below clip."""
    how = context.settings.asymmetric
    found: Tensor = AsymmetricLossMultiLabel(how.gamma_neg, how.gamma_pos, how.clip, reduction="none")(raw, wanted)
    return found


class LabelsOutput(Output):
    """Labels: a probability each, and the thresholds that calibration fitted (0.5 before)."""

    losses: ClassVar[Mapping[str, Loss]] = {"bce": bce, "focal": focal, "asymmetric": asymmetric}
    is_linear = True
    scale: Tensor
    shift: Tensor
    thresholds: Tensor

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.outputs = len(target.groups)
        self.register_buffer("scale", torch.ones(self.outputs))
        self.register_buffer("shift", torch.zeros(self.outputs))
        self.register_buffer("thresholds", torch.full((self.outputs,), 0.5))

    def groups(self) -> list[int]:
        """One a label."""
        return [1] * self.outputs

    @property
    def parts(self) -> int:
        return self.outputs

    def start(self, values: Tensor) -> Tensor:
        """The logit of each label's share."""
        return self.prior(values)

    def forward(self, raw: Tensor) -> Tensor:
        """[n, labels] -> probabilities [n, labels]."""
        return torch.sigmoid(raw * self.scale + self.shift)

    def uncalibrated(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(raw)

    def prior(self, values: Tensor) -> Tensor:
        """Log odds of the labels."""
        return torch.logit(((values.sum(0) + 0.5) / (len(values) + 1)).float())

    def balanced(self, values: Tensor) -> Tensor | None:
        """Negatives / positives of each label, at most 50."""
        positive = values.sum(0).float()
        return ((len(values) - positive) / positive.clamp(min=1)).clamp(0.02, 50)

    def soft_loss(self, raw: Tensor, soft: Tensor, hard: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(raw, soft, reduction="none")

    def calibrate(self, target: Target, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """Scale and shift of the logits, the thresholds with the best F1, and each label's 90 % residual."""
        scale, shift = calibrate.label_scaling(y, p)
        self.scale.copy_(torch.from_numpy(scale))
        self.shift.copy_(torch.from_numpy(shift))
        clipped = np.clip(p, 1e-7, 1 - 1e-7)
        scaled = 1 / (1 + np.exp(-np.log(clipped / (1 - clipped)) * scale - shift))
        self.thresholds.copy_(torch.from_numpy(np.asarray(target.thresholds(y, scaled, weights))))
        names = target.groups
        at = {name: round(float(t), 2) for name, t in zip(names, self.thresholds, strict=True)}
        apart = [calibrate.residual_quantile(y[:, k], scaled[:, k], weights=weights) for k in range(y.shape[1])]
        sets = {name: round(q, 6) for name, q in zip(names, apart, strict=True) if q is not None}
        told = {name: [round(float(a), 6), round(float(b), 6)] for name, a, b in zip(names, scale, shift, strict=True)}
        return {"scaling": told, "thresholds": at, "set_q90": sets}

    def thresholds_of(self) -> np.ndarray | None:
        return np.asarray(self.thresholds.cpu().numpy())
