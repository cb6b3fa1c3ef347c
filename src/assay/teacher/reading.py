"""What a server's body says: an answer, or a fault, also where it comes with status 200."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.config import Teacher
from assay.errors import LastingFault, PassingFault, RowError, Told
from assay.progress import say
from assay.remote.money import price
from assay.remote.server import one_line, readable
from assay.targets import Target
from assay.teacher.distribution import evidence
from assay.teacher.structure import Way, content_of

MOST_COUNT = 2**53
STATUS_OF = {  # of errors that name themselves instead of a status
    401: ("invalid_api_key", "authentication", "unauthorized", "permission_error"),
    402: ("insufficient_quota", "insufficient_credits", "billing", "payment", "credits"),
    403: ("content_filter", "content_policy", "moderation", "safety", "forbidden"),
    404: ("model_not_found", "not_found"),
    429: ("rate_limit", "rate_limited", "too_many_requests", "resource_exhausted"),
    503: ("overloaded", "unavailable", "server_error", "internal", "timeout", "bad_gateway"),
    400: ("invalid_request", "invalid_argument", "bad_request", "unsupported"),
}
TokensBehind = Callable[[str, Sequence[Mapping[str, Any]]], str | None]
SPENT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits")  # come with 429, and do not pass


@dataclass(frozen=True)
class Reply:
    """The server's answer, unparsed, with what it said of its cost; of all tries together."""

    raw: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    how: str = "plain"  # typed, or plain
    evidence: str | None = None  # tokens of the value with their alternatives, see distribution.evidence
    cut: bool = False  # the answer was longer than max_tokens
    why_empty: str = ""  # where raw is
    problem: RowError | None = None  # why the answer cannot be used

    def plus(self, earlier: Reply) -> Reply:
        """This answer with the tokens and the cost of an earlier try added."""
        sums: dict[str, Any] = {}
        for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
            values = [v for v in (getattr(self, name), getattr(earlier, name)) if v is not None]
            sums[name] = sum(values) if values else None
        return replace(self, **sums)


