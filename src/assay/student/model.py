"""A student's trained part, and its folder: safetensors and JSON, no pickle.

`model.safetensors`  weights of standardisation, fusion, heads and n-grams
`familiar.safetensors`  what tells posts that are unlike those learnt from
`image.safetensors`, `text.safetensors`  what an encoder learnt, where it was not frozen
`config.json`        settings, targets, encoders (name and identity), preprocessing, calibration, versions
`README.md`          the model card
Encoders are named with the digest of their weights, not copied.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.config import Student
from assay.encode.features import EncoderFacts, Features
from assay.errors import ModelError
from assay.student.familiar import FILE as FAMILIAR
from assay.student.familiar import Familiar
from assay.student.folder import FORMAT, check_shapes, read_config
from assay.student.fusion import Standardise, build_fusion
from assay.student.heads import Heads
from assay.student.lexical import Grams, Lexical, grams, hash_grams
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

    def __init__(self, settings: Student, targets: dict[str, Target], image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.image, self.text = Standardise(image_dim), Standardise(text_dim)
        self.fusion = build_fusion(settings.fusion, image_dim, text_dim)
        self.outputs = nn.ModuleDict({name: build_output(target) for name, target in targets.items()})
        groups = [size for name in targets for size in self.output(name).groups()]
        self.heads = Heads(settings.head, self.fusion.dim, groups)
        self.lexical = Lexical(settings.lexical, sum(groups)) if settings.lexical else None

    def output(self, task: str) -> Output:
        """The output of a task."""
        return cast(Output, self.outputs[task])

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs of every member of the head, [members, n, outputs]."""
        fused = self.fusion(
            self.image(batch.image, batch.has_image), self.text(batch.text, batch.has_text), *batch[2:4]
        )
        raw: Tensor = self.heads(fused)
        if self.lexical is not None and batch.grams is not None:
            raw = raw + self.lexical(batch.grams)
        return raw

    def answers(self, raw: Tensor, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Predictions by task from raw outputs [members, n, outputs]: scores [n] or probabilities [n, K]."""
        mean, at = raw.float().mean(0), 0
        found = {}
        for name in self.outputs:
            output = self.output(name)
            part = mean[:, at : at + output.outputs]
            at += output.outputs
            found[name] = (output(part) if calibrated else output.uncalibrated(part)).detach().cpu().numpy()
        return found

    def predict(self, features: Features, *, calibrated: bool = True) -> dict[str, np.ndarray]:
        """Predictions by task of n posts, float32; `calibrated` False leaves temperature scaling out."""
        self.eval()
        inputs = Inputs(features, self)
        device = self.image.mean.device
        with torch.inference_mode():
            raw = [
                self(inputs.rows(torch.arange(start, min(start + PREDICT_ROWS, len(features)))).to(device))
                for start in range(0, len(features), PREDICT_ROWS)
            ]
            return self.answers(torch.cat(raw, dim=1), calibrated=calibrated)

    def thresholds(self, task: str) -> np.ndarray | None:
        """The thresholds of a task's labels, [labels]; None for scores and classes."""
        return self.output(task).thresholds_of()


class Inputs:
    """Features as tensors, n-grams hashed once, from which batches are taken."""

    def __init__(self, features: Features, model: StudentModel) -> None:
        self.image, self.text = torch.from_numpy(features.image), torch.from_numpy(features.text)
        self.has_image, self.has_text = torch.from_numpy(features.has_image), torch.from_numpy(features.has_text)
        lexical = model.settings.lexical
        self.table = hash_grams(features.words, lexical) if lexical else None

    def rows(self, rows: Tensor) -> Batch:
        """Some posts as a batch."""
        found = grams(self.table[rows.numpy()]) if self.table is not None else None
        return Batch(self.image[rows], self.text[rows], self.has_image[rows], self.has_text[rows], found)


@dataclass
class Trained:
    """A student as its folder holds it; a joint student has several targets."""

    model: StudentModel
    name: str
    student: Student
    targets: dict[str, Target]
    encoders: dict[str, EncoderFacts]
    preprocessing: dict[str, int]  # image_px, max_images
    calibration: dict[str, dict[str, Any]]  # by task
    versions: dict[str, str]
    training: dict[str, Any]
    learnt: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # by branch, weights of a tuned encoder
    folder: Path | None = None
    familiar: Familiar | None = None  # tells posts that are unlike those learnt from

    @property
    def task(self) -> str:
        """The one task; ModelError where a joint student has several."""
        if len(self.targets) > 1:
            raise ModelError(f"{self.name} answers several tasks: {', '.join(self.targets)}; name one")
        return next(iter(self.targets))

    def save(self, folder: Path, card: str) -> None:
        """Write the model folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        for left in (FAMILIAR, "image.safetensors", "text.safetensors"):  # of another student, in the same folder
            (folder / left).unlink(missing_ok=True)
        for branch, tensors in self.learnt.items():
            save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, folder / f"{branch}.safetensors")
        config = {
            "format": FORMAT,
            "name": self.name,
            "student": self.student.model_dump(),
            "targets": {name: target.model_dump() for name, target in self.targets.items()},
            "encoders": self.encoders,
            "preprocessing": self.preprocessing,
            "calibration": self.calibration,
            "versions": self.versions,
            "training": self.training,
        }
        if self.familiar is not None:
            self.familiar.save(folder)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        (folder / "README.md").write_text(card)
        self.folder = folder


def load_trained(folder: Path) -> Trained:
    """Read a model folder; ModelError when something in it is missing or does not fit."""
    config = read_config(folder)
    facts: dict[str, EncoderFacts] = {
        name: {"identity": one.identity, "dim": one.dim} for name, one in config.encoders.items()
    }
    dims = [facts[name]["dim"] if name in facts else 0 for name in ("image", "text")]
    weights = folder / "model.safetensors"
    try:
        with torch.device("meta"):  # what config.json asks for, before memory is given to it
            planned = StudentModel(config.student, config.targets, *dims)
        shapes = {name: tensor.shape for name, tensor in planned.state_dict().items()}
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        said = " ".join(str(error).split())[:120]
        raise ModelError(f"{folder}/config.json asks for a student that cannot be ({said}); train again") from error
    check_shapes(weights, shapes)
    model = StudentModel(config.student, config.targets, *dims)
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{weights}: {' '.join(str(error).split())[:160]}; train again") from error
    calibration = {task: one.model_dump(exclude_unset=True) for task, one in config.calibration.items()}
    return Trained(
        model.eval(),
        config.name,
        config.student,
        dict(config.targets),
        facts,
        config.preprocessing.model_dump(),
        calibration,
        config.versions,
        config.training,
        folder=folder,
        familiar=Familiar.load(folder, {name: one["dim"] for name, one in facts.items()}),
    )


def folder_digest(folder: Path) -> str:
    """A digest of what decides a model's predictions: its weights and its config."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
