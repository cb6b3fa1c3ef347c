"""Images that were generated, by prompt, seed, model and settings: none is generated twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import DataError
from assay.places import home
from assay.store import Store

_SETUP = """
CREATE TABLE IF NOT EXISTS images(
    key TEXT PRIMARY KEY, status TEXT, reason TEXT, data BLOB, facts TEXT, made_at REAL
);
"""


@dataclass(frozen=True)
class Made:
    """What came of one request: status `ok` with the file's bytes, or `failed` with a reason; facts of the making."""

    status: str
    reason: str | None
    data: bytes | None
    facts: dict[str, Any]


def key_of(prompt: str, seed: int, identity: dict[str, Any]) -> str:
    """The key of an image: a digest of prompt, seed and all that decides what the generator makes of them."""
    return hashlib.sha256(json.dumps([prompt, seed, identity], sort_keys=True).encode()).hexdigest()


class ImageStore(Store):
    """The generated images as one process sees them."""

    name, table, setup, error = "image store", "images", _SETUP, DataError

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or home() / "images.sqlite")

    def put(self, key: str, made: Made) -> None:
        """Keep what was made and free its claim; what is there already stays."""
        with self.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?, ?)",
                (key, made.status, made.reason, made.data, json.dumps(made.facts), time.time()),
            )
            db.execute("DELETE FROM claims WHERE key = ?", (key,))

    def forget_failed(self) -> int:
        """Delete the lasting failures, so that they are made again; returns how many."""
        before = self._db.total_changes
        self._run("DELETE FROM images WHERE status = 'failed'", ())
        return self._db.total_changes - before

    def get(self, keys: Iterable[str]) -> Iterator[tuple[str, Made]]:
        """What is there, by key, in no certain order."""
        statement = "SELECT key, status, reason, data, facts FROM images WHERE key IN (...)"
        for key, status, reason, data, facts in self.rows_among(statement, keys):
            yield key, Made(status, reason, data, json.loads(facts))
