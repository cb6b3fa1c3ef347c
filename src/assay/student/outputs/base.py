"""The contract of an output: what stands behind a student's heads for one kind of target, and what it learns by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.config import Train
from assay.targets import Target


class LossContext(NamedTuple):
    """What a loss may look at beside raw outputs and what was wanted."""

    output: Output
    settings: Train
    weight: Tensor | None  # balanced weights, where train.class_weights asks for them


Loss = Callable[[Tensor, Tensor, LossContext], Tensor]  # raw [n, outputs], wanted -> [n, parts]


class Output(nn.Module):
    """Raw outputs [n, outputs] -> predictions: scores [n], or probabilities [n, names]."""

    outputs: int
    losses: ClassVar[Mapping[str, Loss]]  # by name; the first is `auto`
    is_linear: ClassVar[bool] = False  # whether a linear model of the target has these raw outputs, see `bend`

    def groups(self) -> list[int]:
        """How many raw outputs stand under each small head of a multitask student."""
        return [self.outputs]

    @property
    def parts(self) -> int:
        """How many parts the loss has, each with an uncertainty of its own."""
        return 1

    def start(self, values: Tensor) -> Tensor:
        """The raw outputs from which the head begins, by the training targets, [outputs]."""
        raise NotImplementedError

    def forward(self, raw: Tensor) -> Tensor:
        raise NotImplementedError

    def bend(self, linear: Tensor) -> Tensor:
        """Raw outputs of a linear model's [n, outputs]."""
        return linear

    def uncalibrated(self, raw: Tensor) -> Tensor:
        """Predictions without what calibration fitted."""
        found: Tensor = self(raw)
        return found

    def prior(self, values: Tensor) -> Tensor:
        """What train.logit_adjustment adds to raw outputs, times its strength; zeros where it means nothing."""
        return torch.zeros(1)

    def balanced(self, values: Tensor) -> Tensor | None:
        """The weights of train.class_weights balanced."""
        return None

    def soft_loss(self, raw: Tensor, soft: Tensor, hard: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The loss to a distribution [n, outputs], [n, parts]; `hard` is the loss to values."""
        raise NotImplementedError

    def calibrate(self, target: Target, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """Fit what predictions p of values y need, keep it in buffers, and return the figures of config.json."""
        raise NotImplementedError

    def thresholds_of(self) -> np.ndarray | None:
        """Where a probability becomes a label, [names]; None where nothing is cut."""
        return None
