"""Folders and archives as SageMaker's containers want them: the model, our code, and what it needs."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from importlib.metadata import requires
from pathlib import Path

import assay
from assay.errors import ModelError

INFERENCE = "from assay.serve.sagemaker import input_fn, model_fn, output_fn, predict_fn\n"
TRAINING = 'from assay.serve.sagemaker.train import main\n\nif __name__ == "__main__":\n    main()\n'
NOT_THERE = {"dvc", "dvclive", "torch", "torchvision"}  # the pipeline's, and what the containers bring


def pack(model: Path, out: Path) -> Path:
    """Write a model folder as `model.tar.gz` with `code/inference.py`, our package and its requirements.

    ModelError where `model` is no model folder. The same model gives the same bytes.
    """
    if not (model / "config.json").is_file():
        raise ModelError(f"{model}: no config.json; give a model folder, such as models/sentiment")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    with tarfile.open(part, "w:gz", compresslevel=1) as archive:
        for path in sorted(model.rglob("*")):
            if path.is_file() and not path.relative_to(model).parts[0].startswith("seed-"):
                _add(archive, str(path.relative_to(model)), path.read_bytes())
        _add(archive, "code/inference.py", INFERENCE.encode())
        _add(archive, "code/requirements.txt", requirements().encode())
        for path in _sources():
            _add(archive, f"code/assay/{path.relative_to(_package())}", path.read_bytes())
    part.replace(out)
    return out


def source_dir(folder: Path) -> Path:
    """Write the source folder of a training job: `train.py`, our package and its requirements."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(TRAINING)
    (folder / "requirements.txt").write_text(requirements())
    for path in _sources():
        to = folder / "assay" / path.relative_to(_package())
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    return folder


def requirements() -> str:
    """What our package needs in a container that brings torch, a line each."""
    lines = [line for line in requires("assay") or [] if "extra ==" not in line]
    kept = [line for line in lines if re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() not in NOT_THERE]
    return "\n".join(sorted(kept)) + "\n"


def _package() -> Path:
    return Path(str(assay.__file__)).parent


def _sources() -> list[Path]:
    kinds = {".py", ".html", ".css"}
    return [path for path in sorted(_package().rglob("*")) if path.suffix in kinds and path.is_file()]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))
