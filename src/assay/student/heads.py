"""What stands behind the fusion: hidden layers, and an output for a score, for classes or for labels."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from assay.config import ClassesTarget, Head, LabelsTarget, ScoreTarget, Target


class MLP(nn.Module):
    """Linear, (batch norm,) ReLU, dropout for each hidden size; optionally a linear path around it all.

    With head kind `multitask` the hidden layers are a shared trunk, and each group of outputs (a
    label, or a task of a joint student) has a small head of its own (Caruana, 1997).
    """

    def __init__(self, settings: Head, dim: int, groups: list[int]) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(settings.input_dropout)
        layers: list[nn.Module] = []
        width = dim
        for hidden in settings.hidden:
            layers.append(nn.Linear(width, hidden))
            if settings.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers += [nn.ReLU(), nn.Dropout(settings.dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        if settings.kind == "multitask":
            self.tasks: nn.ModuleList | None = nn.ModuleList(
                nn.Sequential(nn.Linear(width, settings.task_hidden), nn.ReLU(), nn.Dropout(settings.dropout))
                for _ in groups
            )
            self.out = nn.ModuleList(nn.Linear(settings.task_hidden, size) for size in groups)
        else:
            self.tasks, self.out = None, nn.ModuleList([nn.Linear(width, sum(groups))])
        self.skip = nn.Linear(dim, sum(groups), bias=False) if settings.linear_skip else None
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)

    def start(self, bias: Tensor) -> None:
        """Begin from these raw outputs, [outputs]."""
        with torch.no_grad():
            at = 0
            for out in self.out:
                bias_of = cast(nn.Linear, out).bias
                bias_of.copy_(bias[at : at + len(bias_of)])
                at += len(bias_of)

    def forward(self, fused: Tensor) -> Tensor:
        """[n, dim] -> [n, outputs]."""
        fused = self.input_dropout(fused)
        shared = self.body(fused)
        tasks = self.tasks or [nn.Identity()]
        found = torch.cat([out(task(shared)) for task, out in zip(tasks, self.out, strict=True)], dim=1)
        return found if self.skip is None else found + self.skip(fused)


class Heads(nn.Module):
    """One or several heads over the same fused vector; they learn apart and answer by their mean."""

    def __init__(self, settings: Head, dim: int, groups: list[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(MLP(settings, dim, groups) for _ in range(settings.members))

    def start(self, bias: Tensor) -> None:
        """Begin from these raw outputs, [outputs]."""
        for member in self.members:
            member.start(bias)  # type: ignore[operator]

    def forward(self, fused: Tensor) -> Tensor:
        """[n, dim] -> [members, n, outputs]."""
        return torch.stack([member(fused) for member in self.members])


class ScoreOutput(nn.Module):
    """Bounded regression: a sigmoid stretched over [min, max], so that no score lies outside."""

    outputs = 1

    def __init__(self, target: ScoreTarget) -> None:
        super().__init__()
        self.low, self.high = target.min, target.max

    def start(self, values: Tensor) -> Tensor:
        """The bias from which the head begins: the logit of the training mean, [1]."""
        share = ((values.mean() - self.low) / (self.high - self.low)).clamp(0.02, 0.98)
        return torch.logit(share).reshape(1)

    def forward(self, raw: Tensor) -> Tensor:
        """[n, 1] -> scores [n]."""
        return self.low + (self.high - self.low) * torch.sigmoid(raw.squeeze(1))


class ClassOutput(nn.Module):
    """Classes: logits divided by the temperature that calibration fitted (1 before)."""

    temperature: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.outputs = classes
        self.register_buffer("temperature", torch.ones(()))

    def start(self, values: Tensor) -> Tensor:
        """The bias from which the head begins: log frequencies of the classes, [classes]."""
        counts = torch.bincount(values.long(), minlength=self.outputs).float() + 1
        return torch.log(counts / counts.sum())

    def forward(self, raw: Tensor) -> Tensor:
        """[n, classes] -> probabilities [n, classes]."""
        return torch.softmax(raw / self.temperature, dim=1)


class LabelsOutput(nn.Module):
    """Labels: a probability each, and the thresholds that calibration fitted (0.5 before)."""

    temperature: Tensor
    thresholds: Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.outputs = labels
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("thresholds", torch.full((labels,), 0.5))

    def start(self, values: Tensor) -> Tensor:
        """The bias from which the head begins: the logit of each label's share, [labels]."""
        share = (values.sum(0) + 0.5) / (len(values) + 1)
        return torch.logit(share.float())

    def forward(self, raw: Tensor) -> Tensor:
        """[n, labels] -> probabilities [n, labels]."""
        return torch.sigmoid(raw / self.temperature)


Output = ScoreOutput | ClassOutput | LabelsOutput


def build_output(target: Target) -> Output:
    """The output that a target asks for."""
    if isinstance(target, ScoreTarget):
        return ScoreOutput(target)
    if isinstance(target, LabelsTarget):
        return LabelsOutput(len(target.names))
    return ClassOutput(len(target.names))


def output_groups(targets: dict[str, Target]) -> list[int]:
    """How many outputs stand under each small head: one a label, all of a task otherwise."""
    groups: list[int] = []
    for target in targets.values():
        if isinstance(target, LabelsTarget):
            groups += [1] * len(target.names)
        else:
            groups.append(len(target.names) if isinstance(target, ClassesTarget) else 1)
    return groups
