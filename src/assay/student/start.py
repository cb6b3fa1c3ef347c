"""What a student of few labels may start from: another task's student of the same features, kept below `starts/`.

`config.json`          its name, settings, targets and encoders
`start.safetensors`    its weights, without n-grams; the model folder of what started from it has the same file
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from assay.encode.features import EncoderFacts, dims_of
from assay.errors import DataError, ModelError
from assay.student.folder import FORMAT, Kept, StartFacts, check_shapes
from assay.student.model import Start

FILE = "start.safetensors"


def facts_of(start: Start) -> dict[str, Any]:
    """What config.json says of a start."""
    return {
        "name": start.name,
        "student": start.settings.model_dump(),
        "targets": {name: target.model_dump() for name, target in start.targets.items()},
        "members": len(start),
    }


def write_start(start: Start, folder: Path) -> None:
    """Write a start's weights into a folder."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in start.state_dict().items()}, folder / FILE)


def read_start(folder: Path, told: StartFacts, dims: tuple[int, int]) -> Start:
    """A start as config.json tells of it, with the weights of a folder; ModelError where these do not fit."""

    def build() -> Start:
        return Start(told.name, told.student, dict(told.targets), *dims, members=told.members)

    path = folder / FILE
    try:
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError(f"{folder}/config.json asks for a start that cannot be; keep it again") from error
    check_shapes(path, shapes)
    start = build()
    try:
        start.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:160]}; keep it again") from error
    return start


def keep_start(start: Start, encoders: dict[str, EncoderFacts], folder: Path) -> None:
    """Write a start of its own, for others to start from."""
    folder.mkdir(parents=True, exist_ok=True)
    write_start(start, folder)
    text = json.dumps({"format": FORMAT, "start": facts_of(start), "encoders": encoders}, indent=1)
    (folder / "config.json").write_text(text + "\n")


def kept_start(folder: Path, encoders: dict[str, EncoderFacts]) -> Start:
    """A start that was kept, for a student with these encoders; DataError where it is not there or sees others."""
    path = folder / "config.json"
    if not path.exists():
        raise DataError(f"train.start_from: {folder} is not there; `assay keep --task TASK` keeps a trained student")
    try:
        found = Kept.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        raise ModelError(f"{path} is not one of this version; keep it again: `assay keep --task TASK`") from error
    theirs: dict[str, EncoderFacts] = {
        str(name): {"identity": one.identity, "dim": one.dim} for name, one in found.encoders.items()
    }
    for name in sorted(set(theirs) | set(encoders)):
        if theirs.get(name) != encoders.get(name):
            raise DataError(
                f"train.start_from: {folder} reads another {name} encoder than this student, or reads it otherwise; "
                "start from a student with the same branches"
            )
    return read_start(folder, found.start, dims_of(theirs))
