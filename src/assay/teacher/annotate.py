"""Sample + rubric + answer store -> labels table. What is stored is not asked again.

The table depends on its inputs alone: it is rebuilt whole from the store each time. What was asked
now and what came from the store is in the returned figures.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import Annotate, Target
from assay.errors import AccountRefused, DataError, RowError, TeacherError, TooManyFailures
from assay.posts import gold_names, shards, stream, write_table
from assay.progress import progress, say
from assay.teacher.answers import COLUMNS, Answer, AnswerStore
from assay.teacher.client import Client, LastingFault, PassingFault, Question, sampling
from assay.teacher.rubric import Rubric, gold_value

HOW_PLAIN = "plain"  # the answer's own value, no distribution
SAME_FAULT_LIMIT = 10  # so many refusals in a row: the set-up is wrong, not the posts


@lru_cache(maxsize=1)
def demo_version() -> str:
    """A digest of the demo teacher's rules: other rules are another model."""
    import assay.corpora.demo

    files = [Path(__file__).with_name("demo.py"), *sorted(Path(str(assay.corpora.demo.__file__)).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@dataclass
class Round:
    """What one run of annotation did."""

    asked: int = 0
    from_store: int = 0
    passing: dict[str, PassingFault] = field(default_factory=dict)  # by key


def annotate(sample: Path, out: Path, *, settings: Annotate, target: Target, rubric: Path) -> dict[str, Any]:
    """Label the sample and write the labels table to `out`; returns the figures of annotate.json.

    TeacherError, after everything that was answered is kept and without writing `out`, when the
    account was refused or more than `max_failed_share` failed for passing reasons.
    """
    if settings.source == "column":
        rows = _from_column(sample, str(settings.column), target)
        return _finish(rows, target, out, Round())
    prompt = Rubric.load(rubric, target)
    keys = {row["post_id"]: _key(prompt, row, settings) for row in _rows(sample, ["post_id", "text", "images"])}
    with AnswerStore() as store:
        done = _ask_missing(sample, prompt, settings, keys, store, seed=str(out))
        answers = store.get(key for key in keys.values() if key)
    rows = [
        _labelled(row, keys[row["post_id"]], answers, done.passing, prompt)
        for row in _rows(sample, ["post_id", "inclusion_p"])
    ]
    failed = sum(row["key"] in done.passing for row in rows)
    if rows and failed / len(rows) > settings.max_failed_share:
        reasons = ", ".join(f"{n} {code}" for code, n in Counter(f.code for f in done.passing.values()).most_common())
        raise TooManyFailures(
            f"{failed} of {len(rows)} posts failed for passing reasons ({reasons}), over annotate.max_failed_share "
            f"{settings.max_failed_share:g}; all answers are kept, run again to ask the rest"
        )
    return _finish(rows, target, out, done)


# ------------------------------------------------------------------------------------- questions


def _rows(sample: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in stream(sample, columns, 128):
        yield from batch


def _key(rubric: Rubric, row: dict[str, Any], settings: Annotate) -> str | None:
    """SHA-256 over all that decides the answer; None for a post with neither text nor image."""
    if not row["text"] and not row["images"]:
        return None
    parts = {
        "system": rubric.system(),
        "user": rubric.user(row["text"], len(row["images"])),
        "text": row["text"],
        "images": [hashlib.sha256(image).hexdigest() for image in row["images"]],
        "schema": rubric.schema(),
        "model": settings.teacher.model + (demo_version() if settings.teacher.base_url == "demo" else ""),
        "sampling": sampling(settings.teacher),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _ask_missing(
    sample: Path, rubric: Rubric, settings: Annotate, keys: dict[str, str | None], store: AnswerStore, *, seed: str
) -> Round:
    wanted = {key for key in keys.values() if key}
    missing = wanted - store.get(wanted).keys()
    if missing:
        missing -= _seed(store, missing, seed)
    done = Round(from_store=len(wanted) - len(missing))
    if missing:
        asyncio.run(_Asking(sample, rubric, settings, keys, store, missing, done).run())
    say(f"annotate: {len(wanted)} questions, {done.from_store} from the store, {done.asked} asked now")
    return done


def _seed(store: AnswerStore, missing: set[str], path: str) -> set[str]:
    """Fill the store from the labels table committed at HEAD, where DVC can get it; returns the keys."""
    import dvc.api

    try:
        table = pq.read_table(io.BytesIO(dvc.api.read(path, rev="HEAD", mode="rb")))
    except Exception as error:  # a remote's own errors too: seeding only saves money
        say(
            "annotate: no committed labels to seed the answer store from (none at HEAD, or no DVC remote has them: "
            f"{type(error).__name__})"
        )
        return set()
    rows = [row for row in table.to_pylist() if row["key"] in missing and row["raw_answer"] is not None]
    answers = {
        row["key"]: Answer(**{name: row.get(name) for name in COLUMNS} | {"status": "ok", "reason": None})
        for row in rows
    }
    store.put(list(answers.values()))
    say(f"annotate: {len(answers)} answers taken over from the labels committed at HEAD")
    return set(answers)


class _Asking:
    """Workers that claim keys, ask, and keep each answer the moment it arrives."""

    def __init__(
        self,
        sample: Path,
        rubric: Rubric,
        settings: Annotate,
        keys: dict[str, str | None],
        store: AnswerStore,
        missing: set[str],
        done: Round,
    ) -> None:
        self.sample, self.rubric, self.settings, self.keys = sample, rubric, settings, keys
        self.store, self.missing, self.done = store, missing, done
        teacher = settings.teacher
        self.lease = (teacher.timeout_s + 60) * (teacher.retries + 1) + 60  # 60: the longest pause between tries
        self.client = Client(teacher)
        self.stop: TeacherError | None = None
        self.hopeless = 0  # faults in a row that no other post is likely to escape
        self.waiting = False
        self.later: deque[tuple[str, Question]] = deque()  # held by another process

    async def run(self) -> None:
        questions = self._questions()
        self.bar = progress(what="annotate", total=len(self.missing))
        try:
            workers = min(self.settings.teacher.concurrency, len(self.missing))
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(questions))
        finally:
            self.bar.close()
            await self.client.close()
        if self.stop:
            raise self.stop

    def _questions(self) -> Iterator[tuple[str, Question]]:
        """The missing questions, one a key, read from the sample as they are needed."""
        todo = set(self.missing)
        for row in _rows(self.sample, ["post_id", "text", "images"]):
            key = self.keys[row["post_id"]]
            if key in todo:
                todo.discard(key)
                yield (
                    key,
                    Question(
                        self.rubric.system(),
                        self.rubric.user(row["text"], len(row["images"])),
                        tuple(row["images"]),
                        self.rubric.schema(),
                    ),
                )

    async def _work(self, questions: Iterator[tuple[str, Question]]) -> None:
        while not self.stop:
            following = next(questions, None)
            waited = following is None and bool(self.later)
            if waited:
                await asyncio.sleep(0.25)
                following = self.later.popleft() if self.later else None
            if following is None:
                if self.later:
                    continue
                return
            key, question = following
            try:
                await self._one(key, question)
            except TeacherError as error:
                self.stop = self.stop or error

    async def _one(self, key: str, question: Question) -> None:
        if not self.store.claim(key, self.lease):
            if self.store.get([key]):  # another process has asked it meanwhile
                self.done.from_store += 1
                self.bar.update()
            else:
                self.later.append((key, question))
                if not self.waiting:
                    say("annotate: another process is asking some of these questions; waiting for its answers")
                self.waiting = True
            return
        self.done.asked += 1
        try:
            reply = await self.client.ask(question)
        except PassingFault as fault:
            self.done.passing[key] = fault
            self.store.release(key)
            if fault.code == "connection":
                self._stop_if_hopeless(fault)
        except LastingFault as fault:
            if fault.code != "content_filter":
                self._stop_if_hopeless(fault)
            teacher = self.settings.teacher
            self.store.put([Answer(key, "failed", str(fault), None, teacher.model, HOW_PLAIN, None, None, None)])
        except AccountRefused:
            self.store.release(key)
            raise
        else:
            self.hopeless = 0
            self.store.put(
                [
                    Answer(
                        key,
                        "ok",
                        None,
                        reply.raw,
                        reply.model,
                        HOW_PLAIN,
                        reply.prompt_tokens,
                        reply.completion_tokens,
                        reply.cost_usd,
                    )
                ]
            )
        self.bar.update()

    def _stop_if_hopeless(self, fault: PassingFault | LastingFault) -> None:
        self.hopeless += 1
        if self.hopeless < SAME_FAULT_LIMIT:
            return
        url = self.settings.teacher.base_url
        if isinstance(fault, PassingFault):
            raise AccountRefused(
                f"the teacher at {url} cannot be reached ({fault}); is annotate.teacher.base_url right and the server "
                "up? Every answer so far is kept"
            )
        raise AccountRefused(
            f"{self.hopeless} questions in a row were refused ({fault}); the teacher at {url} cannot serve these "
            "settings. Mend annotate.teacher, then `assay answers --forget-failed`, then run again"
        )


# ---------------------------------------------------------------------------------- labels table


def label_schema(target: Target) -> pa.Schema:
    """The labels table; `value` is a number for scores, a name for classes, a list of names for labels."""
    value = {"score": pa.float64(), "classes": pa.string(), "labels": pa.list_(pa.string())}[target.kind]
    return pa.schema(
        [
            pa.field("post_id", pa.string(), nullable=False),
            pa.field("key", pa.string()),
            pa.field("status", pa.string(), nullable=False),  # ok | failed
            pa.field("reason", pa.string()),
            pa.field("value", value),
            pa.field("distribution", pa.list_(pa.float64())),
            pa.field("how", pa.string()),
            pa.field("raw_answer", pa.string()),
            pa.field("model", pa.string()),
            pa.field("inclusion_p", pa.float64(), nullable=False),
            pa.field("prompt_tokens", pa.int64()),
            pa.field("completion_tokens", pa.int64()),
            pa.field("cost_usd", pa.float64()),
        ]
    )


def _row(source: dict[str, Any], **found: Any) -> dict[str, Any]:
    empty = dict.fromkeys(
        (
            "key",
            "reason",
            "value",
            "distribution",
            "how",
            "raw_answer",
            "model",
            "prompt_tokens",
            "completion_tokens",
            "cost_usd",
        )
    )
    return empty | {"post_id": source["post_id"], "inclusion_p": source["inclusion_p"]} | found


def _labelled(
    row: dict[str, Any], key: str | None, answers: dict[str, Answer], passing: dict[str, PassingFault], rubric: Rubric
) -> dict[str, Any]:
    if key is None:
        return _row(row, status="failed", reason="no_content: neither text nor image")
    answer = answers.get(key)
    if answer is None:
        return _row(row, key=key, status="failed", reason=str(passing.get(key, "not_asked: the run was stopped")))
    kept = {name: getattr(answer, name) for name in COLUMNS if name not in ("key", "status", "reason")}
    if answer.status != "ok" or answer.raw_answer is None:
        return _row(row, key=key, status="failed", reason=answer.reason, **kept)
    try:
        return _row(row, key=key, status="ok", value=rubric.parse(answer.raw_answer), **kept)
    except RowError as error:
        return _row(row, key=key, status="failed", reason=str(error), **kept)


def _from_column(sample: Path, column: str, target: Target) -> list[dict[str, Any]]:
    names = gold_names(pq.read_schema(shards(sample)[0]))
    if column not in names:
        raise DataError(
            f"annotate.column: the corpus has no gold column {column!r}; allowed: {', '.join(names) or 'none'}"
        )
    rows = []
    for row in _rows(sample, ["post_id", "inclusion_p", f"gold_{column}"]):
        try:
            rows.append(_row(row, status="ok", value=gold_value(row[f"gold_{column}"], target), how="column"))
        except RowError as error:
            rows.append(_row(row, status="failed", reason=str(error), how="column"))
    return rows


def _finish(rows: list[dict[str, Any]], target: Target, out: Path, done: Round) -> dict[str, Any]:
    if not any(row["status"] == "ok" for row in rows):
        first = next((row["reason"] for row in rows), "the sample is empty")
        raise DataError(f"no post got a label; the first reason: {first}")
    write_table(pa.Table.from_pylist(rows, schema=label_schema(target)), out)
    failed = Counter(str(row["reason"]).split(":")[0] for row in rows if row["status"] != "ok")
    paid = {row["key"]: row for row in rows if row["key"]}.values()
    costs = [row["cost_usd"] for row in paid if row["cost_usd"] is not None]
    return {
        "posts": len(rows),
        "answered": sum(row["status"] == "ok" for row in rows),
        "failed": {"total": sum(failed.values()), **dict(sorted(failed.items()))},
        "asked": done.asked,
        "from_store": done.from_store,
        "tokens": {
            "prompt": sum(row["prompt_tokens"] or 0 for row in paid),
            "completion": sum(row["completion_tokens"] or 0 for row in paid),
        },
        "cost_usd": round(sum(costs), 6) if costs else None,
    }
