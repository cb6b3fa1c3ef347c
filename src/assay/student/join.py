"""Tables of several tasks -> what a joint student learns from: one trunk, one split, labels a task.

A post may be labelled for one task or for several. The split is made anew over all of them, by the
first task's settings, so that no group stands in train for one task and in test for another.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from assay.besides import folder_digest
from assay.config import Task
from assay.encode import features as feature_files
from assay.encode.features import Features
from assay.errors import DataError
from assay.places import start_folder
from assay.posts import read, write_table
from assay.splits import split_by

COLUMNS = ("post_id", "text", "author", "text_sig", "image_sig", "split")


def join(tasks: dict[str, Task], *, samples: Path, labels: Path, features: Path, out: Path) -> dict[str, Any]:
    """Write features/, labels/<task>.parquet, split.parquet and lesson.json; returns counts.

    `samples`, `labels` and `features` are the folders in which every task has its table.
    """
    ids: list[str] = []
    parts: list[Features] = []
    posts: dict[str, dict[str, Any]] = {}
    made: Any = None
    for name in tasks:
        found, known, made_here = feature_files.load(features / name)
        if made is not None and made != made_here:
            raise DataError(f"{name} has features of other encoders or image sizes than {next(iter(tasks))}")
        made = made_here
        seen = set(ids)
        fresh = np.array([i for i, post_id in enumerate(found) if post_id not in seen], dtype=int)
        ids += [found[i] for i in fresh]
        parts.append(known.take(fresh))
        posts |= {row["post_id"]: row for row in read(samples / name, COLUMNS).to_pylist()}
        (out / "labels").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(labels / f"{name}.parquet", out / "labels" / f"{name}.parquet")
    feature_files.save(out / "features", ids, Features.join(parts), made)
    table = _split(tasks, [posts[i] for i in ids], labels)
    write_table(table, out / "split.parquet")
    lesson = {
        name: task.model_dump(include={"target", "train", "student", "evaluate"}, by_alias=True)
        for name, task in tasks.items()
    }
    starts = {task.train.start_from for task in tasks.values()} - {None}
    begun = {f"start {name}": folder_digest(start_folder(str(name))) for name in starts}
    (out / "lesson.json").write_text(json.dumps(lesson | begun, indent=1, sort_keys=True) + "\n")
    return {"posts": len(ids), "labelled": table.num_rows}


def _split(tasks: dict[str, Task], posts: list[dict[str, Any]], labels: Path) -> Any:
    """One split over all labelled posts, stratified by which task labels a post and how."""
    first = next(iter(tasks.values()))
    strata: dict[str, str] = {}
    for name, task in tasks.items():
        table = pq.read_table(labels / f"{name}.parquet", columns=["post_id", "status", "value"]).to_pylist()
        rows = [row for row in table if row["status"] == "ok" and row["post_id"] not in strata]
        if rows:
            found = task.target.strata(task.target.numbers([row["value"] for row in rows]))
            strata |= {row["post_id"]: f"{name} {stratum}" for row, stratum in zip(rows, found, strict=True)}
    labelled = [post for post in posts if post["post_id"] in strata]
    if not labelled:
        raise DataError("no labelled posts to split; see the reasons in the labels tables")
    _, codes = np.unique([strata[post["post_id"]] for post in labelled], return_inverse=True)
    return split_by(labelled, codes, first.split)