class Reader:
    """Reads the bodies of one teacher; `secrets` are cut out of all that is kept."""

    def __init__(self, settings: Teacher, target: Target, secrets: Sequence[str]) -> None:
        self.settings, self.target, self.secrets = settings, target, list(secrets)
        self._odd_cost_was_told = False

    def clean(self, said: str) -> str:
        """A server's message in one line, without the keys, which some repeat."""
        return one_line(said, self.secrets)

    def loads(self, content: bytes) -> dict[str, Any]:
        """The body as a JSON object; PassingFault with its first words where it is none."""
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            head = self.clean(content[:400].decode("utf-8", "replace"))
            raise PassingFault("bad_response", f"not a JSON body: {head[:120]!r}") from error
        if isinstance(found, list) and len(found) == 1:  # as Gemini wraps its errors
            found = found[0]
        if not isinstance(found, dict):
            raise PassingFault("bad_response", "the body is not a JSON object")
        return found

    def read(self, answer: dict[str, Any], way: Way, tokens_behind: TokensBehind | None = None) -> Reply:
        """The reply in a body; Told, PassingFault or LastingFault where there is none to be read.

        `tokens_behind` finds those of the value in an answer's log-probabilities; default: of the one target.
        """
        told = answer.get("usage")
        usage: dict[str, Any] = told if isinstance(told, dict) else {}
        if way.structure == "typed":
            self._check(answer, usage)
            tokens = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
            raw = self._without_secrets(json.dumps(answer["answers"]))
            return Reply(raw, self._model(answer), *tokens, self.cost(usage, tokens), "typed")
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            self._check(answer, usage)
            raise PassingFault("bad_response", "no choices in the body")
        choice = choices[0]
        reason, message = choice.get("finish_reason"), choice.get("message")
        if choice.get("error") or reason == "error":
            self._check({"error": choice.get("error") or answer.get("error") or "finish_reason error"}, usage)
        cut = reason == "length"
        if not isinstance(message, dict):
            if not cut:
                self._check(answer, usage)
                raise PassingFault("bad_response", f"no message in the body (finish reason {self.clean(str(reason))})")
            message = {}
        tokens = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
        cost = self.cost(usage, tokens)
        if reason == "content_filter" or message.get("refusal"):
            raise LastingFault("content_filter", self.clean(str(message.get("refusal") or "")), cost_usd=cost)
        raw = self._without_secrets(readable(content_of(message, way)))
        logprobs = choice.get("logprobs")
        listed = logprobs.get("content") if way.logprobs and isinstance(logprobs, dict) else None
        return Reply(
            raw,
            self._model(answer),
            *tokens,
            cost,
            evidence=(tokens_behind or self._tokens_behind)(raw, listed) if isinstance(listed, list) else None,
            cut=cut,
            why_empty="" if raw.strip() else self._why_empty(message, reason),
        )

    def _tokens_behind(self, raw: str, listed: Sequence[Mapping[str, Any]]) -> str | None:
        return evidence(raw, listed, self.target)

    def cut_answer(self, reply: Reply) -> RowError:
        """What is wrong with an answer that broke off."""
        length = "" if reply.completion_tokens is None else f" after {reply.completion_tokens} tokens"
        return RowError(
            "cut_answer",
            f"the answer stops at the limit{length}; raise annotate.teacher.max_tokens above {self.settings.max_tokens}"
            " (a reasoning model thinks within it too)",
        )

    def cost(self, usage: dict[str, Any], tokens: tuple[int | None, int | None]) -> float | None:
        """US dollars: what the server tells, where that is an amount of money, else by the prices of params."""
        told = usage.get("cost")
        found = money_of(told)
        if told is not None and found is None and not self._odd_cost_was_told:
            self._odd_cost_was_told = True
            shown = self.clean(str(told))[:40]
            say(f"annotate: {self.settings.model} tells a cost of {shown!r}, which is no money; prices count")
        return price(self.settings, *tokens) if found is None else found

    def _check(self, answer: dict[str, Any], usage: dict[str, Any]) -> None:
        """Told where the body tells of an error."""
        error = answer.get("error")
        if not error:
            return
        told = error if isinstance(error, dict) else {"message": error}
        names = [str(told.get(name) or "") for name in ("code", "type", "status")]
        said = told.get("message") or told.get("detail") or " ".join(filter(None, names)) or str(error)
        raw = told.get("metadata")
        metadata: dict[str, Any] = raw if isinstance(raw, dict) else {}
        if metadata.get("raw"):
            said = f"{said}: {metadata['raw']}"
        wait = _reset(metadata.get("headers"))
        status = status_of(names, str(said))
        raise Told(status, self.clean(str(said)), str(told.get("param") or ""), wait, money_of(usage.get("cost")))

    def _why_empty(self, message: dict[str, Any], reason: Any) -> str:
        for name in ("reasoning_content", "reasoning"):
            if str(message.get(name) or "").strip():
                return (
                    f"no content, but text in {name}: the server takes the answer for a thought; mend its reasoning "
                    "parser (vLLM: --reasoning-parser), or let the model not think"
                )
        return f"the server sent no content (finish reason {self.clean(str(reason))})"

    def _model(self, answer: dict[str, Any]) -> str:
        return self._without_secrets(readable(str(answer.get("model") or self.settings.model)))[:200]

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***") if len(secret) > 4 else text
        return text


def status_of(names: Sequence[str], said: str) -> int | None:
    """The HTTP status that an error stands for, by its code, its type or its words; None where nothing tells."""
    for name in names:
        if name.isdigit() and 400 <= int(name) < 600:
            return int(name)
    low = [name.lower() for name in names if name]
    for status, words in STATUS_OF.items():
        if any(word in name for word in words for name in low):
            return status
    told = said.lower().replace(" ", "_")
    return next((status for status, words in STATUS_OF.items() if any(word in told for word in words)), None)


def is_spent(names: Sequence[str]) -> bool:
    """Whether a 429 is of an account without money, which does not pass."""
    return any(word in name.lower() for name in names for word in SPENT)


def count_of(value: Any) -> int | None:
    """A count of tokens, also where it comes as text or with a point; None where it is none."""
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return int(found) if math.isfinite(found) and 0 <= found < MOST_COUNT else None


def money_of(value: Any) -> float | None:
    """An amount of US dollars, also where it comes as text; None where it is none: negative, NaN, infinite."""
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _reset(headers: Any) -> float | None:
    """Seconds to wait by an error's own headers: Retry-After, or X-RateLimit-Reset in milliseconds since 1970."""
    if not isinstance(headers, dict):
        return None
    low = {str(name).lower(): value for name, value in headers.items()}
    wait = money_of(low.get("retry-after"))
    if wait is not None:
        return wait
    reset = money_of(low.get("x-ratelimit-reset"))
    if not reset:
        return None
    return max(0.0, reset / (1000 if reset > 1e11 else 1) - time.time())
