"""Optimiser and learning rate: AdamW in groups, warm-up, then what params say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from assay.config import Student, Train
from assay.student.model import StudentModel
from assay.student.towers import Towers


def build_optimizer(
    model: StudentModel, loss: nn.Module, towers: Towers | None, student: Student, settings: Train
) -> torch.optim.AdamW:
    """AdamW: no decay on vectors, n-grams and encoders at their own rates."""
    table = model.lexical.weight if model.lexical is not None else None
    own = [p for p in [*model.parameters(), *loss.parameters()] if p is not table and p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own if p.ndim > 1]},
        {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if table is not None and student.lexical:
        groups.append({"params": [table], "lr": settings.lr_lexical, "weight_decay": student.lexical.weight_decay})
    if towers is not None:
        groups += towers.parameter_groups()
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def learning_rate(settings: Train, total: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step: linear warm-up, then what `schedule` says."""
    warm = max(1, round(settings.warmup * total)) if settings.warmup else 0

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if settings.schedule == "constant":
            return 1.0
        along = (step - warm) / max(1, total - warm)
        if settings.schedule == "cosine_restarts":
            along = (along * settings.restarts) % 1.0
        return 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))

    return factor
