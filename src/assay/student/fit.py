"""Trains a student on frozen features: AdamW, warm-up, cosine, early stopping, resume after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.config import Student, Target, Train
from assay.errors import DataError
from assay.measure.metrics import HIGHER_IS_BETTER, point
from assay.progress import cores, progress
from assay.student.features import Features
from assay.student.losses import build_loss
from assay.student.model import StudentModel, tensors

Curve = dict[str, float]


@dataclass
class Part:
    """Features and targets of one split; targets are scores or class numbers."""

    features: Features
    values: np.ndarray  # float32 [n] or int64 [n]
    weights: np.ndarray  # inverse inclusion probabilities, float64 [n]


@dataclass
class Fitted:
    """A trained student and how it came about."""

    model: StudentModel
    curves: list[Curve]
    best_epoch: int
    resumed_at: int = 0
    stopped: str = ""


@dataclass
class _State:
    """What a resumed run needs."""

    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    waited: int = 0
    curves: list[Curve] = field(default_factory=list)


def seed_everything(seed: int) -> None:
    """Make torch repeatable on this machine, and use all cores."""
    torch.manual_seed(seed)
    torch.set_num_threads(cores())


def checkpoint_key(*parts: Any) -> str:
    """A name for a run's resume files: a digest of all that it learns from."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def fit(
    train: Part,
    val: Part,
    *,
    student: Student,
    target: Target,
    settings: Train,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Curve], None] | None = None,
) -> Fitted:
    """Train until the validation metric has not improved for `patience` epochs; the best epoch is kept.

    `checkpoint` is a file that a killed run goes on from; it is removed at the end. `on_epoch` gets
    the figures of every epoch, also of those before a resume.
    """
    if not len(train.values) or not len(val.values):
        raise DataError("train or val has no labelled posts; label more posts or change the shares in split")
    seed_everything(settings.seed)
    model = StudentModel(student, target, train.features.image.shape[1], train.features.text.shape[1])
    inputs, wanted = tensors(train.features), torch.from_numpy(train.values)
    model.image.fit(inputs[0][inputs[2]])
    model.text.fit(inputs[1][inputs[3]])
    with torch.no_grad():
        model.head.out.bias.copy_(model.output.start(wanted))
    loss_of = build_loss(settings, target, model.output, wanted)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.lr,
    )
    steps = math.ceil(math.ceil(len(wanted) / settings.batch_size) / settings.grad_accumulation)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(settings, steps * settings.epochs))
    state, best = _State(), {k: v.clone() for k, v in model.state_dict().items()}
    if checkpoint and checkpoint.exists():
        with contextlib.suppress(FileNotFoundError):  # a twin of this run has just ended
            state, best = _resume(checkpoint, model, optimizer, schedule)
    fitted = Fitted(model, state.curves, state.best_epoch, resumed_at=state.epoch, stopped="epochs")
    for earlier in state.curves:
        if on_epoch:
            on_epoch(earlier)
    sign = -1.0 if settings.metric in HIGHER_IS_BETTER else 1.0
    with progress(what="train", total=settings.epochs, unit="epoch") as bar:
        bar.update(state.epoch)
        while state.epoch < settings.epochs:
            if state.waited >= settings.patience:
                fitted.stopped = "patience"
                break
            trained = _epoch(model, optimizer, schedule, loss_of, inputs, wanted, settings, state.epoch)
            curve: Curve = {"epoch": state.epoch, "lr": float(schedule.get_last_lr()[0]), "train_loss": trained}
            curve |= {f"val_{name}": value for name, value in evaluate(model, val, target, loss_of).items()}
            score = sign * curve[f"val_{settings.metric}"]
            if not math.isfinite(trained):
                raise DataError(
                    f"training diverged at epoch {state.epoch} (loss {trained}); lower train.lr {settings.lr:g}"
                )
            state.epoch += 1
            if score < state.best - 1e-6:
                state.best, state.best_epoch, state.waited = score, state.epoch - 1, 0
                best = {k: v.clone() for k, v in model.state_dict().items()}
            else:
                state.waited += 1
            state.curves.append(curve)
            if on_epoch:
                on_epoch(curve)
            if checkpoint:
                _keep(checkpoint, model, optimizer, schedule, state, best)
            bar.update()
    if not math.isfinite(state.best):
        raise DataError(
            f"train.metric {settings.metric} is undefined on the val split ({len(val.values)} posts, too much alike); "
            "choose loss, or label more posts"
        )
    model.load_state_dict(best)
    fitted.best_epoch = state.best_epoch
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return fitted


def _epoch(
    model: StudentModel,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    inputs: tuple[Tensor, ...],
    wanted: Tensor,
    settings: Train,
    epoch: int,
) -> float:
    """One pass in an order that depends on seed and epoch alone, so that a resumed run is the same run."""
    model.train()
    torch.manual_seed(settings.seed * 100_003 + epoch)
    order = torch.randperm(len(wanted))
    batches = list(torch.split(order, settings.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm cannot take a single row
        batches[-2:] = [torch.cat(batches[-2:])]
    total = 0.0
    for number, rows in enumerate(batches, 1):
        loss = loss_of(model(*(tensor[rows] for tensor in inputs)), wanted[rows])
        (loss / settings.grad_accumulation).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach()) * len(rows)
        if number % settings.grad_accumulation == 0 or number == len(batches):
            if settings.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
    return total / len(wanted)


def evaluate(
    model: StudentModel, part: Part, target: Target, loss_of: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, float]:
    """Loss and metrics of a split, weighted by inverse inclusion probability (the loss is not)."""
    model.eval()
    with torch.inference_mode():
        raw = model(*tensors(part.features))
        found = {"loss": float(loss_of(raw, torch.from_numpy(part.values)))}
        predicted = model.output(raw).numpy()
    return found | point(part.values, predicted, part.weights, target)


def _schedule(settings: Train, total: int) -> Callable[[int], float]:
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


def _keep(
    path: Path,
    model: StudentModel,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    state: _State,
    best: dict[str, Tensor],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(
        {
            "model": model.state_dict(),
            "best": best,
            "optimizer": optimizer.state_dict(),
            "schedule": {k: v for k, v in schedule.state_dict().items() if k != "lr_lambdas"},
            "state": vars(state),
        },
        partial,
    )
    os.replace(partial, path)


def _resume(
    path: Path, model: StudentModel, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> tuple[_State, dict[str, Tensor]]:
    kept = torch.load(path, weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    schedule.load_state_dict(kept["schedule"] | {"lr_lambdas": [None]})
    return _State(**kept["state"]), kept["best"]
