"""What training minimises, as functions of raw outputs and targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.config import Train
from assay.student.outputs import LossContext, Output, loss_of
from assay.targets import Target


class TaskLoss(nn.Module):
    """The loss of one task on raw outputs [n, outputs] and targets; a mean over posts.

    Where soft targets are given (probabilities of classes or labels), the loss is
    (1 - share) hard + share soft, the soft part being cross-entropy to the distribution
    (Hinton et al., 2015). `logit_adjustment` adds tau times the log prior to the logits while
    learning (Menon et al., 2021).
    """

    prior: Tensor
    weight: Tensor | None

    def __init__(self, settings: Train, target: Target, output: Output, values: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self._of = (output,)  # not a part of this module: its parameters are the model's
        self.loss = loss_of(target.kind, settings.loss)
        self.register_buffer("prior", output.prior(values))
        self.register_buffer("weight", output.balanced(values) if settings.class_weights == "balanced" else None)

    def forward(self, raw: Tensor, wanted: Tensor, soft: Tensor | None = None, share: float = 0.0) -> Tensor:
        """The mean loss of each part, [parts]: a label each, or the one score or class.

        `soft` [n, outputs] has nan rows where a post has no distribution.
        """
        raw = raw.float()
        if self.settings.logit_adjustment:
            raw = raw + self.settings.logit_adjustment * self.prior
        hard = self._hard(raw, wanted)
        if soft is None or not share:
            return hard.mean(0)
        known = torch.isfinite(soft).all(1, keepdim=True)
        wished = torch.where(known, soft, torch.zeros_like(soft))
        distilled = self._of[0].soft_loss(raw, wished, self._hard)
        return torch.where(known, (1 - share) * hard + share * distilled, hard).mean(0)

    def _hard(self, raw: Tensor, wanted: Tensor) -> Tensor:
        return self.loss(raw, wanted, LossContext(self._of[0], self.settings, self.weight))


class JointLoss(nn.Module):
    """The losses of all tasks, summed over the posts that have a label for them; of labels the mean over labels.

    With `uncertainty_weights` each part (a label, or a task) is weighed by a learned variance:
    exp(-s) loss + s / 2 (Kendall et al., 2018).
    """

    def __init__(
        self, settings: Train, targets: dict[str, Target], outputs: dict[str, Output], values: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.sizes = {name: output.outputs for name, output in outputs.items()}
        self.tasks = nn.ModuleDict(
            {name: TaskLoss(settings, targets[name], output, values[name]) for name, output in outputs.items()}
        )
        parts = {name: output.parts for name, output in outputs.items()}
        self.log_variance = nn.ParameterDict(
            {name: torch.zeros(size) for name, size in parts.items()} if settings.uncertainty_weights else {}
        )

    def forward(
        self, raw: Tensor, wanted: dict[str, Tensor], soft: dict[str, Tensor] | None = None, share: float = 0.0
    ) -> Tensor:
        """raw [members, n, outputs] or [n, outputs]; targets with nan (or -1) where a post has no label."""
        if raw.ndim == 3:
            return torch.stack([self(member, wanted, soft, share) for member in raw]).mean()
        total, at = raw.new_zeros(()), 0
        for name, loss in self.tasks.items():
            part = raw[:, at : at + self.sizes[name]]
            at += self.sizes[name]
            known = is_known(wanted[name])
            if not known.any():
                continue
            found = loss(part[known], wanted[name][known], soft[name][known] if soft else None, share)
            if name in self.log_variance:
                s = self.log_variance[name]
                found = torch.exp(-s) * found + s / 2
            total = total + found.mean()
        return total


def is_known(wanted: Tensor) -> Tensor:
    """Which posts have a target: not nan, not class -1; bool [n]."""
    if wanted.ndim == 2:
        return torch.isfinite(wanted).all(1)
    return torch.isfinite(wanted) if wanted.is_floating_point() else wanted >= 0
