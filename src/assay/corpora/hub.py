"""Image-text data sets of the Hugging Face `datasets` library, by hub name or local folder.

They are written out once as a table with picture files, below `data/raw/hub`, and read like any other
table from then on; what was asked for stands beside them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from assay.config import Demo, HubCorpus
from assay.errors import CorpusError, SettingsError
from assay.places import corpus_root, with_extra
from assay.progress import progress

if TYPE_CHECKING:
    from assay.corpora.table import Table

STAMP, TABLE, SPLIT = "asked.json", "posts.jsonl", "assay_split"
SUFFIX = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp"}


def export_folder(settings: HubCorpus) -> Path:
    """Where a data set is written out: one folder for each name, config, revision and column map."""
    asked = json.dumps(settings.model_dump(include={"path", "config", "revision", "columns"}), sort_keys=True)
    name = settings.path.rstrip("/").rpartition("/")[2]
    return corpus_root("data/raw/hub") / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:10]}"


def ensure_exported(settings: HubCorpus) -> None:
    """Write the data set out unless that was done; CorpusError with one line when it cannot be had."""
    folder = export_folder(settings)
    if (folder / STAMP).is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / STAMP).is_file():
            return
        splits = _load(settings)
        partial = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "images").mkdir(parents=True)
        with open(partial / TABLE, "w", encoding="utf-8") as table:
            for split, rows in splits.items():
                for row in _rows(rows, split, settings, partial):
                    table.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        (partial / STAMP).write_text(settings.model_dump_json(include={"path", "config", "revision", "columns"}))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _load(settings: HubCorpus) -> dict[str, Any]:
    """The splits of the data set, by name."""
    try:
        import datasets
    except ImportError as error:
        raise SettingsError(f"a corpus of kind hub needs the package datasets: {with_extra('hub')}") from error
    local = corpus_root(settings.path)
    try:
        if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
            found = datasets.load_from_disk(str(local))
        else:
            source = str(local) if local.exists() else settings.path
            found = datasets.load_dataset(source, settings.config, revision=settings.revision)
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        raise CorpusError(
            f"{settings.path}: cannot be loaded ({type(error).__name__}: {said}); name a data set of the hub while it "
            "can be reached, or a local folder"
        ) from error
    return dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}


def _rows(rows: Any, split: str, settings: HubCorpus, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a split as JSON objects, their pictures written beside them."""
    import datasets

    columns = settings.columns
    named = {key: column for key, column in columns.named.items() if key not in ("id", "split")}
    for key, column in named.items():
        if column not in rows.column_names:
            raise CorpusError(
                f"{settings.path}: columns.{key}: no column {column!r}; it has: {', '.join(rows.column_names)}"
            )
    image = columns.image
    is_picture = image is not None and isinstance(rows.features[image], datasets.Image)
    if is_picture:
        rows = rows.cast_column(image, datasets.Image(decode=False))
    for number, row in enumerate(progress(rows, what=f"export {split}", total=len(rows), unit="row")):
        found = {name: _named(rows.features[name], row[name]) for name in named.values() if name != image}
        found[columns.id] = str(row[columns.id]) if columns.id in row else f"{split}-{number:07d}"
        found[columns.split or SPLIT] = row.get(columns.split, split) if columns.split else split
        if image is not None:
            found[image] = _write(row[image], folder, f"{split}-{number:07d}") if is_picture else row[image]
        yield found


def _write(picture: dict[str, Any] | None, folder: Path, name: str) -> str | None:
    """Write the bytes of a picture; the path that the table names."""
    if picture is None:
        return None
    data = picture["bytes"]
    if data is None:
        path = Path(picture["path"] or "")
        if not path.is_file():
            return f"images/{path.name}"  # ingest will say that it is missing
        data = path.read_bytes()
    relative = f"images/{name}{SUFFIX.get(data[:2], '.bin')}"
    (folder / relative).write_bytes(data)
    return relative


def _named(feature: Any, value: Any) -> Any:
    """Class numbers as their names, also within lists."""
    if value is None:
        return None
    inner = getattr(feature, "feature", None)
    if inner is not None and isinstance(value, list):
        return [_named(inner, one) for one in value]
    if hasattr(feature, "int2str") and isinstance(value, int):
        return feature.int2str(value) if value >= 0 else None
    return value


def places(settings: HubCorpus) -> list[Path]:
    """The folder that the data set is written out to."""
    return [export_folder(settings)]


def ensure(settings: HubCorpus, demo: Demo) -> None:
    """Write the data set out unless that was done."""
    ensure_exported(settings)


def open_layout(settings: HubCorpus, places: Sequence[Path]) -> Table:
    """The exported table."""
    from assay.corpora.table import Table  # whoever asks where pictures lie reads no tables

    columns = settings.columns.model_copy(update={"split": settings.columns.split or SPLIT})
    return Table(places[0] / TABLE, places[0], columns, unneeded=[places[0] / STAMP])
