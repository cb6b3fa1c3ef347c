"""Several questions about one post in one call: the post is sent once, each answer is kept under its own key.

The rubrics stand in one system prompt, each with its name; the answer is a JSON object with one answer a name,
and each part of it is read as an answer of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.config import Target
from assay.errors import RowError
from assay.teacher.distribution import evidence
from assay.teacher.reading import Reply
from assay.teacher.rubric import about_the_post
from assay.teacher.structure import Part, Question

_BLANK = " \t\r\n"


@dataclass(frozen=True)
class Together:
    """The questions of one call; the first is that of the task whose stage asks."""

    parts: tuple[Part, ...]

    @property
    def tasks(self) -> str:
        """The names of the tasks, for people."""
        return ", ".join(part.task for part in self.parts)

    def system(self) -> str:
        """The system prompt: all rubrics, what is data and what is not, and the form of the answer."""
        rubrics = "\n\n".join(f"# Question {part.task!r}\n\n{part.rubric.text}" for part in self.parts)
        return (
            f"You rate one post by {len(self.parts)} rubrics. Each is a question of its own: answer it by its own "
            f"rubric alone, whatever you answer to the others.\n\n{rubrics}\n\n# Your answer\n\n{about_the_post()} "
            f"Answer with one JSON object and nothing else: {self.form()}"
        )

    def form(self) -> str:
        """The form of the answer, in words for the teacher."""
        return "{" + ", ".join(f"{json.dumps(part.task)}: {part.rubric.form()}" for part in self.parts) + "}"

    def again(self, error: RowError) -> str:
        """What is said to a server whose answer did not fit, once."""
        return (
            f"This answer cannot be used ({error.detail[:200]}). Rate the same post again, and answer with one JSON "
            f"object of this form and nothing else: {self.form()}"
        )

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the answer."""
        names = [part.task for part in self.parts]
        return {
            "type": "object",
            "properties": {part.task: part.rubric.schema() for part in self.parts},
            "required": names,
            "additionalProperties": False,
        }

    def check(self, raw: str) -> None:
        """RowError `invalid_answer` for the first part that cannot be used."""
        spans = self._spans(raw)
        for part in self.parts:
            part.rubric.parse(_part(raw, spans, part.task))

    def evidence(self, raw: str, content: Sequence[Mapping[str, Any]]) -> str | None:
        """The tokens behind the value of each part, as JSON by task; None where there are none."""
        try:
            spans = self._spans(raw)
        except RowError:
            return None
        targets: dict[str, Target] = {part.task: part.rubric.target for part in self.parts}
        found = {name: evidence(raw, content, targets[name], span) for name, span in spans.items() if name in targets}
        kept = {name: one for name, one in found.items() if one}
        return json.dumps(kept) if kept else None

    def split(self, reply: Reply, cut: Callable[[Reply], RowError]) -> dict[str, Reply]:
        """The reply to each question, by task: its own part of the text, an equal share of tokens and cost.

        `cut` says what is wrong with an answer that broke off. A part that cannot be used has its own problem, and
        the others are none the worse for it.
        """
        try:
            spans = self._spans(reply.raw)
        except RowError as error:
            spans, whole = {}, reply.problem or (cut(reply) if reply.cut else error)
        kept: dict[str, str] = json.loads(reply.evidence) if reply.evidence else {}
        found = {}
        for number, part in enumerate(self.parts):
            problem: RowError | None = None
            raw = reply.raw
            if spans:
                try:
                    raw = _part(reply.raw, spans, part.task)
                    part.rubric.parse(raw)
                except RowError as error:
                    problem = error
            else:
                problem = whole
            found[part.task] = replace(
                reply,
                raw=raw,
                prompt_tokens=_share(reply.prompt_tokens, number, len(self.parts)),
                completion_tokens=_share(reply.completion_tokens, number, len(self.parts)),
                cost_usd=None if reply.cost_usd is None else reply.cost_usd / len(self.parts),
                evidence=kept.get(part.task) if problem is None else None,
                problem=problem,
            )
        return found

    def _spans(self, raw: str) -> dict[str, tuple[int, int]]:
        """Where each value of the object's own level begins and ends; RowError where it is no object."""
        spans: dict[str, tuple[int, int]] = {}
        decode = json.JSONDecoder().raw_decode
        try:
            json.loads(raw)
            at = raw.index("{") + 1
            while raw[at := _over(raw, at, _BLANK + ",")] != "}":
                name, at = decode(raw, at)
                at = _over(raw, at, _BLANK + ":")
                _, end = decode(raw, at)
                if name in spans:
                    raise RowError("invalid_answer", f"{name!r} is answered twice")
                spans[name] = at, end
                at = end
        except (ValueError, IndexError, RecursionError) as error:
            raise RowError("invalid_answer", f"not a JSON object: {raw[:80]!r}") from error
        other = sorted(set(spans) - {part.task for part in self.parts})
        if other or not spans:
            wanted = ", ".join(part.task for part in self.parts)
            raise RowError("invalid_answer", f"keys must be {wanted}: {raw[:80]!r}")
        return spans


def _part(raw: str, spans: Mapping[str, tuple[int, int]], task: str) -> str:
    if task not in spans:
        raise RowError("invalid_answer", f"no answer to {task!r}: {raw[:80]!r}")
    begin, end = spans[task]
    return raw[begin:end]


def _over(text: str, at: int, what: str) -> int:
    while text[at] in what:
        at += 1
    return at


def _share(count: int | None, number: int, parts: int) -> int | None:
    """So many tokens of the whole belong to a part; the shares add up to it."""
    return None if count is None else count // parts + (number < count % parts)


def among(question: Question, keys: Container[str]) -> Question:
    """A question with those of its parts alone whose keys are among these."""
    return as_asked(question, [part for part in question.parts if part.key in keys]) if question.parts else question


def keyed(question: Question, key: str) -> Question:
    """A question whose own answer is kept under another key."""
    own = [replace(part, key=key) for part in question.parts[:1]]
    return replace(question, parts=(*own, *question.parts[1:]))


def as_asked(question: Question, parts: Sequence[Part]) -> Question:
    """The question of a post by one rubric or by several."""
    if len(parts) == 1:
        rubric = parts[0].rubric
        return replace(question, system=rubric.system(), schema=rubric.schema(), parts=())
    several = Together(tuple(parts))
    return replace(question, system=several.system(), schema=several.schema(), parts=several.parts)
