"""The posts of a task that a search may learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from assay.config import Params
from assay.encode import features as feature_files
from assay.errors import DataError
from assay.places import start_folder
from assay.student.crossfit import folds_wanted
from assay.student.parts import Part, parts_by_split
from assay.student.start import kept_start
from assay.student.tune import Search


def search_of(name: str, params: Params, data: Path, seed: int) -> Search:
    """A search by the tables of the pipeline below `data`, without the posts of a test split.

    With cross-fitting there is no such split, but for an official one: all labelled posts are judged out of fold.
    DataError where the tables are not there, or are of other settings.
    """
    task = params.tasks[name]
    student = params.students[task.student]
    labels, split = data / "labels" / f"{name}.parquet", data / "split" / f"{name}.parquet"
    for path in (data / "features" / name, labels, split):
        if not path.exists():
            raise DataError(f"{path} is not there; run `dvc repro embed@{name} split@{name}` first")
    _check_same(name, params, data)
    ids, known, made = feature_files.load(data / "features" / name)
    parts = parts_by_split(ids, known, {name: labels}, split, {name: task.target}, learning=True)
    official = bool(pq.read_table(split, columns=["held_out_p"])["held_out_p"].null_count)
    judged = official or not folds_wanted(student, task.train)
    pool = Part.join([part for where, part in sorted(parts.items()) if where != "test" or not judged])
    kept = task.train.start_from
    start = kept_start(start_folder(kept), made["encoders"]) if kept else None
    return Search(name, task.target, student, task.train, pool, seed, start)


def _check_same(name: str, params: Params, data: Path) -> None:
    """DataError where posts, labels or encoders are set otherwise than when the tables were made."""
    now = params.sections()
    student = f"students/{params.tasks[name].student}"
    places = [f"tasks/{name}/{part}" for part in ("corpus", "student", "target", "sample", "annotate", "split")]
    for place in (student, *places):
        path = data / "settings" / f"{place}.json"
        if path.exists() and _shown(json.loads(path.read_text()), place) != _shown(now[place], place):
            raise DataError(
                f"{place.replace('/', '.')} has changed since the tables in {data} were made; "
                f"run `dvc repro embed@{name} split@{name}` first"
            )


def _shown(section: dict[str, Any], place: str) -> Any:
    """A section; of a student its encoders alone, since its head is what is searched for."""
    value = section[place.replace("/", ".")]
    return {branch: value[branch] for branch in ("image", "text")} if place.startswith("students/") else value
