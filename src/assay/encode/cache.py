"""Vectors that were computed once, kept by encoder and content below places.home(), one SQLite file an encoder.

A key is the content hash of the image file (with the size it was packed to) or of the text; a value is the vector in
half precision. Vectors always pass through half precision, so that a cached run equals a fresh one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay import images
from assay.code import code_digest
from assay.encode import encoders, graph, image_encoders, text_encoders
from assay.errors import DataError
from assay.places import home

# The code that turns posts into vectors: values that older code computed are not mixed with new ones.
CODE = (
    *(str(module.__file__) for module in (images, encoders, graph, image_encoders, text_encoders)),
    str(Path(__file__).with_name("extract.py")),
)
PAGE_BYTES = 8192  # three vectors of the packaged image encoder each, or ten of its texts
ENTRY_BYTES = 120  # of a key and its place in the index


def folder() -> Path:
    """Where the caches lie."""
    found = home() / "features"
    found.mkdir(exist_ok=True)
    return found


def vector_bytes(dim: int) -> int:
    """About how much of the disk a vector takes."""
    return 2 * dim + ENTRY_BYTES


class FeatureCache:
    """Vectors of one encoder by content; threads may share one.

    `most`: bytes that its file may grow to, None: as much as comes; what is kept already stays.
    """

    def __init__(self, identity: str, most: int | None = None) -> None:
        self.path = folder() / f"{identity[:32]}-{code_digest(*CODE)}.sqlite"
        self._most, self._lock = most, threading.Lock()
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
            db.executescript(
                f"PRAGMA page_size={PAGE_BYTES}; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "CREATE TABLE IF NOT EXISTS vectors(key BLOB PRIMARY KEY, vector BLOB NOT NULL);"
            )
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there (float16)."""
        found: dict[bytes, np.ndarray] = {}
        unique = list(dict.fromkeys(keys))
        for start in range(0, len(unique), 500):
            part = unique[start : start + 500]
            marks = ",".join("?" * len(part))
            try:
                with self._lock:
                    rows = self._db.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part).fetchall()
            except sqlite3.Error as error:
                raise self._broken(error) from error
            found |= {key: np.frombuffer(vector, dtype=np.float16) for key, vector in rows}
        return found

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep vectors, where there is room for them; DataError when the disk is full."""
        if self._most is not None and self.size() >= self._most:
            return
        try:
            with self._lock:
                self._put(vectors)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _put(self, vectors: dict[bytes, np.ndarray]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO vectors VALUES (?, ?)", [(k, v.tobytes()) for k, v in vectors.items()]
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def size(self) -> int:
        """Bytes of its file."""
        return self.path.stat().st_size

    def _broken(self, error: sqlite3.Error) -> DataError:
        return DataError(
            f"feature cache {self.path}: {error}; free some disk, or delete it (features are computed again)"
        )

    def close(self) -> None:
        self._db.close()
