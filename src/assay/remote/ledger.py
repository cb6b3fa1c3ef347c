"""Money spent and set aside, and batches on their way: what the answer store books beside its answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.database import Database
from assay.store import Store

SENT = "batch"  # the owner of claims and money of a batch, which outlives the process that sent it
BATCH_LEASE_S = 49 * 3600.0  # a batch ends after a day; another for one that is late
BOOKS = """
CREATE TABLE IF NOT EXISTS spent(
    scope TEXT, key TEXT, usd DOUBLE PRECISION, outcome TEXT, at DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS spent_key ON spent(scope, key);
CREATE TABLE IF NOT EXISTS reserved(
    rowid INTEGER PRIMARY KEY, scope TEXT, key TEXT, usd DOUBLE PRECISION, host TEXT, pid BIGINT, started TEXT
);
CREATE TABLE IF NOT EXISTS batches(
    digest TEXT PRIMARY KEY, base_url TEXT, scope TEXT, state TEXT, file_id TEXT, batch_id TEXT,
    keys TEXT, structure TEXT, logprobs INTEGER, at DOUBLE PRECISION
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Reserved:
    """What is set aside for one try, in US dollars."""

    key: str
    usd: float
    row: int | None = None
    tokens: int = 0  # that the request was taken to have


@dataclass
class Batch:
    """A batch on its way: `state` is new, uploaded or submitted."""

    digest: str
    keys: dict[str, str]  # key -> question digest
    structure: str  # how its questions are asked, and so how its answers are read
    logprobs: bool
    state: str = "new"
    file_id: str | None = None
    batch_id: str | None = None


class Ledger(Store):
    """The books of a store, shared by all processes; a scope is a task or a generator."""

    def reserve(
        self, scope: str, key: str, usd: float, budget: float, owner: tuple[str, int, str] | None = None
    ) -> int | None:
        """The row of the reserve, or None when the budget does not have it. `owner`: default this process."""
        return self.repeated(lambda: self._reserve(scope, key, usd, budget, owner or self.owner))

    def _reserve(self, scope: str, key: str, usd: float, budget: float, owner: tuple[str, int, str]) -> int | None:
        with self.writing() as db:
            db.lock("reserved")  # two that look at the same time would both find room
            self._end_killed(db)
            held = db.execute("SELECT COALESCE(SUM(usd), 0) FROM reserved WHERE scope = ?", (scope,)).fetchone()[0]
            spent = db.execute("SELECT COALESCE(SUM(usd), 0) FROM spent WHERE scope = ?", (scope,)).fetchone()[0]
            if held + spent + usd > budget + 1e-12:
                return None
            made = db.execute(
                "INSERT INTO reserved(scope, key, usd, host, pid, started) VALUES (?, ?, ?, ?, ?, ?) RETURNING rowid",
                (scope, key, usd, *owner),
            ).fetchone()
            return int(made[0])

    def _end_killed(self, db: Database) -> None:
        """Take the reserves of processes that were killed with a request out for spent: they may have been charged."""
        for row, *holder in db.execute("SELECT rowid, host, pid, started FROM reserved").fetchall():
            if self.is_gone(*holder):
                db.execute(
                    "INSERT INTO spent SELECT scope, key, usd, 'killed', ? FROM reserved WHERE rowid = ?",
                    (db.now(), row),
                )
                db.execute("DELETE FROM reserved WHERE rowid = ?", (row,))

    def settle(self, scope: str, reserved: Reserved, usd: float, outcome: str) -> None:
        """Turn a reserve into what was spent."""
        self.repeated(lambda: self._settle(scope, reserved, usd, outcome))

    def _settle(self, scope: str, reserved: Reserved, usd: float, outcome: str) -> None:
        with self.writing() as db:
            if (
                reserved.row is not None
                and not db.execute("DELETE FROM reserved WHERE rowid = ?", (reserved.row,)).rowcount
            ):
                return  # it is settled: the connection was lost as it was done
            if usd:
                db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", (scope, reserved.key, usd, outcome, db.now()))

    def spent(self, scope: str) -> float:
        """US dollars spent on a scope by all runs."""
        return float(self._run("SELECT COALESCE(SUM(usd), 0) FROM spent WHERE scope = ?", (scope,))[0][0])

    def bookings(self) -> list[Any]:
        """All that was spent: scope, key, US dollars, outcome and time."""
        with self.writing() as db:
            db.lock("reserved")
            self._end_killed(db)
        return self._run("SELECT scope, key, usd, outcome, at FROM spent ORDER BY at", ())

    def book(self, spent: Iterable[Sequence[Any]]) -> None:
        """Keep what another store says was spent; what is there already counts once."""
        rows = list(spent)
        for start in range(0, len(rows), 500):
            self.repeated(partial(self._book, rows[start : start + 500]))

    def _book(self, spent: Sequence[Sequence[Any]]) -> None:
        with self.writing() as db:
            db.executemany(
                "INSERT INTO spent SELECT ?, ?, ?, ?, ? WHERE NOT EXISTS "
                "(SELECT 1 FROM spent WHERE scope = ? AND key = ? AND usd = ? AND outcome = ? AND at = ?)",
                [(*row, *row) for row in spent],
            )

    # ------------------------------------------------------------------------------------ batches

    def batches(self, base_url: str, scope: str) -> list[Batch]:
        """The batches that a server has of a scope, in the order in which they were made."""
        rows = self._run(
            "SELECT digest, keys, structure, logprobs, state, file_id, batch_id FROM batches "
            "WHERE base_url = ? AND scope = ? ORDER BY at",
            (base_url, scope),
        )
        return [
            Batch(digest, json.loads(keys), structure, bool(logprobs), *rest)
            for digest, keys, structure, logprobs, *rest in rows
        ]

    def keep_batch(self, base_url: str, scope: str, batch: Batch) -> None:
        """Remember a batch and how far it is; from now on it holds the claims on its keys itself."""
        now = self._db.now()
        told = (
            batch.state,
            batch.file_id,
            batch.batch_id,
            json.dumps(batch.keys),
            batch.structure,
            int(batch.logprobs),
        )
        with self.writing() as db:
            held = [(SENT, batch.digest, now + BATCH_LEASE_S, key) for key in batch.keys]
            db.executemany("UPDATE claims SET host = ?, pid = 0, started = ?, expires = ? WHERE key = ?", held)
            db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "base_url = excluded.base_url, scope = excluded.scope, state = excluded.state, "
                "file_id = excluded.file_id, batch_id = excluded.batch_id, keys = excluded.keys, "
                "structure = excluded.structure, logprobs = excluded.logprobs, at = excluded.at",
                (batch.digest, base_url, scope, *told, now),
            )

    def end_batch(self, scope: str, digest: str, keys: Iterable[str], spent: float) -> None:
        """Forget a batch, its claims and what was reserved for it; book what it cost."""
        with self.writing() as db:
            mine = db.execute("DELETE FROM batches WHERE digest = ?", (digest,)).rowcount
            db.execute("DELETE FROM reserved WHERE key = ?", (digest,))
            db.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in keys])
            if spent and mine:
                db.execute("INSERT INTO spent VALUES (?, ?, ?, 'batch', ?)", (scope, digest, spent, db.now()))
