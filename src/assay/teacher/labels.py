"""The labels table: what the stored answers say of each post, one row a post."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import DataError, PassingFault, RowError
from assay.remote.answers import Answer
from assay.targets import Label, Target, Value
from assay.teacher.distribution import label_of
from assay.teacher.injection import suspicions
from assay.teacher.questions import Keys
from assay.teacher.rubric import Rubric

ANSWER = [
    *(pa.field(name, pa.string()) for name in ("key", "status", "reason", "raw_answer", "model", "how")),
    *(pa.field(name, pa.int64()) for name in ("prompt_tokens", "completion_tokens")),
    pa.field("cost_usd", pa.float64()),
    *(pa.field(name, pa.string()) for name in ("evidence", "question", "asked_with")),
]


def label_schema(target: Target) -> pa.Schema:
    """The labels table; `value` is a number for scores, a name for classes, a list of names for labels.

    `repeat` is what the same teacher said when asked again, `second` what another one said, both of a
    share of the posts; `suspicions` are kinds of text that speak to the teacher (injection.suspicions).
    """
    value = target.arrow
    return pa.schema(
        [
            pa.field("post_id", pa.string(), nullable=False),
            pa.field("key", pa.string()),
            pa.field("status", pa.string(), nullable=False),  # ok | failed
            pa.field("reason", pa.string()),
            pa.field("value", value),
            pa.field("corrected", value),  # what people say, where the student is to learn from it
            pa.field("distribution", pa.list_(pa.float64())),
            pa.field("spread", pa.float64()),
            pa.field("votes", pa.int64()),
            pa.field("how", pa.string()),  # plain | logprobs | typed | votes | column
            pa.field("repeat", value),
            pa.field("second", value),
            pa.field("brands", pa.list_(pa.string())),  # that the teacher names, where it is asked for them
            pa.field("suspicions", pa.list_(pa.string())),
            pa.field("raw_answer", pa.string()),
            pa.field("model", pa.string()),
            pa.field("inclusion_p", pa.float64(), nullable=False),
            pa.field("prompt_tokens", pa.int64()),
            pa.field("completion_tokens", pa.int64()),
            pa.field("cost_usd", pa.float64()),
            pa.field("answers", pa.list_(pa.struct(ANSWER))),  # as the store has them, to fill another store from
        ]
    )


def row_of(source: Mapping[str, Any], target: Target, **found: Any) -> dict[str, Any]:
    """A row of the table: nulls where nothing is known."""
    empty: dict[str, Any] = dict.fromkeys(label_schema(target).names)
    return empty | {"post_id": source["post_id"], "inclusion_p": source["inclusion_p"]} | found


def labelled(
    source: Mapping[str, Any],
    keys: Keys | None,
    answers: Mapping[str, Answer],
    passing: Mapping[str, PassingFault],
    rubric: Rubric,
    spoilt: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The row of a post: its label, or `failed` with the reason.

    `spoilt` is told of answers that are kept as good and cannot be used: the reason, by key.
    """
    target = rubric.target
    if keys is None:
        return row_of(source, target, status="failed", reason="no_content: neither text nor image")
    every = [answers[key] for key in keys.all() if key in answers]
    given = [answers[key] for key in keys.votes if key in answers]
    first = given[0] if given else None
    known: dict[str, Any] = {
        "key": keys.votes[0],
        "raw_answer": first.raw_answer if first else None,
        "model": first.model if first else None,
        "how": first.how if first else None,
        "suspicions": suspicions(source["text"]) or None,
        "answers": [asdict(answer) for answer in every],
        **{name: _sum(every, name) for name in ("prompt_tokens", "completion_tokens", "cost_usd")},
    }
    found, reasons = _votes(keys.votes, answers, passing, rubric, {} if spoilt is None else spoilt)
    if 2 * len(found) <= len(keys.votes) and len(found) < len(keys.votes):
        reason = (
            reasons[0] if len(keys.votes) == 1 else f"too_few_votes: {len(found)} of {len(keys.votes)}; {reasons[0]}"
        )
        return row_of(source, target, status="failed", reason=reason, **known)
    label = found[0] if len(keys.votes) == 1 else target.of_votes([one.value for one in found])
    known |= {
        "value": label.value,
        "distribution": label.distribution,
        "spread": label.spread,
        "votes": len(found),
        "how": label.how,
        "brands": _brands(given, rubric) if rubric.brands else None,
        "repeat": _value(keys.repeat, answers, rubric),
        "second": _value(keys.second, answers, rubric),
    }
    return row_of(source, target, status="ok", **known)


