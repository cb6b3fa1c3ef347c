"""Trains a student: AdamW, warm-up, cosine, early stopping, averaged weights, resume after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.config import Student, Train
from assay.encode.encoders import GPUS, default_device
from assay.encode.seeding import threads
from assay.errors import DataError
from assay.measure.metrics import point
from assay.progress import cores, progress
from assay.student.augment import hide_modality
from assay.student.losses import JointLoss, is_known
from assay.student.model import Inputs, Start, StudentModel
from assay.student.parts import Part
from assay.student.resume import Checkpoint, Curve, State
from assay.student.sampler import post_weights
from assay.student.schedule import build_optimizer
from assay.student.team import Team
from assay.student.towers import Towers
from assay.student.updates import Learner, Updates
from assay.targets import Target

EVAL_ROWS = 256
MANY_ROWS = 1024  # rows of a batch from which a head alone is worth several threads


@dataclass
class Fitted:
    """A trained student and how it came about."""

    model: StudentModel
    curves: list[Curve]
    best_epoch: int
    resumed_at: int = 0
    stopped: str = ""
    towers: Towers | None = None
    inner: dict[str, np.ndarray] = field(default_factory=dict)  # out-of-fold predictions by task, where folds were used
    weighed: dict[str, dict[str, Any]] = field(default_factory=dict)  # by task, the linear model's share, see blend


def fit(
    train: Part,
    val: Part | None,
    *,
    student: Student,
    targets: dict[str, Target],
    settings: Train,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Curve], None] | None = None,
    towers: Towers | None = None,
    epochs: int | None = None,
    what: str = "train",
    start: Start | None = None,
) -> Fitted:
    """Train until the validation metric has not improved for `patience` epochs; the best epoch is kept.

    Without `val`, training runs for `epochs` epochs of the schedule and the last one is kept.
    `checkpoint` is a file that a killed run goes on from; it is removed at the end. `on_epoch` gets
    the figures of every epoch, also of those before a resume. `start`: another task's student, which the linear model
    that is fitted afterwards will see.
    """
    if not len(train) or (val is not None and not len(val)):
        raise DataError("train or val has no labelled posts; label more posts or change the shares in split")
    small = towers is None and settings.batch_size < MANY_ROWS
    with threads(1 if small else cores()):  # small steps: the same bits on any number of cores
        torch.manual_seed(settings.seed)
        model = StudentModel(student, targets, train.features.image.shape[1], train.features.text.shape[1], start)
        place = _Place.of(settings)
        data = _Data.of(train, val, model, targets, settings, place.device)
        learner = _learner(model, data, towers, settings, place)
        optimizer = build_optimizer(model, learner.loss, towers, student, settings)
        called = place.team.prepare(learner, place.device)  # before the average is copied, so that it lies there too
        steps = math.ceil(math.ceil(len(train) / settings.batch_size) / settings.grad_accumulation) * settings.epochs
        updates = Updates(learner, optimizer, settings, steps, place.device, place.precision)
        kept = Checkpoint(checkpoint, updates.states(), writes=place.team.is_main)
        run = _Run(settings, data, place, updates, kept, called)
        return run.go(epochs or settings.epochs, on_epoch, what)


@dataclass(frozen=True)
class _Place:
    """Where a run computes: one process or several, a device, and the number format of forward passes."""

    team: Team
    device: torch.device
    precision: torch.dtype

    @classmethod
    def of(cls, settings: Train) -> _Place:
        team = Team()
        device = team.device(device_of(settings))
        return cls(team, device, precision_of(settings, device))


@dataclass(frozen=True)
class _Data:
    """The posts of a run: what a student sees of them, and what is wanted of it."""

    train: Part
    val: Part | None
    inputs: Inputs
    val_inputs: Inputs | None
    targets: dict[str, Target]
    wanted: dict[str, Tensor]
    soft: dict[str, Tensor]
    draw_weights: Tensor | None

    @classmethod
    def of(
        cls,
        train: Part,
        val: Part | None,
        model: StudentModel,
        targets: dict[str, Target],
        settings: Train,
        device: torch.device,
    ) -> _Data:
        """Also begins the model: it standardises by the training posts, and starts from their mean answer."""
        inputs = Inputs(train.features, model)
        model.image.fit(inputs.image[inputs.has_image])
        model.text.fit(inputs.text[inputs.has_text])
        if model.lexical is not None and inputs.table is not None:
            model.lexical.fit(inputs.table)
        values = {name: torch.from_numpy(v) for name, v in train.values.items()}
        model.heads.start(torch.cat([model.output(name).start(v[is_known(v)]) for name, v in values.items()]))
        return cls(
            train,
            val,
            inputs,
            Inputs(val.features, model) if val is not None else None,
            targets,
            {name: v.to(device) for name, v in values.items()},
            {name: torch.from_numpy(v).to(device) for name, v in train.soft.items()},
            post_weights(train.values, targets) if settings.sampler == "weighted" else None,
        )


def _learner(model: StudentModel, data: _Data, towers: Towers | None, settings: Train, place: _Place) -> Learner:
    model.to(place.device)
    values = {name: torch.from_numpy(v) for name, v in data.train.values.items()}
    known = {name: v[is_known(v)] for name, v in values.items()}
    outputs = {name: model.output(name) for name in data.targets}
    loss = JointLoss(settings, data.targets, outputs, known).to(place.device)
    return Learner(model, loss, towers, compiled=settings.compile)


@dataclass
class _Run:
    """One training run."""

    settings: Train
    data: _Data
    place: _Place
    updates: Updates
    checkpoint: Checkpoint
    called: torch.nn.Module  # the learner as it is called: of several processes, with their mean gradient

    def go(self, epochs: int, on_epoch: Callable[[Curve], None] | None, what: str) -> Fitted:
        learner = self.updates.learner
        state, best = self.checkpoint.load() or (State(), self.updates.weights())
        fitted = Fitted(learner.model, state.curves, state.best_epoch, resumed_at=state.epoch, towers=learner.towers)
        for earlier in state.curves:
            if on_epoch:
                on_epoch(earlier)
        fitted.stopped = "epochs"
        with progress(what=what, total=epochs, unit="epoch") as bar:
            bar.update(state.epoch)
            while state.epoch < epochs:
                if self.data.val is not None and state.waited >= self.settings.patience:
                    fitted.stopped = "patience"
                    break
                curve = self._one_epoch(state.epoch)
                improved = self._judge(curve, state)
                if improved:
                    best = self.updates.weights()
                state.curves.append(curve)
                if on_epoch:
                    on_epoch(curve)
                self.checkpoint.keep(state, best)
                bar.update()
        if self.data.val is not None and not math.isfinite(state.best):
            raise DataError(
                f"train.metric {self.settings.metric} is undefined on the val split ({len(self.data.val)} posts, "
                "too much alike); choose loss, or label more posts"
            )
        learner.load_state_dict(best)
        learner.model.to("cpu").eval()
        fitted.best_epoch = state.best_epoch
        self.place.team.wait()
        self.checkpoint.remove()
        return fitted

    def _one_epoch(self, epoch: int) -> Curve:
        trained = self._pass(epoch)
        if not math.isfinite(trained):
            raise DataError(f"training diverged at epoch {epoch} (loss {trained}); lower train.lr {self.settings.lr:g}")
        curve: Curve = {"epoch": epoch, "lr": float(self.updates.schedule.get_last_lr()[0]), "train_loss": trained}
        if self.data.val is not None and self.data.val_inputs is not None:
            found = self._evaluate(self.data.val, self.data.val_inputs)
            curve |= {f"val_{name}": value for name, value in found.items()}
        return curve

    def _judge(self, curve: Curve, state: State) -> bool:
        """Count the epoch; True when its weights are the best so far."""
        state.epoch += 1
        if self.data.val is None:
            state.best_epoch = state.epoch - 1
            return True
        metric = self.settings.metric
        higher = metric != "loss" and all(target.is_higher_better(metric) for target in self.data.targets.values())
        score = (-1.0 if higher else 1.0) * curve[f"val_{metric}"]
        if score < state.best - 1e-6:
            state.best, state.best_epoch, state.waited = score, state.epoch - 1, 0
            return True
        state.waited += 1
        return False

    def _pass(self, epoch: int) -> float:
        """One pass in an order that depends on seed and epoch alone, so that a resumed run is the same run."""
        self.updates.learner.train()
        torch.manual_seed(self.settings.seed * 100_003 + epoch)
        total, count = torch.zeros((), device=self.place.device), 0
        batches = self._batches()
        for number, rows in enumerate(batches, 1):
            loss = self._loss(self.place.team.share(rows))
            self.updates.scaler.scale(loss / self.settings.grad_accumulation).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * len(rows)
            count += len(rows)
            if number % self.settings.grad_accumulation == 0 or number == len(batches):
                self.updates.step()
        return float(total) / count

    def _batches(self) -> list[Tensor]:
        n, size = len(self.data.train), self.settings.batch_size
        if self.data.draw_weights is not None:
            order = torch.multinomial(self.data.draw_weights, n, replacement=True)
        else:
            order = torch.randperm(n)
        batches = list(torch.split(order, size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm cannot take a single row
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _loss(self, rows: Tensor) -> Tensor:
        data, device, precision = self.data, self.place.device, self.place.precision
        batch = hide_modality(data.inputs.rows(rows).to(device), self.settings)
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            posts = [data.train.posts[i] for i in rows.tolist()] if self.updates.learner.towers is not None else []
            rows = rows.to(device)
            wanted = {name: v[rows] for name, v in data.wanted.items()}
            share = self.settings.soft_targets
            soft = {name: v[rows] for name, v in data.soft.items()} if share else None
            found: Tensor = self.called(batch, posts, wanted, soft, share)
        return found

    def _evaluate(self, part: Part, inputs: Inputs) -> dict[str, float]:
        """Loss and metrics of a split, weighted by inverse inclusion probability (the loss is not).

        Of a joint student the metrics are means over its tasks.
        """
        learner = self.updates.counting
        raw = raw_outputs(learner.model, part, inputs, learner.towers, self.place.device)
        wanted = {name: torch.from_numpy(v).to(self.place.device) for name, v in part.values.items()}
        with torch.inference_mode():
            found = {"loss": float(self.updates.learner.loss(raw, wanted))}
        figures: dict[str, list[float]] = {}
        for name, predicted in learner.model.answers(raw).items():
            known = part.known(name)
            if known.any():
                y, w = part.values[name][known], part.weights[known]
                for figure, value in point(y, predicted[known], w, self.data.targets[name]).items():
                    figures.setdefault(figure, []).append(value)
        return found | {figure: float(np.mean(values)) for figure, values in figures.items()}


def raw_outputs(model: StudentModel, part: Part, inputs: Inputs, towers: Towers | None, device: torch.device) -> Tensor:
    """Raw outputs [members, n, outputs] of a split, nothing learnt and nothing dropped."""
    model.eval()
    if towers is not None:
        towers.eval()
    found = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(part)), EVAL_ROWS):
            batch = inputs.rows(rows).to(device)
            if towers is not None:
                batch = towers.fill(batch, [part.posts[i] for i in rows.tolist()])
            found.append(model(batch))
    return torch.cat(found, dim=1)


def device_of(settings: Train) -> torch.device:
    """The device that params ask for; DataError when there is no such device."""
    if settings.device == "auto":
        return default_device()
    if settings.device in GPUS and not GPUS[settings.device]():
        raise DataError(f"train.device: {settings.device}, but no such GPU can be used here; choose auto or cpu")
    return torch.device(settings.device)


def precision_of(settings: Train, device: torch.device) -> torch.dtype:
    """The number format of forward passes: auto is bf16 on a GPU and fp32 on a CPU."""
    if settings.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.precision]
