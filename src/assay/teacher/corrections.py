"""What people say of posts one at a time, on the page: kept in the table that Label Studio's answers fill."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

from assay.errors import DataError
from assay.places import home
from assay.targets import Target, Value
from assay.teacher.quality import Humans, read_chances, read_humans, read_times, write_humans
from assay.teacher.rubric import gold_value

CODER = 60  # characters of a person's name


def keep(path: Path, target: Target, post_id: str, coder: str, value: Any) -> None:
    """Keep a person's answer about a post, with the time, in human/<task>.csv; an earlier one of the same person goes.

    Several pages may write at once. DataError for an answer or a name that cannot be kept.
    """
    name = " ".join(coder.split())[:CODER]
    if not name or not name.isprintable() or name[0] in "=+-@":
        raise DataError("say who you are, in a name or a number, so that your answers can be told from others'")
    said: Value = gold_value(json.dumps(value) if isinstance(value, list) else str(value), target)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with alone(path):
        found, chances, times = read_humans(path, target), read_chances(path), read_times(path)
        found.setdefault(post_id, {})[name] = said
        write_humans(path, found, chances, times | {(post_id, name): now})


def alone(path: Path) -> BaseFileLock:
    """The lock of a table of human labels, which whoever changes it holds."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return FileLock(home() / f"human-{name}.lock", timeout=30)


def corrected(rows: list[dict[str, Any]], people: Humans, target: Target) -> list[dict[str, Any]]:
    """Rows of the labels table with what people say of the posts that they coded as `corrected`.

    The student learns from it; the label itself, on which figures and findings rest, stays what it was.
    """
    said = {post: target.joint(list(codes.values())) for post, codes in people.items() if codes}
    return [row | ({"corrected": said[row["post_id"]]} if row["post_id"] in said else {}) for row in rows]
