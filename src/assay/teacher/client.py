"""Asks one question of an OpenAI-compatible server and says which kind of fault came back."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from assay.config import Teacher
from assay.errors import AccountRefused, RowError, SettingsError

REFUSED = {401, 402, 404}  # 403 may be one post that a moderator refused
PASSING = {408, 409, 425, 429}


class PassingFault(RowError):
    """A fault that may be gone next time: rate limit, overload, time-out, cut connection."""


class LastingFault(RowError):
    """A fault of this one question that asking again will not mend."""


@dataclass(frozen=True)
class Question:
    """One post as it goes to the server."""

    system: str
    user: str
    images: tuple[bytes, ...]
    schema: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """The server's answer, unparsed, with what it said of its cost."""

    raw: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


class Client:
    """An async client of one teacher; `ask` from many tasks at once."""

    def __init__(self, settings: Teacher) -> None:
        self.settings = settings
        http: httpx2.AsyncClient | None = None
        base_url, key = settings.base_url, _api_key(settings)
        if settings.base_url == "demo":
            from assay.teacher.demo import app

            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
            base_url = "http://demo.teacher/v1"
        self._openai = openai.AsyncOpenAI(
            api_key=key,
            base_url=base_url,
            timeout=settings.timeout_s,
            max_retries=settings.retries,
            http_client=http,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def ask(self, question: Question) -> Reply:
        """The reply; PassingFault, LastingFault or AccountRefused otherwise."""
        content: list[Any] = [{"type": "text", "text": question.user}]
        content += [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in question.images]
        try:
            answer = await self._openai.chat.completions.create(
                model=self.settings.model,
                messages=[
                    {"role": "system", "content": question.system},
                    {"role": "user", "content": content},
                ],
                temperature=self.settings.temperature,
                max_tokens=self.settings.max_tokens,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "rating", "strict": True, "schema": question.schema},
                },
            )
        except openai.APITimeoutError as error:
            raise PassingFault("timeout", f"no answer within {self.settings.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise PassingFault("connection", f"{type(error.__cause__ or error).__name__}") from error
        except openai.APIStatusError as error:
            raise self._fault(error) from error
        except (openai.OpenAIError, ValueError) as error:  # a body that is no completion
            raise PassingFault("bad_response", type(error).__name__) from error
        try:
            return self._reply(answer)
        except (AttributeError, TypeError, IndexError) as error:
            raise PassingFault("bad_response", f"not a chat completion: {error}"[:200]) from error

    def _fault(self, error: openai.APIStatusError) -> Exception:
        status, said = error.status_code, " ".join(str(error.message).split())
        said = said.replace(self._openai.api_key or "\0", "***")[:200]  # some servers repeat the key
        if status in REFUSED:
            return AccountRefused(
                f"the teacher at {self.settings.base_url} refused ({status}): {said}; check "
                f"annotate.teacher.model {self.settings.model!r}, base_url and the key in "
                f"{self.settings.api_key_env or 'api_key_env (not set)'}. Every answer so far is kept"
            )
        if status in PASSING or status >= 500:
            return PassingFault(f"http_{status}", said)
        return LastingFault(f"http_{status}", said)

    def _reply(self, answer: Any) -> Reply:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise PassingFault("bad_response", "no choices in the body")
        choice = choices[0]
        content = getattr(choice.message, "content", None)
        if choice.message is None or not isinstance(content, str | None):
            raise PassingFault("bad_response", f"no message in the body (finish reason {choice.finish_reason})")
        if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
            raise LastingFault("content_filter", str(getattr(choice.message, "refusal", "") or "")[:200])
        usage = answer.usage
        tokens_in = getattr(usage, "prompt_tokens", None)
        tokens_out = getattr(usage, "completion_tokens", None)
        return Reply(
            content or "",
            answer.model or self.settings.model,
            tokens_in,
            tokens_out,
            self._cost(usage, tokens_in, tokens_out),
        )

    def _cost(self, usage: Any, tokens_in: int | None, tokens_out: int | None) -> float | None:
        told = getattr(usage, "cost", None)
        if isinstance(told, int | float) and not isinstance(told, bool):
            return float(told)
        prices = self.settings.usd_per_million_input, self.settings.usd_per_million_output
        if prices[0] is None or prices[1] is None or tokens_in is None or tokens_out is None:
            return None
        return (tokens_in * prices[0] + tokens_out * prices[1]) / 1e6


def data_url(image: bytes) -> str:
    """An image as a data URL; packed images are JPEG or PNG."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def sampling(settings: Teacher) -> str:
    """The settings that change what a model answers, as canonical JSON: part of an answer's key."""
    return json.dumps({"temperature": settings.temperature, "max_tokens": settings.max_tokens}, sort_keys=True)


def _api_key(settings: Teacher) -> str:
    if settings.api_key_env is None:
        return "none"
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise SettingsError(
            f"annotate.teacher.api_key_env: {settings.api_key_env} is not set in the environment; "
            "export it and run again"
        )
    return key
