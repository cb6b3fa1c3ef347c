"""What stands behind the fusion: hidden layers; what their outputs mean stands in `outputs`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from assay.config import Head


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
