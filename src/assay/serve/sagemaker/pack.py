"""Folders and archives as SageMaker's containers want them: the model, our code, and what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from assay.errors import ModelError
from assay.scoring import archive as archives
from assay.scoring.archive import add, package, sources, written
from assay.scoring.exported import FOLDER as GRAPHS
from assay.student.trained import FOLDS

INFERENCE = "from assay.serve.sagemaker import input_fn, model_fn, output_fn, predict_fn\n"
TRAINING = 'from assay.serve.sagemaker.train import main\n\nif __name__ == "__main__":\n    main()\n'
CODE = "code"
NOT_THERE = {"dvc", "dvclive", "torch", "torchvision"}  # the pipeline's, and what the containers bring


def pack(model: Path, out: Path) -> Path:
    """Write a model folder as `model.tar.gz` with `code/inference.py`, our package and its requirements.

    ModelError where `model` is no model folder. The same model gives the same bytes.
    """
    if not (model / "config.json").is_file():
        raise ModelError(f"{model}: no config.json; give a model folder, such as models/sentiment")
    with written(out) as archive:
        for path in sorted(model.rglob("*")):
            inside = path.relative_to(model)
            if path.is_file() and not inside.parts[0].startswith(("seed-", CODE)) and inside.name != FOLDS:
                add(archive, str(path.relative_to(model)), path.read_bytes())
        for name, content in _code(model):
            add(archive, f"{CODE}/{name}", content)
    return out


def add_code(model: Path) -> None:
    """Write the same `code` into a model folder, so that what a training job leaves deploys as it is."""
    for name, content in _code(model):
        to = model / CODE / name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)


def _code(model: Path) -> Iterator[tuple[str, bytes]]:
    yield "inference.py", INFERENCE.encode()
    runtime = "openvino\n" if (model / GRAPHS).is_dir() else ""
    yield "requirements.txt", (requirements() + runtime).encode()
    for path in sources():
        yield f"assay/{path.relative_to(package())}", path.read_bytes()


def source_dir(folder: Path) -> Path:
    """Write the source folder of a training job: `train.py`, our package and its requirements."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(TRAINING)
    (folder / "requirements.txt").write_text(requirements())
    for path in sources():
        to = folder / "assay" / path.relative_to(package())
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    return folder


def requirements() -> str:
    """What our package needs in a container that brings torch, a line each."""
    return archives.requirements(NOT_THERE)
