"""Which fields a model takes: the limit of tokens, the temperature, who speaks the instructions.

Current models refuse what older ones need: `max_tokens` against `max_completion_tokens`, any temperature but
their own, the system role. What a server says of a refused field decides what is tried next; what was taken
is remembered for each model, as the form of the answer is.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from assay.config import Teacher

Limit = Literal["max_tokens", "max_completion_tokens"]
Speaker = Literal["system", "developer", "user"]
_ROLE = re.compile(r"(system|developer)\W*(role|message|prompt|instruction)|role\W*(system|developer)")


@dataclass(frozen=True)
class Dialect:
    """How the fields beside the question are written; `temperature` false: it is not sent."""

    limit: Limit = "max_tokens"
    temperature: bool = True
    speaker: Speaker = "system"

    def __str__(self) -> str:
        usual = Dialect()
        other = [value for name, value in asdict(self).items() if value != getattr(usual, name)]
        return ", ".join("no temperature" if value is False else str(value) for value in other)

    def as_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    def after(self, said: str, field: str, settings: Teacher) -> Dialect | None:
        """What to try when a server refused a request; None where its words name none of these fields.

        `said` are its words, `field` the parameter that it names, "" where it names none.
        """
        named = field.lower() in ("temperature", *get_args(Limit))
        words = (field if named else f"{field} {said}").lower()  # what it names counts before what it says
        of_limit = self.limit in words or "max_completion_tokens" in words
        if of_limit and settings.token_limit == "auto" and own_limit(settings):
            other: Limit = "max_tokens" if self.limit == "max_completion_tokens" else "max_completion_tokens"
            return replace(self, limit=other)
        if self.temperature and settings.temperature is not None and "temperature" in words:
            return replace(self, temperature=False)
        if settings.system_role == "auto" and self.speaker != "user" and _ROLE.search(words):
            return replace(self, speaker="user")
        return None

    def fields(self, settings: Teacher) -> dict[str, Any]:
        """The fields of a request beside the question and the form of its answer."""
        found: dict[str, Any] = {}
        if settings.temperature is not None and self.temperature:
            found["temperature"] = settings.temperature
        if own_limit(settings):
            found[self.limit] = settings.max_tokens
        return found

    def messages(self, system: str, content: list[Any]) -> list[dict[str, Any]]:
        """The messages of a question."""
        if self.speaker != "user":
            return [{"role": self.speaker, "content": system}, {"role": "user", "content": content}]
        return [{"role": "user", "content": [{"type": "text", "text": system}, *content]}]


def own_limit(settings: Teacher) -> bool:
    """Whether assay sends a limit of its own: not where extra_body has one, or takes it out."""
    return not set(settings.extra_body) & set(get_args(Limit))


def longest(settings: Teacher) -> int:
    """The most tokens that an answer may have, for what it may cost."""
    for name in get_args(Limit):
        value = settings.extra_body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return settings.max_tokens


def for_answers(settings: Teacher, answers: int) -> Teacher:
    """The settings of a call for several answers, which may have as many times the tokens of one."""
    if answers < 2:
        return settings
    own = {
        name: value * answers
        for name, value in settings.extra_body.items()
        if name in get_args(Limit) and isinstance(value, int) and not isinstance(value, bool)
    }
    more = {"max_tokens": settings.max_tokens * answers, "extra_body": settings.extra_body | own}
    return settings.model_copy(update=more)


def first(settings: Teacher) -> Dialect:
    """The dialect that the settings ask for, or the usual one."""
    limit: Limit = "max_tokens" if settings.token_limit == "auto" else settings.token_limit
    speaker: Speaker = "system" if settings.system_role == "auto" else settings.system_role
    return Dialect(limit, True, speaker)


def remembered(kept: str | None, settings: Teacher) -> Dialect:
    """The dialect that an earlier run found, as far as the settings of today leave it open."""
    found = first(settings)
    try:
        known = Dialect(**json.loads(kept)) if kept else found
    except (ValueError, TypeError):
        return found
    if settings.token_limit == "auto" and known.limit in get_args(Limit):
        found = replace(found, limit=known.limit)
    if settings.system_role == "auto" and known.speaker in get_args(Speaker):
        found = replace(found, speaker=known.speaker)
    return replace(found, temperature=bool(known.temperature))
