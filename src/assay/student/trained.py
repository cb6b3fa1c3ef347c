"""A trained student and its folder: safetensors and JSON, no pickle.

`model.safetensors`  weights of standardisation, fusion, heads, n-grams and the linear model
`familiar.safetensors`  what tells posts that are unlike those learnt from
`start.safetensors`  another task's student that this one started from, see start
`image.safetensors`, `text.safetensors`  what an encoder learnt, where it was not frozen
`config.json`        settings, targets, encoders (name and identity), preprocessing, calibration, versions
`folds.parquet`      of students of cross-fitting, which labelled post was in which fold
`README.md`          the model card
Encoders are named with the digest of their weights, not copied.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.config import Student
from assay.encode.features import EncoderFacts, dims_of
from assay.errors import ModelError
from assay.student.familiar import FILE as FAMILIAR
from assay.student.familiar import Familiar
from assay.student.folder import FORMAT, check_shapes, read_config
from assay.student.model import Ensemble, Start, StudentModel
from assay.student.start import FILE as START
from assay.student.start import facts_of, read_start, write_start
from assay.targets import Target

FOLDS = "folds.parquet"  # which fold each labelled post was in; no part of what is published
FOLDS_SCHEMA = pa.schema([("post_id", pa.string()), ("fold", pa.int16())])
WEIGHTS = "model.safetensors"


@dataclass
class Trained:
    """A student as its folder holds it; a joint student has several targets."""

    model: StudentModel | Ensemble
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
    folds: list[dict[str, dict[str, Any]]] = field(default_factory=list)  # of an ensemble, calibration by fold and task
    start: Start | None = None  # another task's student that this one started from
    fold_of: dict[str, int] = field(default_factory=dict)  # the fold of each labelled post, by id

    @property
    def task(self) -> str:
        """The one task; ModelError where a joint student has several."""
        if len(self.targets) > 1:
            raise ModelError(f"{self.name} answers several tasks: {', '.join(self.targets)}; name one")
        return next(iter(self.targets))

    def save(self, folder: Path, card: str) -> None:
        """Write the model folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in _own(self.model).items()}
        save_file(weights, folder / WEIGHTS)
        for left in (
            FAMILIAR,
            START,
            "image.safetensors",
            "text.safetensors",
        ):  # of another student, here before
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
        if self.folds:
            config["folds"] = self.folds
        if self.start is not None:
            config["start"] = facts_of(self.start)
            write_start(self.start, folder)
        (folder / FOLDS).unlink(missing_ok=True)
        if self.fold_of:
            table = {"post_id": list(self.fold_of), "fold": list(self.fold_of.values())}
            pq.write_table(pa.table(table, schema=FOLDS_SCHEMA), folder / FOLDS)
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
    dims = dims_of(facts)
    weights = folder / WEIGHTS
    start = read_start(folder, config.start, dims) if config.start else None

    def build() -> StudentModel | Ensemble:
        count = max(1, len(config.folds))
        members = [StudentModel(config.student, config.targets, *dims, start) for _ in range(count)]
        return Ensemble(members) if config.folds else members[0]

    try:
        with torch.device("meta"):  # what config.json asks for, before memory is given to it
            planned = build()
        shapes = {name: tensor.shape for name, tensor in _own(planned).items()}
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        said = " ".join(str(error).split())[:120]
        raise ModelError(f"{folder}/config.json asks for a student that cannot be ({said}); train again") from error
    check_shapes(weights, shapes)
    model = build()
    try:
        model.load_state_dict(load_file(weights), strict=start is None)  # whose weights are there already
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
        folds=[{t: one.model_dump(exclude_unset=True) for t, one in fold.items()} for fold in config.folds],
        start=start,
        fold_of=folds_of(folder),
    )


def start_of(trained: Trained) -> Start:
    """A trained student as what others start from: without its n-grams; ModelError where it cannot be one."""
    if trained.student.tuned:
        learnt = " and ".join(trained.student.tuned)
        raise ModelError(f"{trained.name}: its {learnt} encoder learnt, so that others do not see what it sees")
    if trained.start is not None:
        raise ModelError(f"{trained.name} started from {trained.start.name} itself; keep a student that did not")
    members = trained.model.members
    start = Start(trained.name, trained.student, trained.targets, *dims_of(trained.encoders), members=len(members))
    for mine, theirs in zip(start, members, strict=True):
        wanted = mine.state_dict()
        mine.load_state_dict({name: tensor for name, tensor in theirs.state_dict().items() if name in wanted})
    return start


def _own(model: StudentModel | Ensemble) -> dict[str, Tensor]:
    """A student's tensors by name, without those of what it started from."""
    return {name: one for name, one in model.state_dict().items() if not re.match(r"(\d+\.)?start\.of\.", name)}


def folds_of(folder: Path) -> dict[str, int]:
    """The fold of each labelled post by id; {} where the folder has none; ModelError where they cannot be read."""
    path = folder / FOLDS
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, schema=FOLDS_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:160]}; train again") from error
    return dict(zip(table["post_id"].to_pylist(), table["fold"].to_pylist(), strict=True))


def model_digest(folder: Path) -> str:
    """A digest of what decides a model's predictions: its weights and its config."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
