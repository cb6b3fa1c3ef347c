"""What stands in a model folder's config.json, checked whole before anything of it is used.

A folder may come from anywhere: its names become file names, its numbers sizes of memory.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open

from assay.config import Student
from assay.errors import ModelError
from assay.targets import AnyTarget

FORMAT = 3
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Facts(_Part):
    """An encoder: a digest of its weights and preprocessing, and the length of its vectors."""

    identity: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
    dim: Annotated[int, Field(ge=1, le=1_000_000)]


class Preprocessing(_Part):
    """How pictures are packed, and how many of a post count."""

    image_px: Annotated[int, Field(ge=1, le=4096)]
    max_images: Annotated[int, Field(ge=1, le=1000)]


class Calibration(BaseModel):
    """What calibration found for one task; figures only."""

    model_config = ConfigDict(extra="allow", strict=True)

    residual_q90: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    set_q90: Finite | dict[str, Finite] | None = None


class StartFacts(_Part):
    """Another task's students that a student started from."""

    name: Name
    student: Student
    targets: Annotated[dict[Name, AnyTarget], Field(min_length=1)]
    members: Annotated[int, Field(ge=1, le=20)]


class Kept(_Part):
    """config.json of a start that was kept."""

    format: Literal[3]
    start: StartFacts
    encoders: dict[Literal["image", "text"], Facts]


class Config(_Part):
    """The whole of config.json."""

    format: int
    name: Name
    student: Student
    targets: Annotated[dict[Name, AnyTarget], Field(min_length=1)]
    encoders: dict[Literal["image", "text"], Facts]
    preprocessing: Preprocessing
    calibration: dict[str, Calibration]
    versions: dict[str, str]
    training: dict[str, Any]
    folds: Annotated[list[dict[str, Calibration]], Field(max_length=20)] = []
    start: StartFacts | None = None

    @field_validator("calibration", "folds", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        if any(isinstance(one, float) and not math.isfinite(one) for one in _numbers(value)):
            raise ValueError("a figure is not finite")
        return value


def read_config(folder: Path) -> Config:
    """The checked config.json of a folder; ModelError with one line where it does not fit."""
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}: no readable config.json; make the model with `dvc repro train@<task>`") from error
    made = raw.get("format") if isinstance(raw, dict) else None
    if made != FORMAT:
        raise ModelError(f"{folder}: format {str(made)[:40]} is not {FORMAT}; train again with this version")
    try:
        found = Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        said = " ".join(f"{where}: {first['msg']}".split())
        raise ModelError(f"{path} is not one of this version ({said}); train again") from error
    for name in ("image", "text"):
        if (getattr(found.student, name) is None) != (name not in found.encoders):
            raise ModelError(f"{path}: student.{name} and encoders.{name} do not fit together; train again")
    unknown = {task for one in (found.calibration, *found.folds) for task in one} - set(found.targets)
    if unknown:
        raise ModelError(f"{path}: calibration.{sorted(unknown)[0]} is no target; train again")
    return found


def check_shapes(path: Path, wanted: dict[str, torch.Size]) -> None:
    """ModelError unless a safetensors file has these tensors in these shapes; reads its header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            there = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:160]}; train again") from error
    for name in sorted(set(wanted) | set(there)):
        if wanted.get(name) != there.get(name):
            one, other = (list(shapes[name]) if name in shapes else "none" for shapes in (wanted, there))
            raise ModelError(f"{path}: size mismatch for {name[:80]}: {one} by config.json, {other} here; train again")


def _numbers(value: Any) -> list[Any]:
    todo, found = [value], []
    while todo:
        here = todo.pop()
        if isinstance(here, dict | list):
            todo += here.values() if isinstance(here, dict) else here
        else:
            found.append(here)
    return found
