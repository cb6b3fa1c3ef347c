"""Ranks: cumulative logits (proportional odds; McCullagh, 1980), and their loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.student.outputs.base import Loss, LossContext, Output
from assay.student.outputs.classes import ClassesOutput
from assay.targets import Target


def cumulative(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """Cross-entropy of "above this rank", over the cuts between ranks; class weights count by the true rank."""
    output, wanted = _of(context.output), wanted.long()
    above = (wanted[:, None] > torch.arange(output.names - 1, device=raw.device)).float()
    found = F.binary_cross_entropy_with_logits(output.logits(raw), above, reduction="none").mean(1)
    weight = context.weight
    return (found if weight is None else found * weight[wanted] / weight[wanted].mean())[:, None]


def likelihood(raw: Tensor, wanted: Tensor, context: LossContext) -> Tensor:
    """The negative log probability of the true rank."""
    p = _of(context.output).probabilities(raw).clamp(min=1e-8)
    return -torch.log(p.gather(1, wanted.long()[:, None]))


class RanksOutput(ClassesOutput):
    """One raw output, how strong a post is, and learnt cuts between ranks that cannot cross."""

    is_linear = False
    losses: ClassVar[Mapping[str, Loss]] = {"cumulative": cumulative, "likelihood": likelihood}

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.outputs = 1
        self.first = nn.Parameter(torch.zeros(()))
        self.steps = nn.Parameter(torch.zeros(self.names - 2))  # log distances to the next cut

    def start(self, values: Tensor) -> Tensor:
        """Zero; the cuts begin at the log odds of the training targets."""
        counts = torch.bincount(values.long(), minlength=self.names).float() + 1
        below = torch.cumsum(counts, 0)[:-1] / counts.sum()
        cuts = torch.logit(below)
        with torch.no_grad():
            self.first.copy_(cuts[0])
            self.steps.copy_(torch.log((cuts[1:] - cuts[:-1]).clamp(min=1e-3)))
        return torch.zeros(1)

    def cuts(self) -> Tensor:
        """Where each rank but the lowest begins, rising, [names - 1]."""
        return torch.cat([self.first[None], self.first + torch.cumsum(torch.exp(self.steps), 0)])

    def logits(self, raw: Tensor) -> Tensor:
        """Log odds of lying above each cut, [n, names - 1]."""
        return raw - self.cuts()

    def probabilities(self, raw: Tensor) -> Tensor:
        """[n, 1] -> probabilities of the ranks without temperature, [n, names]."""
        above = torch.sigmoid(self.logits(raw))
        edge = above.new_ones(len(raw), 1)
        return torch.cat([edge, above], dim=1) - torch.cat([above, 0 * edge], dim=1)

    def forward(self, raw: Tensor) -> Tensor:
        """[n, 1] -> probabilities [n, names]: powers by the temperature that calibration fitted, normalised."""
        powered = self.probabilities(raw).clamp(min=1e-12) ** (1 / self.temperature)
        return powered / powered.sum(1, keepdim=True)

    def uncalibrated(self, raw: Tensor) -> Tensor:
        return self.probabilities(raw)

    def prior(self, values: Tensor) -> Tensor:
        """Nothing: the cuts hold the frequencies."""
        return torch.zeros(1)

    def soft_loss(self, raw: Tensor, soft: Tensor, hard: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return -(soft * torch.log(self.probabilities(raw).clamp(min=1e-8))).sum(1, keepdim=True)


def _of(output: Output) -> RanksOutput:
    assert isinstance(output, RanksOutput)
    return output