def _votes(
    keys: tuple[str, ...],
    answers: Mapping[str, Answer],
    passing: Mapping[str, PassingFault],
    rubric: Rubric,
    spoilt: dict[str, str],
) -> tuple[list[Label], list[str]]:
    """The labels of the votes that can be used, and why the others cannot."""
    found, reasons = [], []
    for key in keys:
        answer = answers.get(key)
        if answer is None:
            reasons.append(str(passing.get(key, "not_asked: the run was stopped")))
        elif answer.status != "ok" or answer.raw_answer is None:
            reasons.append(str(answer.reason))
        else:
            try:
                found.append(label_of(answer.raw_answer, answer.how, answer.evidence, rubric))
            except RowError as error:
                reasons.append(str(error))
                spoilt[key] = str(error)
    return found, reasons


def _brands(given: list[Answer], rubric: Rubric) -> list[str]:
    """What at least half of the usable answers name."""
    named = []
    for answer in given:
        if answer.status == "ok" and answer.raw_answer is not None:
            with contextlib.suppress(RowError, ValueError, AttributeError):
                named.append(rubric.brands_of(answer.raw_answer))
    spelt = {name.casefold(): name for names in reversed(named) for name in reversed(names)}
    votes = Counter(name.casefold() for names in named for name in names)
    return [spelt[name] for name in reversed(spelt) if 2 * votes[name] >= len(named)]


def value_of(answer: Answer | None, rubric: Rubric) -> Value | None:
    """The value of one stored answer, None where it has none."""
    if answer is None or answer.status != "ok" or answer.raw_answer is None:
        return None
    try:
        return label_of(answer.raw_answer, answer.how, answer.evidence, rubric).value
    except RowError:
        return None


def _value(key: str | None, answers: Mapping[str, Answer], rubric: Rubric) -> Value | None:
    return value_of(answers.get(key), rubric) if key else None


def _sum(answers: list[Answer], name: str) -> Any:
    values = [getattr(answer, name) for answer in answers if getattr(answer, name) is not None]
    return sum(values) if values else None


class LabelsFile:
    """Writes the labels table a few rows at a time and adds up what annotate.json shows.

    The file is there after `finish`, whole, or not at all.
    """

    def __init__(self, out: Path, target: Target, *, rubric: str | None = None) -> None:
        """`rubric` is kept with the labels that it led to."""
        out.parent.mkdir(parents=True, exist_ok=True)
        self.out, self.schema = out, label_schema(target).with_metadata({"rubric": rubric} if rubric else None)
        self.posts = self.answered = self.suspected = self.passing = 0
        self.first_reason: str | None = None
        self._partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        self._writer = pq.ParquetWriter(self._partial, self.schema, compression="zstd")
        self._failed: Counter[str] = Counter()
        self._example: dict[str, str] = {}
        self._how: Counter[str] = Counter()
        self._asked_with: Counter[str] = Counter()
        self._paid: set[str] = set()
        self._tokens = {"prompt": 0, "completion": 0}
        self._cost: float | None = None

    def add(self, rows: list[dict[str, Any]], passing: Container[str] = ()) -> None:
        """Write rows; `passing`: posts of which something was not answered for passing reasons."""
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self.schema))
        for row in rows:
            self.posts += 1
            self.suspected += bool(row["suspicions"])
            self._asked_with.update({one["asked_with"] for one in row["answers"] or () if one["asked_with"]})
            if row["status"] == "ok":
                self.answered += 1
                self._how[row["how"]] += 1
            else:
                self.first_reason = self.first_reason or row["reason"]
                code = str(row["reason"]).split(":")[0]
                self._failed[code] += 1
                self._example.setdefault(code, str(row["reason"]).removeprefix(f"{code}: ")[:160])
                self.passing += row["post_id"] in passing
            if row["key"] and row["key"] not in self._paid:
                self._paid.add(row["key"])
                self._tokens["prompt"] += row["prompt_tokens"] or 0
                self._tokens["completion"] += row["completion_tokens"] or 0
                if row["cost_usd"] is not None:
                    self._cost = (self._cost or 0.0) + row["cost_usd"]

    def lacking(self) -> str:
        """Why posts have no label, with the words of one of each kind; "" where all have one."""
        told = [f"{n} {code} ({self._example[code]})" for code, n in self._failed.most_common(5)]
        return f"{sum(self._failed.values())} of {self.posts} posts have no label: {', '.join(told)}" if told else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._partial.unlink(missing_ok=True)

    def finish(self) -> dict[str, Any]:
        """Put the file in place and return the sums; DataError when no post got a label."""
        if not self.answered:
            raise DataError(f"no post got a label; the first reason: {self.first_reason or 'the sample is empty'}")
        self._writer.close()
        os.replace(self._partial, self.out)
        return {
            "posts": self.posts,
            "answered": self.answered,
            "failed": {"total": sum(self._failed.values()), **dict(sorted(self._failed.items()))},
            "how": dict(sorted(self._how.items())),
            **({"asked_with": dict(sorted(self._asked_with.items()))} if self._asked_with else {}),
            "suspected_injections": self.suspected,
            "tokens": self._tokens,
            "cost_usd": None if self._cost is None else round(self._cost, 6),
        }
