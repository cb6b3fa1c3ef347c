"""The labels table: what the stored answers say of each post, one row a post."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from assay.config import Target
from assay.errors import RowError
from assay.teacher.answers import Answer
from assay.teacher.distribution import Label, from_votes, label_of
from assay.teacher.faults import PassingFault
from assay.teacher.injection import suspicions
from assay.teacher.questions import Keys
from assay.teacher.rubric import Rubric, Value

VALUE = {"score": pa.float64(), "classes": pa.string(), "labels": pa.list_(pa.string())}

ANSWER = [
    *(pa.field(name, pa.string()) for name in ("key", "status", "reason", "raw_answer", "model", "how")),
    *(pa.field(name, pa.int64()) for name in ("prompt_tokens", "completion_tokens")),
    pa.field("cost_usd", pa.float64()),
    *(pa.field(name, pa.string()) for name in ("evidence", "question")),
]


def label_schema(target: Target) -> pa.Schema:
    """The labels table; `value` is a number for scores, a name for classes, a list of names for labels.

    `repeat` is what the same teacher said when asked again, `second` what another one said, both of a
    share of the posts; `suspicions` are kinds of text that speak to the teacher (injection.suspicions).
    """
    value = VALUE[target.kind]
    return pa.schema(
        [
            pa.field("post_id", pa.string(), nullable=False),
            pa.field("key", pa.string()),
            pa.field("status", pa.string(), nullable=False),  # ok | failed
            pa.field("reason", pa.string()),
            pa.field("value", value),
            pa.field("distribution", pa.list_(pa.float64())),
            pa.field("spread", pa.float64()),
            pa.field("votes", pa.int64()),
            pa.field("how", pa.string()),  # plain | logprobs | typed | votes | column
            pa.field("repeat", value),
            pa.field("second", value),
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
) -> dict[str, Any]:
    """The row of a post: its label, or `failed` with the reason."""
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
    found, reasons = _votes(keys.votes, answers, passing, rubric)
    if 2 * len(found) <= len(keys.votes) and len(found) < len(keys.votes):
        reason = (
            reasons[0] if len(keys.votes) == 1 else f"too_few_votes: {len(found)} of {len(keys.votes)}; {reasons[0]}"
        )
        return row_of(source, target, status="failed", reason=reason, **known)
    label = found[0] if len(keys.votes) == 1 else from_votes([one.value for one in found], target)
    known |= {
        "value": label.value,
        "distribution": label.distribution,
        "spread": label.spread,
        "votes": len(found),
        "how": label.how,
        "repeat": _value(keys.repeat, answers, rubric),
        "second": _value(keys.second, answers, rubric),
    }
    return row_of(source, target, status="ok", **known)


def _votes(
    keys: tuple[str, ...], answers: Mapping[str, Answer], passing: Mapping[str, PassingFault], rubric: Rubric
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
    return found, reasons


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


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums over the table that annotate.json shows."""
    failed = Counter(str(row["reason"]).split(":")[0] for row in rows if row["status"] != "ok")
    paid = {row["key"]: row for row in rows if row["key"]}.values()
    costs = [row["cost_usd"] for row in paid if row["cost_usd"] is not None]
    return {
        "posts": len(rows),
        "answered": sum(row["status"] == "ok" for row in rows),
        "failed": {"total": sum(failed.values()), **dict(sorted(failed.items()))},
        "how": dict(sorted(Counter(row["how"] for row in rows if row["status"] == "ok").items())),
        "suspected_injections": sum(bool(row["suspicions"]) for row in rows),
        "tokens": {
            "prompt": sum(row["prompt_tokens"] or 0 for row in paid),
            "completion": sum(row["completion_tokens"] or 0 for row in paid),
        },
        "cost_usd": round(sum(costs), 6) if costs else None,
    }
