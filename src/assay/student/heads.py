"""What stands behind the fusion: hidden layers and an output for a score or for classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.config import Head, ScoreTarget, Target


class MLP(nn.Module):
    """Linear, (batch norm,) ReLU, dropout for each hidden size; optionally a linear path around it all."""

    def __init__(self, settings: Head, dim: int, outputs: int) -> None:
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
        self.out = nn.Linear(width, outputs)
        self.skip = nn.Linear(dim, outputs, bias=False) if settings.linear_skip else None
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)

    def forward(self, fused: Tensor) -> Tensor:
        """[n, dim] -> [n, outputs]."""
        fused = self.input_dropout(fused)
        found: Tensor = self.out(self.body(fused))
        return found if self.skip is None else found + self.skip(fused)


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


def build_output(target: Target) -> ScoreOutput | ClassOutput:
    """The output that a target asks for."""
    return ScoreOutput(target) if isinstance(target, ScoreTarget) else ClassOutput(len(target.names))
