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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assay.errors import TeacherError
from assay.places import home

LEASE_S = 120.0
WAY_S = 30 * 86400.0  # servers change: how they take questions is found out anew after so long


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
    evidence: str | None = None  # tokens of the value with their alternatives, see distribution.evidence
    question: str | None = None  # a digest of the question whoever is asked


COLUMNS = [field.name for field in fields(Answer)]
_SETUP = f"""
PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS answers(
    key TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])}, answered_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims(
    key TEXT PRIMARY KEY, host TEXT, pid INTEGER, started TEXT, expires REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ways(
    base_url TEXT, model TEXT, structure TEXT, logprobs INTEGER, found_at REAL, PRIMARY KEY(base_url, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent(scope TEXT, key TEXT, usd REAL, outcome TEXT, at REAL);
CREATE INDEX IF NOT EXISTS spent_scope ON spent(scope);
CREATE TABLE IF NOT EXISTS reserved(scope TEXT, key TEXT, usd REAL, host TEXT, pid INTEGER, started TEXT);
CREATE TABLE IF NOT EXISTS batches(
    digest TEXT PRIMARY KEY, base_url TEXT, scope TEXT, state TEXT, file_id TEXT, batch_id TEXT,
    keys TEXT, structure TEXT, logprobs INTEGER, at REAL
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
            if self._lacking():  # a store that an earlier version made; another process may be at it too
                with self.writing() as db:
                    for name in self._lacking():
                        db.execute(f"ALTER TABLE answers ADD COLUMN {name}")
            self._db.execute("CREATE INDEX IF NOT EXISTS answers_question ON answers(question)")
        except sqlite3.Error as error:
            raise TeacherError(f"answer store {self.path}: {error}; is the disk full or the file damaged?") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def _lacking(self) -> list[str]:
        """The columns that the table of answers does not have yet."""
        there = {row[1] for row in self._db.execute("PRAGMA table_info(answers)")}
        return [name for name in COLUMNS if name not in there]

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key."""
        statement = f"SELECT {', '.join(COLUMNS)} FROM answers WHERE key IN (...)"
        return {row[0]: Answer(*row) for row in self.rows_among(statement, keys)}

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have an answer."""
        return {row[0] for row in self.rows_among("SELECT key FROM answers WHERE key IN (...)", keys)}

    def rows_among(self, statement: str, values: Iterable[str], also: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a query whose `(...)` stands for many values, some at a time; `also`: its later parameters."""
        wanted = list(dict.fromkeys(values))
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            yield from self._run(statement.replace("(...)", f"({marks})"), [*part, *also])

    def put(self, answers: Sequence[Answer]) -> None:
        """Keep answers and free their claims, in one transaction; one that is there already stays."""
        names = [*COLUMNS, "answered_at"]
        marks, now = ",".join("?" * len(names)), time.time()
        with self.writing() as db:
            db.executemany(
                f"INSERT OR IGNORE INTO answers({', '.join(names)}) VALUES ({marks})",
                [(*(getattr(answer, name) for name in COLUMNS), now) for answer in answers],
            )
            db.executemany("DELETE FROM claims WHERE key = ?", [(answer.key,) for answer in answers])

    def claim(self, key: str, lease_s: float = LEASE_S) -> bool:
        """True when this process may ask `key`: it is unanswered, and no living owner holds it."""
        with self.writing():
            return self._claim(key, lease_s)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; rolled back when something in it fails."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._broken(error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""
        return self._run(statement, values)

    @property
    def owner(self) -> tuple[str, int, str]:
        """Host, process number and start of this process."""
        return self._host, self._pid, self._started

    def is_gone(self, host: str, pid: int, started: str) -> bool:
        """True for a process of this machine that no longer lives."""
        return host == self._host and process_start(pid) != started

    def way(self, base_url: str, model: str) -> tuple[str, bool] | None:
        """How a server takes questions, as a run of the last weeks found: the form, whether with log-probabilities."""
        found = self._run(
            "SELECT structure, logprobs FROM ways WHERE base_url = ? AND model = ? AND found_at > ?",
            (base_url, model, time.time() - WAY_S),
        )
        return (str(found[0][0]), bool(found[0][1])) if found else None

    def forget_way(self, base_url: str, model: str) -> None:
        """Let the next run find out anew how a server takes questions."""
        self._run("DELETE FROM ways WHERE base_url = ? AND model = ?", (base_url, model))

    def keep_way(self, base_url: str, model: str, structure: str, logprobs: bool) -> None:
        """Remember how a server takes questions."""
        self._run(
            "INSERT OR REPLACE INTO ways VALUES (?, ?, ?, ?, ?)", (base_url, model, structure, logprobs, time.time())
        )

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
        return mine or self.is_gone(host, pid, started)

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
