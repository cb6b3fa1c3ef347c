"""Images that were generated, by prompt, seed, model and settings: none is generated twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from assay.errors import DataError
from assay.store import Store

_SETUP = """
CREATE TABLE IF NOT EXISTS images(
    key TEXT PRIMARY KEY, status TEXT, reason TEXT, data BLOB, facts TEXT, made_at DOUBLE PRECISION
);
"""
_KEEP = "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
PAGE = 20  # images that are copied at a time


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

    def put(self, key: str, made: Made) -> None:
        """Keep what was made and free its claim; what is there already stays."""
        self.repeated(lambda: self._put(key, made))

    def _put(self, key: str, made: Made) -> None:
        with self.writing() as db:
            db.execute(_KEEP, (key, made.status, made.reason, made.data, json.dumps(made.facts), db.now()))
            db.execute("DELETE FROM claims WHERE key = ?", (key,))

    def copy_from(self, other: ImageStore) -> tuple[int, int]:
        """Keep what another store has; returns how many images were new, and how many the other has."""
        new = count = 0
        for page in other.pages("key, status, reason, data, facts, made_at", PAGE):
            with self.writing() as db:
                new += db.executemany(_KEEP, page)
            count += len(page)
        return new, count

    def forget_failed(self) -> int:
        """Delete the lasting failures, so that they are made again; returns how many."""
        with self.writing() as db:
            return int(db.execute("DELETE FROM images WHERE status = 'failed'").rowcount)

    def get(self, keys: Iterable[str]) -> Iterator[tuple[str, Made]]:
        """What is there, by key, in no certain order."""
        statement = "SELECT key, status, reason, data, facts FROM images WHERE key IN (...)"
        for key, status, reason, data, facts in self.rows_among(statement, keys):
            yield key, Made(status, reason, data, json.loads(facts))
