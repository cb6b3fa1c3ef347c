"""How an answer is asked for in a fixed form: by JSON schema, by a tool call, in plain words; or typed.

Servers differ, and some ignore what they do not know without a word. The ways are therefore tried in
this order, and what counts is whether the answer fits, not whether the request was taken.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from assay.config import Annotate, Teacher
from assay.errors import PassingFault
from assay.remote.dialect import Dialect, first
from assay.targets import Target
from assay.teacher.rubric import Rubric

Structure = Literal["json_schema", "tool", "plain", "typed"]
ORDER: tuple[Structure, ...] = ("json_schema", "tool", "plain")
TOP_LOGPROBS = 20
TOOL = "rating"
IMAGE_MARK = "[[picture-{}]]"
_BLOCK = re.compile(r"\A```(?:json|JSON)?\s*(\{.*?\})\s*```(.*)\Z", re.DOTALL)


class Way(NamedTuple):
    """How a server is asked: for which form, and whether for log-probabilities too."""

    structure: Structure
    logprobs: bool

    def __str__(self) -> str:
        return f"{self.structure}{' with log-probabilities' if self.logprobs else ''}"


@dataclass(frozen=True)
class Part:
    """One of several questions in a call: the task, the key of its answer, and the question's digest if asked alone."""

    task: str
    key: str
    digest: str
    rubric: Rubric


@dataclass(frozen=True)
class Question:
    """One post as it goes to the server."""

    system: str
    user: str
    images: tuple[bytes, ...]
    schema: dict[str, Any]
    target: Target
    parts: tuple[Part, ...] = ()  # several questions about the post in one; the first is that of the own task


def ways(settings: Teacher, annotate: Annotate) -> list[Way]:
    """The ways to try, best first."""
    if annotate.distribution == "typed":
        return [Way("typed", False)]
    structures = ORDER if settings.structure == "auto" else (settings.structure,)
    wanted = annotate.distribution == "auto" and annotate.votes == 1
    return [
        Way(structure, logprobs)
        for structure in structures
        for logprobs in ((True, False) if wanted and structure != "tool" else (False,))
    ]


def remembered(found: tuple[str, bool] | None, allowed: list[Way]) -> Way | None:
    """The way that an earlier run found, where the settings of today still allow it."""
    return next((way for way in allowed if found == tuple(way)), None)


def path(way: Way) -> str:
    """Where a request of this kind goes."""
    return "/systemone" if way.structure == "typed" else "/chat/completions"


def body(question: Question, way: Way, settings: Teacher, dialect: Dialect | None = None) -> dict[str, Any]:
    """The request as JSON; `dialect`: default that of the settings. A field of extra_body that is null is left out."""
    dialect = dialect or first(settings)
    if way.structure == "typed":
        return _typed(question, settings)
    content: list[Any] = [{"type": "text", "text": question.user}]
    content += [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in question.images]
    found: dict[str, Any] = {
        "model": settings.model,
        "messages": dialect.messages(question.system, content),
        **dialect.fields(settings),
    }
    if way.logprobs:
        found |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if way.structure == "json_schema":
        inner = {"name": TOOL, "strict": True, "schema": question.schema}
        found["response_format"] = {"type": "json_schema", "json_schema": inner}
    elif way.structure == "tool":
        about = "Give the rating of the post."
        tool = {"name": TOOL, "description": about, "parameters": question.schema, "strict": True}
        found["tools"] = [{"type": "function", "function": tool}]
        found["tool_choice"] = {"type": "function", "function": {"name": TOOL}}
    return _with_extra(found, settings)


def _with_extra(found: dict[str, Any], settings: Teacher) -> dict[str, Any]:
    gone = {name for name, value in settings.extra_body.items() if value is None}
    return {name: value for name, value in (found | settings.extra_body).items() if name not in gone}


def with_repair(request: dict[str, Any], raw: str, said: str) -> dict[str, Any]:
    """The same request with the unusable answer and what is wrong with it."""
    turn = [{"role": "assistant", "content": raw or "(empty)"}, {"role": "user", "content": said}]
    return request | {"messages": [*request["messages"], *turn]}


def content_of(message: dict[str, Any], way: Way) -> str:
    """The answer's JSON text in a chat message; PassingFault where the message has no readable content."""
    if way.structure == "tool":
        calls = message.get("tool_calls") or []
        if calls:
            arguments = calls[0]["function"]["arguments"]
            return arguments if isinstance(arguments, str) else json.dumps(arguments)
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):  # parts, as some servers send them
        parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(parts)
    if not isinstance(content, str):
        raise PassingFault("bad_response", "the message's content is not text")
    return unwrapped(content)


def unwrapped(text: str) -> str:
    """The one JSON object of an answer, out of what models put around it: a thought before it, a code block.

    A thought ends in `</think>`, whether it was opened or not. Behind a code block there may be words, but no
    second object or block. All else is left as it is, for the parser to refuse: nothing is guessed.
    """
    found = text.lstrip("\ufeff \t\r\n")
    _, closed, rest = found.rpartition("</think>")
    if closed and not _is_object(found):
        found = rest.lstrip("\ufeff \t\r\n")
    block = _BLOCK.match(found)
    if block and not any(mark in block[2] for mark in ("{", "```")):
        return block[1].strip()
    return found.rstrip() if found != text else text


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _typed(question: Question, settings: Teacher) -> dict[str, Any]:
    """A System One request: a typed question for a score or a class, one a label for labels."""
    marks = [IMAGE_MARK.format(number) for number in range(1, len(question.images) + 1)]
    found: dict[str, Any] = {
        "model": settings.model,
        "state": "\n".join([question.user, *marks]),
        "questions": question.target.typed_questions(question.system),
    }
    if marks:
        data = [base64.b64encode(image).decode() for image in question.images]
        found["assets"] = {mark: {"data_base64": one} for mark, one in zip(marks, data, strict=True)}
    return _with_extra(found, settings)


def data_url(image: bytes) -> str:
    """An image as a data URL; packed images are JPEG or PNG."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
