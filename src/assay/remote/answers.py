"""The answer store: every answer that was paid for, by the content of its question, kept for ever."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from assay.database import columns
from assay.errors import TeacherError
from assay.progress import say
from assay.remote.ledger import BOOKS, Ledger
from assay.remote.sealed import FIELDS, Seal
from assay.store import owner_name

PAUSE_S = 30.0  # a longer gap between two answers is not asking
PAGE = 500  # answers that are copied at a time
WAY_S = 30 * 86400.0  # servers change: how they take questions is found out anew after so long


@dataclass(frozen=True)
class Answer:
    """What a server said to one question.

    Status `ok` with the raw answer; `invalid` with the raw answer and why it cannot be used; `failed` with the
    reason of a refusal.
    """

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
    asked_with: str | None = None  # the tasks whose questions were asked in the same call


class Cost(NamedTuple):
    """What an answer took, where the server told; `together`: of so many questions in one call, each its share."""

    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    together: int


COLUMNS = [field.name for field in fields(Answer)]
_KINDS = {"prompt_tokens": "BIGINT", "completion_tokens": "BIGINT", "cost_usd": "DOUBLE PRECISION"}


def _column(name: str) -> str:
    return f"{name} {_KINDS.get(name, 'TEXT')}"


_SETUP = f"""
CREATE TABLE IF NOT EXISTS answers(
    key TEXT PRIMARY KEY, {", ".join(map(_column, COLUMNS[1:]))}, answered_at DOUBLE PRECISION
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ways(
    base_url TEXT, model TEXT, structure TEXT, logprobs INTEGER, found_at DOUBLE PRECISION,
    PRIMARY KEY(base_url, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dialects(
    base_url TEXT, model TEXT, fields TEXT, found_at DOUBLE PRECISION, PRIMARY KEY(base_url, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seal(one INTEGER PRIMARY KEY CHECK (one = 1), probe TEXT);
"""


_UNUSABLE = "(status = 'invalid' OR (status = 'ok' AND (raw_answer IS NULL OR TRIM(raw_answer) = '')))"


class AnswerStore(Ledger):
    """The answers as one process sees them."""

    name, table, setup, error = "answer store", "answers", _SETUP + BOOKS, TeacherError

    def _prepare(self) -> None:
        self._seal = Seal.from_environment()
        self._look_at_the_seal()
        if self._lacking():  # another process may be at it too
            with self.writing() as db:
                for name in self._lacking():
                    db.execute(f"ALTER TABLE answers ADD COLUMN {_column(name)}")
        self._db.set_up("CREATE INDEX IF NOT EXISTS answers_question ON answers(question)")

    def _look_at_the_seal(self) -> None:
        """TeacherError unless the key is that of the store; a store that had none is sealed from now on."""
        open_ones = 0
        self._probe = self._probe_now()
        if self._probe is None and self._seal.has_key:
            self._must_be_alone()
            with self.writing() as db:
                db.execute("INSERT INTO seal VALUES (1, ?) ON CONFLICT DO NOTHING", (self._seal.probe(),))
                open_ones = db.execute("SELECT COUNT(*) FROM answers WHERE raw_answer <> ''").fetchone()[0]
            self._probe = self._probe_now()
        if self._probe is not None:
            self._seal.check(self._probe)
        if open_ones:
            say(f"answers: {open_ones} answers of before are not encrypted; `assay answers rotate-key` does it")

    def _probe_now(self) -> str | None:
        found = self._db.execute("SELECT probe FROM seal").fetchone()
        return None if found is None else str(found[0])

    def _must_be_alone(self) -> None:
        """TeacherError while others ask: they would go on writing under the key that they began with."""
        mine = owner_name(self._host, self._pid)
        others = [one["owner"] for one in self.claims() if one["state"] != "gone" and one["owner"] != mine]
        if others or self._run("SELECT 1 FROM batches", ()):
            who = others[0] if others else "a batch that is on its way"
            raise TeacherError(
                f"the key of the answer store cannot change while others use it ({who}); end them and try again"
            )

    def _must_be_sealed_alike(self) -> None:
        """TeacherError where the key changed since this process began; in a transaction, before anything is written."""
        if self._probe_now() != self._probe:
            raise TeacherError("the key of the answer store was changed by another process; run again with the new key")

    def reseal(self, seal: Seal) -> int:
        """Keep everything under another seal (the first key of several, or none), and no trace of what was before.

        TeacherError while other processes use the store, and where traces may be left.
        """
        self._must_be_alone()
        names = ", ".join(FIELDS)
        with self.writing() as db:
            db.lock("seal", readers=True)  # others look at it before they write
            rows = db.execute(f"SELECT key, {names} FROM answers").fetchall()
            changed = [
                (*(seal.close(f, self._seal.open(f, text)) for f, text in zip(FIELDS, texts, strict=True)), key)
                for key, *texts in rows
            ]
            db.executemany(f"UPDATE answers SET {', '.join(f'{f} = ?' for f in FIELDS)} WHERE key = ?", changed)
            db.execute("DELETE FROM seal")
            if seal.has_key:
                db.execute("INSERT INTO seal VALUES (1, ?)", (seal.probe(),))
        self._seal, self._probe = seal, self._probe_now()
        if not self._db.rewrite("answers"):
            raise TeacherError(
                f"{len(changed)} answers are kept anew, but another process reads {self.where}: pages with what was "
                "before may be left in it; end that process and run this again"
            )
        return len(changed)

    def answer(self, fields: Sequence[Any]) -> Answer:
        """The answer of a row of COLUMNS."""
        opened: list[Any] = [self._seal.open(name, value) for name, value in zip(COLUMNS, fields, strict=True)]
        return Answer(*opened)

    def _lacking(self) -> list[str]:
        """The columns that the table of answers does not have yet."""
        there = columns(self._db, "answers")
        return [name for name in COLUMNS if name not in there]

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key."""
        statement = f"SELECT {', '.join(COLUMNS)} FROM answers WHERE key IN (...)"
        return {row[0]: self.answer(row) for row in self.rows_among(statement, keys)}

    def answers_to(self, questions: Iterable[str], *, without: Sequence[str]) -> Iterator[Answer]:
        """The usable answers to questions, by any model but those of `without`, in the order in which they came."""
        marks = ",".join("?" * len(without)) or "''"
        statement = (
            f"SELECT {', '.join(COLUMNS)} FROM answers WHERE question IN (...) AND status = 'ok' "
            f"AND model NOT IN ({marks}) ORDER BY answered_at NULLS FIRST"
        )
        yield from map(self.answer, self.rows_among(statement, questions, without))

    def models(self, keys: Iterable[str]) -> list[str]:
        """The models that some usable answers report, oldest first."""
        first: dict[str, float] = {}
        statement = (
            "SELECT model, COALESCE(MIN(answered_at), 0) FROM answers WHERE key IN (...) AND status = 'ok' GROUP BY 1"
        )
        for model, at in self.rows_among(statement, keys):
            first[str(model)] = min(at, first.get(str(model), at))
        return sorted(first, key=lambda name: first[name])

    def put(self, answers: Sequence[Answer], *, from_elsewhere: bool = False) -> None:
        """Keep answers and free their claims, in one transaction; one that is there already stays.

        `from_elsewhere`: they came some other time, in another store.
        """
        at = None if from_elsewhere else self._db.now()
        self.repeated(lambda: self._put([(answer, at) for answer in answers]))

    def _put(self, answers: Sequence[tuple[Answer, float | None]]) -> int:
        """Keep answers and when they came; returns how many were not there."""
        names = [*COLUMNS, "answered_at"]
        marks = ",".join("?" * len(names))
        with self.writing() as db:
            self._must_be_sealed_alike()
            new = db.executemany(
                f"INSERT INTO answers({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO NOTHING",
                [(*(self._seal.close(name, getattr(one, name)) for name in COLUMNS), at) for one, at in answers],
            )
            db.executemany("DELETE FROM claims WHERE key = ?", [(one.key,) for one, _ in answers])
        return new

    def copy_from(self, other: AnswerStore) -> tuple[int, int]:
        """Keep what another store has of answers and of money spent, with their times.

        What is there already stays. Returns how many answers were new, and how many the other has. TeacherError while
        others use that one, or a batch is on its way.
        """
        if other.claims() or other.rows("SELECT 1 FROM batches"):
            raise TeacherError(f"{other.where}: questions or batches are on their way; end them, then copy")
        new = count = 0
        for page in other.pages(", ".join([*COLUMNS, "answered_at"]), PAGE):
            kept = [(other.answer(row[:-1]), row[-1]) for row in page]
            new += self.repeated(partial(self._put, kept))
            count += len(page)
        self.book(other.bookings())
        return new, count

    def way(self, base_url: str, model: str) -> tuple[str, bool] | None:
        """How a server takes questions, as a run of the last weeks found: the form, whether with log-probabilities."""
        found = self._run(
            "SELECT structure, logprobs FROM ways WHERE base_url = ? AND model = ? AND found_at > ?",
            (base_url, model, self._db.now() - WAY_S),
        )
        return (str(found[0][0]), bool(found[0][1])) if found else None

    def forget_way(self, base_url: str, model: str) -> None:
        """Let the next run find out anew how a server takes questions."""
        self._run("DELETE FROM ways WHERE base_url = ? AND model = ?", (base_url, model))

    def keep_way(self, base_url: str, model: str, structure: str, logprobs: bool) -> None:
        """Remember how a server takes questions."""
        self._run(
            "INSERT INTO ways VALUES (?, ?, ?, ?, ?) ON CONFLICT (base_url, model) DO UPDATE SET "
            "structure = excluded.structure, logprobs = excluded.logprobs, found_at = excluded.found_at",
            (base_url, model, structure, int(logprobs), self._db.now()),
        )

    def dialect(self, base_url: str, model: str) -> str | None:
        """Which fields a model takes, as a run of the last weeks found (see dialect.Dialect)."""
        found = self._run(
            "SELECT fields FROM dialects WHERE base_url = ? AND model = ? AND found_at > ?",
            (base_url, model, self._db.now() - WAY_S),
        )
        return str(found[0][0]) if found else None

    def keep_dialect(self, base_url: str, model: str, fields: str) -> None:
        """Remember which fields a model takes."""
        self._run(
            "INSERT INTO dialects VALUES (?, ?, ?, ?) ON CONFLICT (base_url, model) DO UPDATE SET "
            "fields = excluded.fields, found_at = excluded.found_at",
            (base_url, model, fields, self._db.now()),
        )

    def rate(self, model: str, last: int = 500) -> float | None:
        """Answers a second of a model (also under a dated name), by when its last ones came; None where few did.

        A gap of more than half a minute is not asking; answers of one call came together, and count once.
        """
        rows = self._last_of(model, "DISTINCT answered_at, model", "AND answered_at IS NOT NULL", last)
        times = sorted(row[0] for row in rows)
        gaps = [b - a for a, b in pairwise(times) if b - a < PAUSE_S]
        return 1 / statistics.fmean(gaps) if len(gaps) >= 5 and sum(gaps) > 0 else None

    def costs(self, model: str, last: int) -> list[Cost]:
        """What the last answers of a model (also under a dated name) cost."""
        rows = self._last_of(model, "prompt_tokens, completion_tokens, cost_usd, asked_with, model", "", last)
        return [Cost(row[0], row[1], row[2], row[3].count(",") + 1 if row[3] else 1) for row in rows]

    def largest_prompt(self, model: str) -> int:
        """The most tokens that a model has counted of one question; 0: it has counted none."""
        return int(self._run("SELECT MAX(prompt_tokens) FROM answers WHERE model = ?", (model,))[0][0] or 0)

    def _last_of(self, model: str, columns: str, further: str, last: int) -> list[Any]:
        """Columns, `model` the last of them, of a model's last usable answers; `qwen` is also `qwen-2025-01-01`."""
        own = re.compile(rf"{re.escape(model)}(?:[-@:]\d.*|@.*)?")
        rows = self._run(
            f"SELECT {columns} FROM answers WHERE status = 'ok' {further} AND substr(model, 1, ?) = ? "
            "ORDER BY answered_at DESC NULLS LAST LIMIT ?",
            (len(model), model, last),
        )
        return [row for row in rows if own.fullmatch(row[-1])]

    def mark_invalid(self, reasons: Mapping[str, str]) -> None:
        """Answers kept as `ok` by earlier versions that cannot be used: say so, with the reason, by key."""
        if reasons:
            with self.writing() as db:
                self._must_be_sealed_alike()
                statement = "UPDATE answers SET status = 'invalid', reason = ? WHERE key = ? AND status = 'ok'"
                db.executemany(statement, [(self._seal.close("reason", why), key) for key, why in reasons.items()])

    def forget_failed(self) -> int:
        """Delete lasting failures and answers that cannot be used, so that they are asked again; returns how many."""
        return self.forget(["failed", "invalid"])

    def forget(self, which: Sequence[str]) -> int:
        """Delete what has one of these statuses or reasons (`invalid`, `http_403`, …); returns how many."""
        count = 0
        with self.writing() as db:
            for one in which:
                if one == "invalid":
                    count += db.execute(f"DELETE FROM answers WHERE {_UNUSABLE}").rowcount
                elif one != "ok":
                    statement = "DELETE FROM answers WHERE status = ? OR reason = ? OR substr(reason, 1, ?) = ?"
                    count += db.execute(statement, (one, one, len(one) + 1, f"{one}:")).rowcount
        return count

    def reasons(self) -> list[dict[str, Any]]:
        """Why stored questions have no usable answer: counts by status and reason, with one example of each."""
        rows = self._run(
            f"SELECT CASE WHEN status = 'ok' THEN 'invalid' ELSE status END, COALESCE(reason, 'empty_answer') "
            f"FROM answers WHERE status <> 'ok' OR {_UNUSABLE}",
            (),
        )
        found: dict[tuple[str, str], list[str]] = {}
        for status, reason in rows:
            told = str(self._seal.open("reason", str(reason)))
            found.setdefault((status, told.split(":")[0]), []).append(told)
        return [
            {"status": status, "reason": code, "answers": len(seen), "example": seen[0][:200]}
            for (status, code), seen in sorted(found.items())
        ]

    def summary(self) -> list[dict[str, Any]]:
        """Counts, tokens and cost for each model and status."""
        rows = self._run(
            "SELECT model, status, COUNT(*), CAST(SUM(prompt_tokens) AS BIGINT), "
            "CAST(SUM(completion_tokens) AS BIGINT), SUM(cost_usd) "
            "FROM answers GROUP BY 1, 2 ORDER BY 1, 2",
            (),
        )
        names = ("model", "status", "answers", "prompt_tokens", "completion_tokens", "cost_usd")
        return [dict(zip(names, row, strict=True)) for row in rows]
