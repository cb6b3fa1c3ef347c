"""The posts of a task that a search may learn from."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from assay.config import Student, Task
from assay.encode import features as feature_files
from assay.errors import DataError
from assay.student.parts import Part, parts_by_split
from assay.student.tune import Search


def search_of(name: str, task: Task, student: Student, data: Path, seed: int) -> Search:
    """A search by the tables of the pipeline below `data`, without the posts of an official test split.

    DataError where they are not there.
    """
    labels, split = data / "labels" / f"{name}.parquet", data / "split" / f"{name}.parquet"
    for path in (data / "features" / name, labels, split):
        if not path.exists():
            raise DataError(f"{path} is not there; run `dvc repro embed@{name} split@{name}` first")
    ids, known, _ = feature_files.load(data / "features" / name)
    parts = parts_by_split(ids, known, {name: labels}, split, {name: task.target})
    official = bool(pq.read_table(split, columns=["held_out_p"])["held_out_p"].null_count)
    pool = Part.join([part for where, part in sorted(parts.items()) if where != "test" or not official])
    return Search(name, task.target, student, task.train, pool, seed)
