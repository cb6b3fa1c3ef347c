"""Several questions about one post in one call: the post is sent once, each answer is kept under its own key.

The rubrics stand in one system prompt, each with its name; the answer is a JSON object with one answer a name,
and each part of it is read as an answer of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.errors import RowError
from assay.targets import Target
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
        """RowError `invalid_answer` where the own part, the first, cannot be used; the others ask for themselves."""
        own = self.parts[0]
        own.rubric.parse(_part(raw, self._spans(raw), own.task))

    def merged(self, later: Reply, earlier: Reply) -> Reply:
        """The later of two replies, with the parts of the earlier one where its own cannot be used."""
        texts: dict[str, str] = {}
        kept: dict[str, str] = {}
        for reply in (earlier, later):
            with contextlib.suppress(RowError):
                spans = self._spans(reply.raw)
                known: dict[str, str] = json.loads(reply.evidence) if reply.evidence else {}
                for part in self.parts:
                    with contextlib.suppress(RowError):
                        text = _part(reply.raw, spans, part.task)
                        part.rubric.parse(text)
                        texts[part.task] = text
                        kept.pop(part.task, None)
                        kept |= {part.task: known[part.task]} if part.task in known else {}
        if self.parts[0].task not in texts:  # what is wrong with the own part is said of what came last
            return later
        raw = "{" + ", ".join(f"{json.dumps(task)}: {text}" for task, text in texts.items()) + "}"
        return replace(later, raw=raw, evidence=json.dumps(kept) if kept else None, cut=False, why_empty="")

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
        """The reply to each question, by task: its own part of the text, a share of tokens and cost.

        `cut` says what is wrong with an answer that broke off. A part that cannot be used has its own problem, and
        the others are none the worse for it. The own part and those that can be used share what was paid equally.
        """
        try:
            spans = self._spans(reply.raw)
        except RowError as error:
            spans, whole = {}, reply.problem or (cut(reply) if reply.cut else error)
        kept: dict[str, str] = json.loads(reply.evidence) if reply.evidence else {}
        read: list[tuple[str, RowError | None]] = []
        for part in self.parts:
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
            read.append((raw, problem))
        paying = [number for number, (_, problem) in enumerate(read) if number == 0 or problem is None]
        found = {}
        for number, (part, (raw, problem)) in enumerate(zip(self.parts, read, strict=True)):
            pays = paying.index(number) if number in paying else None
            found[part.task] = replace(
                reply,
                raw=raw,
                prompt_tokens=_share(reply.prompt_tokens, pays, len(paying)),
                completion_tokens=_share(reply.completion_tokens, pays, len(paying)),
                cost_usd=None if reply.cost_usd is None else reply.cost_usd / len(paying) * (pays is not None),
                evidence=kept.get(part.task) if problem is None else None,
                problem=problem,
            )
        return found

    def _spans(self, raw: str) -> dict[str, tuple[int, int]]:
        """Where each value of the object's own level begins and ends; RowError where it is no object."""
        spans: dict[str, tuple[int, int]] = {}
        decode = json.JSONDecoder().raw_decode
        try:
            if not isinstance(json.loads(raw), dict):
                raise ValueError("no object")
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


def _share(count: int | None, number: int | None, parts: int) -> int | None:
    """So many tokens of the whole belong to a part; the shares add up to it. A part without a number has none."""
    if count is None or number is None:
        return None if count is None else 0
    return count // parts + (number < count % parts)


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
