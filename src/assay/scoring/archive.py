"""Archives that go elsewhere: our package and what it needs, beside a model or beside what one is trained from."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pyarrow.parquet as pq

import assay
from assay import config
from assay.errors import DataError, SettingsError
from assay.places import start_folder
from assay.posts import count
from assay.reads import note_read

BROUGHT = ("torch", "torchvision")  # by machines with a GPU, in the build that fits it
STAGES = ("_own", "embed", "train", "evaluate")


def pack_training(task: str, out: Path, root: Path = Path()) -> Path:
    """Write what a student of a task is trained from, to be taken to another machine: `<task>-training/…`.

    Sample, labels, split, params.yaml, the stages embed, train and evaluate, our package and requirements.txt.
    It holds the texts and pictures of the sample, and in the labels what the teacher wrote, not encrypted; that is
    written down in the log of reads. DataError where the pipeline has not come so far, SettingsError for an unknown
    task.
    """
    params = config.load(root / "params.yaml")
    if task not in params.tasks:
        raise SettingsError(f"pack --training {task}: no such task; allowed: {', '.join(params.tasks)}")
    sample = root / "data" / "sample" / task
    tables = [root / "data" / "labels" / f"{task}.parquet", root / "data" / "split" / f"{task}.parquet"]
    lacking = [str(path) for path in (sample, *tables) if not path.exists()]
    if lacking:
        raise DataError(f"{lacking[0]} is not there yet; run `dvc repro split@{task}`, or `dvc pull` it")
    pq.read_schema(tables[0])  # a cut table is noticed here, not on a machine that costs money
    note_read("pack --training", task, count(sample))
    files = [root / "params.yaml", *tables, *sorted(sample.iterdir())]
    if start := params.tasks[task].train.start_from:
        files += sorted(path for path in (root / start_folder(start)).glob("*") if path.is_file())
    files += [root / "stages" / f"{stage}.py" for stage in STAGES]
    with written(out) as archive:
        for path in files:
            add(archive, f"{task}-training/{path.relative_to(root)}", path.read_bytes())
        for path in sources():
            add(archive, f"{task}-training/src/assay/{path.relative_to(package())}", path.read_bytes())
        add(archive, f"{task}-training/requirements.txt", requirements(BROUGHT).encode())
    return out


@contextmanager
def written(out: Path) -> Iterator[tarfile.TarFile]:
    """A tar.gz that is there whole or not at all; the same content gives the same bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    try:
        with (
            open(part, "wb") as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            yield archive
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def requirements(without: Collection[str]) -> str:
    """What our package needs, a line each, without what the other machine brings."""
    lines = [line for line in requires("assay") or [] if "extra ==" not in line]
    kept = [line for line in lines if re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() not in without]
    return "\n".join(sorted(kept)) + "\n"


def package() -> Path:
    """Where our package lies."""
    return Path(str(assay.__file__)).parent


def sources() -> list[Path]:
    """The files of our package."""
    kinds = {".py", ".html", ".css", ".js"}
    return [path for path in sorted(package().rglob("*")) if path.suffix in kinds and path.is_file()]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file; the same content gives the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))
