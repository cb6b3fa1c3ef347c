"""A student's trained part: features of both modalities in, raw outputs of all tasks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from assay.config import LexicalBranch, Student
from assay.encode.features import Features
from assay.student.fusion import Standardise, build_fusion
from assay.student.heads import Heads
from assay.student.lexical import Grams, Lexical, grams, hash_grams
from assay.student.linear import GRAMS, Linear
from assay.student.outputs import Output, build_output
from assay.targets import Target

PREDICT_ROWS = 8192


class Batch(NamedTuple):
    """What a student's trained part sees of n posts."""

    image: Tensor  # float32 [n, image dim]
    text: Tensor  # float32 [n, text dim]
    has_image: Tensor  # bool [n]
    has_text: Tensor  # bool [n]
    grams: Grams | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        if device.type == "cpu":
            return self
        moved = Grams(*(part.to(device) for part in self.grams)) if self.grams else None
        image, text, has_image, has_text = (part.to(device) for part in self[:4])
        return Batch(image, text, has_image, has_text, moved)


class StudentModel(nn.Module):
    """Features of both modalities -> raw outputs of all tasks; `outputs` turn these into predictions."""

    share: Tensor  # of the linear model in each raw output, [outputs]; the rest is of the hidden layers

    def __init__(
        self,
        settings: Student,
        targets: dict[str, Target],
        image_dim: int,
        text_dim: int,
        start: Start | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.image, self.text = Standardise(image_dim), Standardise(text_dim)
        self.fusion = build_fusion(settings.fusion, image_dim, text_dim)
        self.outputs = nn.ModuleDict({name: build_output(target) for name, target in targets.items()})
        groups = [size for name in targets for size in self.output(name).groups()]
        self.heads = Heads(settings.head, self.fusion.dim, groups)
        self.lexical = Lexical(settings.lexical, sum(groups)) if settings.lexical else None
        self.start = Started(start) if start is not None else None
        dim = image_dim + text_dim + (start.dim if start is not None else 0)
        self.linear = Linear(dim, self.gram_settings, sum(groups)) if settings.linear else None
        self.register_buffer("share", torch.zeros(sum(groups)))
        ends = np.cumsum([self.output(name).outputs for name in targets]).tolist()
        self.columns = {name: slice(a, b) for name, a, b in zip(targets, [0, *ends], ends, strict=False)}  # by task

    @property
    def gram_settings(self) -> LexicalBranch | None:
        """How texts become n-grams; None where nothing looks at any."""
        own = self.settings.lexical
        return own or (GRAMS if self.settings.linear and self.settings.text else None)

    def output(self, task: str) -> Output:
        """The output of a task."""
        return cast(Output, self.outputs[task])

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs of every member of the head, [members, n, outputs]."""
        raw = self.of_layers(batch)
        if self.linear is None or self.training or not bool(self.share.any()):
            return raw
        return raw + self.share * (self.of_linear(batch) - raw)

    def of_layers(self, batch: Batch) -> Tensor:
        """Raw outputs of the hidden layers and the learnt n-grams alone, [members, n, outputs]."""
        seen = self._seen(batch)
        raw: Tensor = self.heads(self.fusion(*seen, *batch[2:4]))
        if self.lexical is not None and batch.grams is not None:
            raw = raw + self.lexical(batch.grams)
        return raw

    def of_linear(self, batch: Batch) -> Tensor:
        """Raw outputs of the linear model alone, [n, outputs]; zeros where there is none."""
        if self.linear is None:
            return torch.zeros(len(batch.image), len(self.share), device=batch.image.device)
        return self.bent(self.linear(self.standardised(batch), batch.grams))

    def bent(self, straight: Tensor) -> Tensor:
        """Raw outputs of what the linear model gives, [n, outputs]."""
        return torch.cat([self.output(name).bend(straight[:, at]) for name, at in self.columns.items()], dim=1)

    def standardised(self, batch: Batch) -> Tensor:
        """Both modalities' features side by side, standardised; zeros for one that a post lacks, [n, dims]. Beside them
        what the student says that this one started from.
        """
        image, text = self._seen(batch)
        parts = [image * batch.has_image[:, None], text * batch.has_text[:, None]]
        return torch.cat(parts if self.start is None else [*parts, self.start(batch)], dim=1)

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.image(batch.image, batch.has_image), self.text(batch.text, batch.has_text)

    def answers(self, raw: Tensor, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Predictions by task from raw outputs [members, n, outputs]: scores [n] or probabilities [n, K]."""
        mean, found = raw.float().mean(0), {}
        for name, at in self.columns.items():
            output = self.output(name)
            given = output(mean[:, at]) if calibrated else output.uncalibrated(mean[:, at])
            found[name] = given.detach().cpu().numpy()
        return found

    def predict(self, features: Features, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Predictions by task of n posts, float32; `calibrated` False leaves temperature scaling out."""
        self.eval()
        return self.predict_inputs(Inputs(features, self), calibrated=calibrated)

    def predict_inputs(self, inputs: Inputs, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """The same of features that are tensors already."""
        device, n = self.image.mean.device, len(inputs.image)
        with torch.inference_mode():
            raw = [
                self(inputs.rows(torch.arange(start, min(start + PREDICT_ROWS, n))).to(device))
                for start in range(0, n, PREDICT_ROWS)
            ]
            return self.answers(torch.cat(raw, dim=1), calibrated=calibrated)

    @property
    def members(self) -> list[StudentModel]:
        """The students that answer: this one; see Ensemble."""
        return [self]

    def each(self, features: Features, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """The predictions as those of an ensemble of one, [1, n] or [1, n, names]."""
        return {task: found[None] for task, found in self.predict(features, calibrated=calibrated).items()}

    def thresholds(self, task: str) -> np.ndarray | None:
        """The thresholds of a task's labels, [labels]; None for scores and classes."""
        return self.output(task).thresholds_of()


class Start(nn.ModuleList):
    """Students of another task as features of this one: what they say together, [n, outputs], before it becomes a score
    or probabilities, without n-grams. They learn no more.
    """

    def __init__(
        self, name: str, settings: Student, targets: dict[str, Target], image_dim: int, text_dim: int, members: int
    ) -> None:
        self.name, self.settings, self.targets = name, settings.model_copy(update={"lexical": None}), targets
        super().__init__(StudentModel(self.settings, targets, image_dim, text_dim) for _ in range(members))
        for member in cast(list[StudentModel], list(self)):
            if member.linear is not None:
                member.linear.grams = None
        self.requires_grad_(False)
        super().train(False)

    @property
    def dim(self) -> int:
        """How many outputs they have."""
        return len(cast(StudentModel, self[0]).share)

    def train(self, mode: bool = True) -> Start:
        """Nothing: they have learnt."""
        return self

    def forward(self, batch: Batch) -> Tensor:
        """What they say of posts."""
        batch, found = batch._replace(grams=None), []
        for member in cast(list[StudentModel], list(self)):
            raw = member.of_layers(batch).float().mean(0)
            found.append(raw if member.linear is None else raw + member.share * (member.of_linear(batch) - raw))
        return torch.stack(found).mean(0)


class Started(nn.Module):
    """What a start says, so scaled that it counts as much as all features together."""

    mean: Tensor
    scale: Tensor

    def __init__(self, start: Start) -> None:
        super().__init__()
        self.of = start
        self.register_buffer("mean", torch.zeros(start.dim))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, batch: Batch, dims: int) -> None:
        """Centre by posts, and make them `dims` long in the mean square."""
        told = self.of(batch)
        self.mean.copy_(told.mean(0))
        self.scale.copy_((dims / (told - self.mean).square().sum(1).mean().clamp(min=1e-6)).sqrt())

    def forward(self, batch: Batch) -> Tensor:
        """[n, outputs]"""
        found: Tensor = (self.of(batch) - self.mean) * self.scale
        return found


class Inputs:
    """Features as tensors, n-grams hashed once, from which batches are taken."""

    def __init__(self, features: Features, *models: StudentModel, all_grams: bool = False) -> None:
        """`models`: those that will see them, of one kind; `all_grams`: n-grams also where no answer is of them."""
        self.image, self.text = torch.from_numpy(features.image), torch.from_numpy(features.text)
        self.has_image, self.has_text = torch.from_numpy(features.has_image), torch.from_numpy(features.has_text)
        settings = models[0].gram_settings if all_grams else grams_used(models)
        self.table = hash_grams(features.words, settings) if settings else None

    def rows(self, rows: Tensor) -> Batch:
        """Some posts as a batch."""
        found = grams(self.table[rows.numpy()]) if self.table is not None else None
        return Batch(self.image[rows], self.text[rows], self.has_image[rows], self.has_text[rows], found)


def grams_used(models: Sequence[StudentModel]) -> LexicalBranch | None:
    """How texts become n-grams for students of one kind; None where no answer rests on any."""
    used = any(model.settings.lexical or bool(model.share.any()) for model in models)
    return models[0].gram_settings if used else None


class Ensemble(nn.ModuleList):
    """Students of cross-fitting, which answer together; member j never saw fold j of the labelled posts.

    The answer is the mean of their predictions, not of their raw outputs: over posts that none of them saw it has the
    same expectation as the prediction of the one student that did not see a labelled post. A mean of raw outputs, bent
    by softmax or sigmoid afterwards, has not, and figures corrected by the labelled posts would carry the difference.
    """

    def __init__(self, members: Sequence[StudentModel]) -> None:
        super().__init__(members)

    @property
    def members(self) -> list[StudentModel]:
        """The students, by fold."""
        return cast(list[StudentModel], list(self))

    def output(self, task: str) -> Output:
        """The output of a task, of the first student."""
        return self.members[0].output(task)

    def each(self, features: Features, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Every student's predictions by task, [k, n] or [k, n, names]."""
        self.eval()
        inputs = Inputs(features, *self.members)
        found = [member.predict_inputs(inputs, calibrated=calibrated) for member in self.members]
        return {task: np.stack([one[task] for one in found]) for task in found[0]}

    def predict(self, features: Features, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Predictions by task of n posts: the mean of the students'."""
        return {task: own(every, None) for task, every in self.each(features, calibrated=calibrated).items()}

    def thresholds(self, task: str) -> np.ndarray | None:
        """The students' mean thresholds of a task's labels, [labels]; None for scores and classes."""
        found = [at for member in self.members if (at := member.thresholds(task)) is not None]
        return np.mean(found, axis=0) if found else None


def own(every: np.ndarray, fold: np.ndarray | None) -> np.ndarray:
    """Of every student's predictions [k, n, …] the mean, or where `fold` is not -1, the one of that student."""
    found = every.mean(0)
    if fold is not None:
        rows = np.flatnonzero(fold >= 0)
        found[rows] = every[fold[rows], rows]
    return np.asarray(found)
