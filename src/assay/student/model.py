"""A student's trained part, and its folder: safetensors and JSON, no pickle.

`model.safetensors`  weights of standardisation, fusion and head
`config.json`        settings, target, encoders (name and identity), preprocessing, calibration, versions
`README.md`          the model card
Frozen encoders are named with the digest of their weights, not copied.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.config import Student, Target
from assay.errors import ModelError
from assay.student.features import EncoderFacts, Features
from assay.student.fusion import Standardise, build_fusion
from assay.student.heads import MLP, build_output

FORMAT = 1


class StudentModel(nn.Module):
    """Features of both modalities -> raw outputs; `output` turns these into scores or probabilities."""

    def __init__(self, settings: Student, target: Target, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.image, self.text = Standardise(image_dim), Standardise(text_dim)
        self.fusion = build_fusion(settings.fusion, image_dim, text_dim)
        self.output = build_output(target)
        self.head = MLP(settings.head, self.fusion.dim, self.output.outputs)

    def forward(self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor) -> Tensor:
        """float [n, image dim], float [n, text dim], bool [n], bool [n] -> raw [n, outputs]."""
        fused = self.fusion(self.image(image, has_image), self.text(text, has_text), has_image, has_text)
        raw: Tensor = self.head(fused)
        return raw

    def predict(self, features: Features) -> np.ndarray:
        """Scores float32 [n], or probabilities float32 [n, classes], of n posts."""
        self.eval()
        with torch.inference_mode():
            return np.asarray(self.output(self(*tensors(features))).float().numpy())


def tensors(features: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four inputs of a student."""
    return (
        torch.from_numpy(features.image),
        torch.from_numpy(features.text),
        torch.from_numpy(features.has_image),
        torch.from_numpy(features.has_text),
    )


@dataclass
class Trained:
    """A student as its folder holds it."""

    model: StudentModel
    task: str
    student: Student
    target: Target
    encoders: dict[str, EncoderFacts]
    preprocessing: dict[str, int]  # image_px, max_images
    calibration: dict[str, float]
    versions: dict[str, str]
    training: dict[str, Any]

    def save(self, folder: Path, card: str) -> None:
        """Write the model folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        config = {
            "format": FORMAT,
            "task": self.task,
            "student": self.student.model_dump(),
            "target": self.target.model_dump(),
            "encoders": self.encoders,
            "preprocessing": self.preprocessing,
            "calibration": self.calibration,
            "versions": self.versions,
            "training": self.training,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        (folder / "README.md").write_text(card)


def load_trained(folder: Path) -> Trained:
    """Read a model folder; ModelError when something in it is missing or does not fit."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no readable config.json; make the model with `dvc repro train@<task>`") from error
    if config.get("format") != FORMAT:
        raise ModelError(f"{folder}: format {config.get('format')} is not {FORMAT}; train again with this version")
    try:
        student = Student.model_validate(config["student"])
        target: Target = TypeAdapter(Target).validate_python(config["target"])
    except (KeyError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        raise ModelError(f"{folder}/config.json is not one of this version ({said}); train again") from error
    facts = config["encoders"]
    dims = [facts[name]["dim"] if name in facts else 0 for name in ("image", "text")]
    model = StudentModel(student, target, *dims)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{folder}/model.safetensors: {' '.join(str(error).split())[:160]}") from error
    names = ("preprocessing", "calibration", "versions", "training")
    return Trained(model.eval(), config["task"], student, target, facts, *(config[name] for name in names))


def folder_digest(folder: Path) -> str:
    """A digest of what decides a model's predictions: its weights and its config."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
