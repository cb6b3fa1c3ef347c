"""What training minimises, as functions of raw outputs and targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget, Target, Train
from assay.student.heads import Output, ScoreOutput


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
        self.settings, self.target, self.output = settings, target, output
        self.kind = settings.loss if settings.loss != "auto" else DEFAULT[target.kind]
        self.register_buffer("prior", log_prior(values, target))
        self.register_buffer("weight", _weights(values, target) if settings.class_weights == "balanced" else None)

    def forward(self, raw: Tensor, wanted: Tensor, soft: Tensor | None = None, share: float = 0.0) -> Tensor:
        """The mean loss of each part, [parts]: a label each, or the one score or class.

        `soft` [n, outputs] has nan rows where a post has no distribution.
        """
        raw = raw.float()
        if self.settings.logit_adjustment and not isinstance(self.target, ScoreTarget):
            raw = raw + self.settings.logit_adjustment * self.prior
        hard = self._hard(raw, wanted)
        if soft is None or not share:
            return hard.mean(0)
        known = torch.isfinite(soft).all(1, keepdim=True)
        distilled = self._soft(raw, torch.where(known, soft, torch.zeros_like(soft)))
        return torch.where(known, (1 - share) * hard + share * distilled, hard).mean(0)

    def _hard(self, raw: Tensor, wanted: Tensor) -> Tensor:
        if isinstance(self.output, ScoreOutput):
            return score_loss(raw, wanted, self.output, self.kind)[:, None]
        if isinstance(self.target, ClassesTarget):
            gamma = self.settings.focal_gamma if self.kind == "focal" else 0.0
            return class_loss(
                raw, wanted.long(), weight=self.weight, smoothing=self.settings.label_smoothing, gamma=gamma
            )[:, None]
        return self._labels(raw, wanted.float())

    def _labels(self, raw: Tensor, wanted: Tensor) -> Tensor:
        if self.kind == "asymmetric":
            how = self.settings.asymmetric
            return asymmetric_loss(raw, wanted, how.gamma_pos, how.gamma_neg, how.clip)
        plain = F.binary_cross_entropy_with_logits(raw, wanted, pos_weight=self.weight, reduction="none")
        if self.kind == "focal":
            right = torch.exp(-F.binary_cross_entropy_with_logits(raw, wanted, reduction="none"))
            plain = plain * (1 - right) ** self.settings.focal_gamma
        return plain

    def _soft(self, raw: Tensor, soft: Tensor) -> Tensor:
        if isinstance(self.output, ScoreOutput):
            return score_loss(raw, soft.squeeze(1), self.output, self.kind)[:, None]
        if isinstance(self.target, ClassesTarget):
            return -(soft * torch.log_softmax(raw, dim=1)).sum(1, keepdim=True)
        return F.binary_cross_entropy_with_logits(raw, soft, reduction="none")


DEFAULT = {"score": "mse", "classes": "cross_entropy", "labels": "bce"}


def score_loss(raw: Tensor, wanted: Tensor, output: ScoreOutput, kind: str) -> Tensor:
    """Of scores scaled to [0, 1], times ten: mse, huber, or ordinal, [n].

    ordinal: the mean absolute distance plus cross-entropy to the share of the range, so that the
    order of scores counts and far misses are not alone in charge.
    """
    span = output.high - output.low
    share = (wanted - output.low) / span
    if kind == "ordinal":
        entropy = F.binary_cross_entropy_with_logits(raw.squeeze(1), share, reduction="none")
        return 5 * (torch.sigmoid(raw.squeeze(1)) - share).abs() + entropy
    how = F.huber_loss if kind == "huber" else F.mse_loss
    return 10 * how(torch.sigmoid(raw.squeeze(1)), share, reduction="none")


def class_loss(raw: Tensor, wanted: Tensor, *, weight: Tensor | None, smoothing: float, gamma: float) -> Tensor:
    """Cross-entropy with label smoothing and class weights, [n]; focal (Lin et al., 2017) where gamma > 0."""
    if not gamma:
        found = F.cross_entropy(raw, wanted, weight=weight, label_smoothing=smoothing, reduction="none")
    else:
        right = torch.softmax(raw, dim=1).gather(1, wanted[:, None]).squeeze(1)
        entropy = F.cross_entropy(raw, wanted, label_smoothing=smoothing, reduction="none")
        found = (1 - right) ** gamma * entropy
        found = found if weight is None else found * weight[wanted]
    return found if weight is None else found / weight[wanted].mean()


def asymmetric_loss(raw: Tensor, wanted: Tensor, gamma_pos: float, gamma_neg: float, clip: float) -> Tensor:
    """Asymmetric loss (Ridnik et al., 2021), [n, L]: easy negatives count little, and nothing below clip."""
    p = torch.sigmoid(raw)
    kept = (1 - p + clip).clamp(max=1)
    positive = wanted * torch.log(p.clamp(min=1e-8)) * (1 - p) ** gamma_pos
    negative = (1 - wanted) * torch.log(kept.clamp(min=1e-8)) * (1 - kept) ** gamma_neg
    return -(positive + negative)


def log_prior(values: Tensor, target: Target) -> Tensor:
    """Log shares of classes, or log odds of labels, in the training targets; zeros for scores."""
    if isinstance(target, ScoreTarget):
        return torch.zeros(1)
    if isinstance(target, LabelsTarget):
        return torch.logit(((values.sum(0) + 0.5) / (len(values) + 1)).float())
    counts = torch.bincount(values.long(), minlength=len(target.names)).float() + 1
    return torch.log(counts / counts.sum())


def _weights(values: Tensor, target: Target) -> Tensor | None:
    """Balanced weights: n / (classes x count) of classes, negatives / positives of labels (at most 50)."""
    if isinstance(target, ScoreTarget):
        return None
    if isinstance(target, LabelsTarget):
        positive = values.sum(0).float()
        return ((len(values) - positive) / positive.clamp(min=1)).clamp(0.02, 50)
    counts = torch.bincount(values.long(), minlength=len(target.names)).float().clamp(min=1)
    return counts.sum() / (len(counts) * counts)


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
        parts = {name: size if targets[name].kind == "labels" else 1 for name, size in self.sizes.items()}
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
