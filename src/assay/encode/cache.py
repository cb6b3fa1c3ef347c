"""What was computed once, kept by encoder and content below places.home(), one SQLite file an encoder.

A key is the content hash of the image file (with the size it was packed to) or of the text; a value is the vector in
half precision, or what was read in a picture. Vectors always pass through half precision, so that a cached run equals a
fresh one.
"""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from assay import images
from assay.code import code_digest
from assay.encode import blocks, encoders, graph, image_encoders, text_encoders
from assay.errors import DataError
from assay.places import home

Value = TypeVar("Value")

# The code that turns posts into vectors: values that older code computed are not mixed with new ones.
CODE = (
    *(str(module.__file__) for module in (images, blocks, encoders, graph, image_encoders, text_encoders)),
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


class _Cache(ABC, Generic[Value]):
    """Values of one encoder by content; threads may share one.

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

    @abstractmethod
    def pack(self, value: Value) -> bytes:
        """A value as it is kept."""

    @abstractmethod
    def unpack(self, kept: bytes) -> Value:
        """What `pack` packed."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Value]:
        """The values that are there."""
        found: dict[bytes, Value] = {}
        unique = list(dict.fromkeys(keys))
        for start in range(0, len(unique), 500):
            part = unique[start : start + 500]
            marks = ",".join("?" * len(part))
            try:
                with self._lock:
                    rows = self._db.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part).fetchall()
            except sqlite3.Error as error:
                raise self._broken(error) from error
            found |= {key: self.unpack(kept) for key, kept in rows}
        return found

    def put(self, values: dict[bytes, Value]) -> None:
        """Keep values, where there is room for them; DataError when the disk is full."""
        if self._most is not None and self.size() >= self._most:
            return
        try:
            with self._lock:
                self._put({key: self.pack(value) for key, value in values.items()})
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _put(self, packed: dict[bytes, bytes]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", packed.items())
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


class FeatureCache(_Cache[np.ndarray]):
    """Vectors of one encoder by content, float16."""

    def pack(self, value: np.ndarray) -> bytes:
        return value.tobytes()

    def unpack(self, kept: bytes) -> np.ndarray:
        return np.frombuffer(kept, dtype=np.float16)


class TextCache(_Cache[str]):
    """Texts by content."""

    def pack(self, value: str) -> bytes:
        return value.encode()

    def unpack(self, kept: bytes) -> str:
        return kept.decode()
