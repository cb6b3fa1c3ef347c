"""The answer store: every answer that was paid for, by the content of its question, kept for ever.

One SQLite file (WAL) in places.home(), outside everything that DVC deletes or copies. Processes
share it: a key is claimed with owner and lease before it is asked, and the claim of a dead owner is
free.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assay.errors import TeacherError
from assay.places import home

LEASE_S = 120.0


@dataclass(frozen=True)
class Answer:
    """What a server said to one question: status `ok` with the raw answer, or `failed` with a reason."""

    key: str
    status: str
    reason: str | None
    raw_answer: str | None
    model: str | None
    how: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


COLUMNS = [field.name for field in fields(Answer)]
_SETUP = f"""
PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS answers(
    key TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])}, answered_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims(
    key TEXT PRIMARY KEY, host TEXT, pid INTEGER, started TEXT, expires REAL
) WITHOUT ROWID;
"""


class AnswerStore:
    """The store as one process sees it; use it in a `with` block."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home() / "answers.sqlite"
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._started = process_start(self._pid)
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=60)
            self._db.executescript(_SETUP)
        except sqlite3.Error as error:
            raise TeacherError(f"answer store {self.path}: {error}; is the disk full or the file damaged?") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key."""
        wanted, found = list(dict.fromkeys(keys)), {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            for row in self._run(f"SELECT {', '.join(COLUMNS)} FROM answers WHERE key IN ({marks})", part):
                found[row[0]] = Answer(*row)
        return found

    def put(self, answers: Sequence[Answer]) -> None:
        """Keep answers and free their claims, in one transaction; one that is there already stays."""
        marks = ",".join("?" * (len(COLUMNS) + 1))
        now = time.time()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                f"INSERT OR IGNORE INTO answers({', '.join(COLUMNS)}, answered_at) VALUES ({marks})",
                [(*astuple(answer), now) for answer in answers],
            )
            self._db.executemany("DELETE FROM claims WHERE key = ?", [(answer.key,) for answer in answers])
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._broken(error) from error

    def claim(self, key: str, lease_s: float = LEASE_S) -> bool:
        """True when this process may ask `key`: it is unanswered, and no living owner holds it."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                return self._claim(key, lease_s)
            finally:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _claim(self, key: str, lease_s: float) -> bool:
        if self._db.execute("SELECT 1 FROM answers WHERE key = ?", (key,)).fetchone():
            return False
        held = self._db.execute("SELECT host, pid, started, expires FROM claims WHERE key = ?", (key,)).fetchone()
        if held and not self._is_free(*held):
            return False
        self._db.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
            (key, self._host, self._pid, self._started, time.time() + lease_s),
        )
        return True

    def _is_free(self, host: str, pid: int, started: str, expires: float) -> bool:
        if expires < time.time():  # also of a process that lives but hangs
            return True
        if host != self._host:
            return False
        mine = pid == self._pid and started == self._started
        return mine or process_start(pid) != started

    def release(self, key: str) -> None:
        """Give a claim back without an answer."""
        self._run("DELETE FROM claims WHERE key = ? AND host = ? AND pid = ?", (key, self._host, self._pid))

    def forget_failed(self) -> int:
        """Delete the lasting failures, so that they are asked again; returns how many."""
        before = self._db.total_changes
        self._run("DELETE FROM answers WHERE status = 'failed'", ())
        return self._db.total_changes - before

    def summary(self) -> list[dict[str, Any]]:
        """Counts, tokens and cost for each model and status."""
        rows = self._run(
            "SELECT model, status, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost_usd) "
            "FROM answers GROUP BY 1, 2 ORDER BY 1, 2",
            (),
        )
        names = ("model", "status", "answers", "prompt_tokens", "completion_tokens", "cost_usd")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _run(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> TeacherError:
        return TeacherError(f"answer store {self.path}: {error}; nothing kept before is lost")


def process_start(pid: int) -> str:
    """When a process of this machine started, as the kernel counts it; "" where it does not live.

    With it a recycled process number is not taken for the owner. Without /proc a living process
    gives "?".
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[19].decode()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "?"
    return "?"
