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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from assay.config import Student, Train
from assay.encode.encoders import GPUS, default_device
from assay.encode.extract import PostInputs
from assay.encode.seeding import threads
from assay.errors import DataError
from assay.measure.metrics import point
from assay.progress import cores, progress
from assay.student.augment import hide_modality
from assay.student.losses import JointLoss, is_known
from assay.student.model import Batch, Inputs, Start, StudentModel
from assay.student.parts import Part
from assay.student.resume import Checkpoint, Curve, State
from assay.student.sampler import post_weights
from assay.student.schedule import build_optimizer, learning_rate
from assay.student.team import Team
from assay.student.towers import Towers
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
        run = _Run(train, val, student, targets, settings, checkpoint, towers, epochs or settings.epochs, start)
        return run.go(on_epoch, what)


class _Run:
    """One training run."""

    def __init__(
        self,
        train: Part,
        val: Part | None,
        student: Student,
        targets: dict[str, Target],
        settings: Train,
        checkpoint: Path | None,
        towers: Towers | None,
        epochs: int,
        start: Start | None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.train_part, self.val, self.settings, self.targets, self.epochs = train, val, settings, targets, epochs
        self.team = Team()
        self.device = self.team.device(device_of(settings))
        self.precision = precision_of(settings, self.device)
        self.model = StudentModel(student, targets, train.features.image.shape[1], train.features.text.shape[1], start)
        self.inputs = Inputs(train.features, self.model)
        self.val_inputs = Inputs(val.features, self.model) if val is not None else None
        self.towers = towers
        values = {name: torch.from_numpy(v) for name, v in train.values.items()}
        self._begin(values)
        self.model.to(self.device)
        self.wanted = {name: v.to(self.device) for name, v in values.items()}
        self.soft = {name: torch.from_numpy(v).to(self.device) for name, v in train.soft.items()}
        self.soft_share = settings.soft_targets
        known = {name: v[is_known(v)] for name, v in values.items()}
        outputs = {name: self.model.output(name) for name in targets}
        self.loss = JointLoss(settings, targets, outputs, known).to(self.device)
        self.optimizer = build_optimizer(self.model, self.loss, towers, student, settings)
        self.steps = math.ceil(math.ceil(len(train) / settings.batch_size) / settings.grad_accumulation)
        factor = learning_rate(settings, self.steps * settings.epochs)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.learner = _Learner(self.model, self.loss, towers, compiled=settings.compile)
        self.called = self.team.prepare(self.learner, self.device)
        average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self.learner, multi_avg_fn=average, use_buffers=False) if settings.ema else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.draw_weights = post_weights(train.values, targets) if settings.sampler == "weighted" else None
        parts: dict[str, Any] = {"learner": self.learner}
        parts |= {"optimizer": self.optimizer, "schedule": self.schedule}
        parts |= {"averaged": self.averaged} if self.averaged is not None else {}
        self.checkpoint = Checkpoint(checkpoint, parts, writes=self.team.is_main)

    def _begin(self, values: dict[str, Tensor]) -> None:
        """Standardise by the training posts, and start from their mean answer."""
        model, inputs = self.model, self.inputs
        model.image.fit(inputs.image[inputs.has_image])
        model.text.fit(inputs.text[inputs.has_text])
        if model.lexical is not None and inputs.table is not None:
            model.lexical.fit(inputs.table)
        start = [model.output(name).start(v[is_known(v)]) for name, v in values.items()]
        model.heads.start(torch.cat(start))

    def go(self, on_epoch: Callable[[Curve], None] | None, what: str) -> Fitted:
        state, best = self.checkpoint.load() or (State(), self._weights())
        fitted = Fitted(self.model, state.curves, state.best_epoch, resumed_at=state.epoch, towers=self.towers)
        for earlier in state.curves:
            if on_epoch:
                on_epoch(earlier)
        fitted.stopped = "epochs"
        with progress(what=what, total=self.epochs, unit="epoch") as bar:
            bar.update(state.epoch)
            while state.epoch < self.epochs:
                if self.val is not None and state.waited >= self.settings.patience:
                    fitted.stopped = "patience"
                    break
                curve = self._one_epoch(state.epoch)
                improved = self._judge(curve, state)
                if improved:
                    best = self._weights()
                state.curves.append(curve)
                if on_epoch:
                    on_epoch(curve)
                self.checkpoint.keep(state, best)
                bar.update()
        if self.val is not None and not math.isfinite(state.best):
            raise DataError(
                f"train.metric {self.settings.metric} is undefined on the val split ({len(self.val)} posts, too much "
                "alike); choose loss, or label more posts"
            )
        self.learner.load_state_dict(best)
        self.model.to("cpu").eval()
        fitted.best_epoch = state.best_epoch
        self.team.wait()
        self.checkpoint.remove()
        return fitted

    def _one_epoch(self, epoch: int) -> Curve:
        trained = self._pass(epoch)
        if not math.isfinite(trained):
            raise DataError(f"training diverged at epoch {epoch} (loss {trained}); lower train.lr {self.settings.lr:g}")
        curve: Curve = {"epoch": epoch, "lr": float(self.schedule.get_last_lr()[0]), "train_loss": trained}
        if self.val is not None and self.val_inputs is not None:
            found = self._evaluate(self.val, self.val_inputs)
            curve |= {f"val_{name}": value for name, value in found.items()}
        return curve

    def _judge(self, curve: Curve, state: State) -> bool:
        """Count the epoch; True when its weights are the best so far."""
        state.epoch += 1
        if self.val is None:
            state.best_epoch = state.epoch - 1
            return True
        metric = self.settings.metric
        higher = metric != "loss" and all(target.is_higher_better(metric) for target in self.targets.values())
        score = (-1.0 if higher else 1.0) * curve[f"val_{metric}"]
        if score < state.best - 1e-6:
            state.best, state.best_epoch, state.waited = score, state.epoch - 1, 0
            return True
        state.waited += 1
        return False

    def _weights(self) -> dict[str, Tensor]:
        """The weights that count: averaged ones where there are, of all that learns."""
        source = self.averaged.module if self.averaged is not None else self.learner
        return {name: v.detach().cpu().clone() for name, v in source.state_dict().items()}

    def _pass(self, epoch: int) -> float:
        """One pass in an order that depends on seed and epoch alone, so that a resumed run is the same run."""
        self.learner.train()
        torch.manual_seed(self.settings.seed * 100_003 + epoch)
        total, count = torch.zeros((), device=self.device), 0
        batches = self._batches()
        for number, rows in enumerate(batches, 1):
            loss = self._loss(self.team.share(rows))
            self.scaler.scale(loss / self.settings.grad_accumulation).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * len(rows)
            count += len(rows)
            if number % self.settings.grad_accumulation == 0 or number == len(batches):
                self._step()
        return float(total) / count

    def _batches(self) -> list[Tensor]:
        n, size = len(self.train_part), self.settings.batch_size
        if self.draw_weights is not None:
            order = torch.multinomial(self.draw_weights, n, replacement=True)
        else:
            order = torch.randperm(n)
        batches = list(torch.split(order, size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm cannot take a single row
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _loss(self, rows: Tensor) -> Tensor:
        batch = hide_modality(self.inputs.rows(rows).to(self.device), self.settings)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            posts = [self.train_part.posts[i] for i in rows.tolist()] if self.towers is not None else []
            rows = rows.to(self.device)
            wanted = {name: v[rows] for name, v in self.wanted.items()}
            soft = {name: v[rows] for name, v in self.soft.items()} if self.soft_share else None
            found: Tensor = self.called(batch, posts, wanted, soft, self.soft_share)
        return found

    def _step(self) -> None:
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(
                [p for group in self.optimizer.param_groups for p in group["params"]], self.settings.clip_norm
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.learner)

    def _evaluate(self, part: Part, inputs: Inputs) -> dict[str, float]:
        """Loss and metrics of a split, weighted by inverse inclusion probability (the loss is not).

        Of a joint student the metrics are means over its tasks.
        """
        learner: _Learner = self.averaged.module if self.averaged is not None else self.learner  # type: ignore[assignment]
        raw = raw_outputs(learner.model, part, inputs, learner.towers, self.device)
        wanted = {name: torch.from_numpy(v).to(self.device) for name, v in part.values.items()}
        with torch.inference_mode():
            found = {"loss": float(self.loss(raw, wanted))}
        figures: dict[str, list[float]] = {}
        for name, predicted in learner.model.answers(raw).items():
            known = part.known(name)
            if known.any():
                y, w = part.values[name][known], part.weights[known]
                for figure, value in point(y, predicted[known], w, self.targets[name]).items():
                    figures.setdefault(figure, []).append(value)
        return found | {figure: float(np.mean(values)) for figure, values in figures.items()}


class _Learner(torch.nn.Module):
    """All that learns, as one module: for averaging, for resume files and for several processes."""

    def __init__(self, model: StudentModel, loss: JointLoss, towers: Towers | None, *, compiled: bool) -> None:
        super().__init__()
        self.model, self.loss, self.towers = model, loss, towers
        self._run = [torch.compile(model) if compiled else model]  # in a list, so that it is no second submodule

    def forward(
        self,
        batch: Batch,
        posts: list[PostInputs],
        wanted: dict[str, Tensor],
        soft: dict[str, Tensor] | None,
        share: float,
    ) -> Tensor:
        """The loss of a batch."""
        if self.towers is not None:
            batch = self.towers.fill(batch, posts)
        found: Tensor = self.loss(self._run[0](batch), wanted, soft, share)
        return found


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
