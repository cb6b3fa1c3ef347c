"""What a server of the OpenAI protocol says, and the keys that it wants, which stand in the environment alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx2
import openai

from assay.errors import LeavesHost, SettingsError

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
TEACHER = "annotate.teacher"


class Account(Protocol):
    """Settings that name a key."""

    @property
    def api_key_env(self) -> str | None: ...

    @property
    def headers(self) -> dict[str, str]: ...


def one_line(said: str, secrets: Sequence[str]) -> str:
    """A server's message in one line of at most 200 characters, without the keys, which some repeat.

    Controls, and characters that turn the direction of writing, are left out: a message is shown in terminals.
    """
    for secret in secrets:
        said = said.replace(secret, "***") if len(secret) > 4 else said
    return readable(_CONTROLS.sub("", " ".join(said.split()))[:200])


def body_of(error: openai.APIStatusError) -> dict[str, Any]:
    """The error in a refusal's body, out of whatever is around it; empty where there is none."""
    body: Any = error.body
    for _ in range(3):
        if isinstance(body, list) and body:
            body = body[0]
        if isinstance(body, dict) and isinstance(body.get("error"), dict | str):
            body = body["error"]
    return body if isinstance(body, dict) else {"message": body} if isinstance(body, str) else {}


def said_by(error: openai.APIStatusError) -> str:
    """What a server said of a refusal: its own message, or as much of the body as there is."""
    body = body_of(error)
    for name in ("message", "detail"):
        if body.get(name):
            return str(body[name])
    try:
        return error.response.text or str(error.message)
    except httpx2.HTTPError:
        return str(error.message)


def readable(text: str) -> str:
    """The text without half characters, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def http_client(base_url: str) -> httpx2.AsyncClient:
    """A client of one server: a redirect to another host, or to a plain connection, is not followed."""
    home = httpx2.URL(base_url)

    async def stay(request: httpx2.Request) -> None:
        downgraded = home.scheme == "https" and request.url.scheme != "https"
        if request.url.host != home.host or downgraded:
            raise LeavesHost(f"it redirects to {request.url.scheme}://{request.url.host}, and posts go nowhere else")

    return openai.DefaultAsyncHttpxClient(event_hooks={"request": [stay]})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: retry-after-ms, or Retry-After in seconds or as a date."""
    from email.utils import parsedate_to_datetime

    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        try:
            if value is not None and 0 <= float(value) < 1e9:
                return float(value) / divisor
        except ValueError:
            pass
    try:
        at = parsedate_to_datetime(str(headers.get("retry-after")))
        return max(0.0, at.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def api_key(settings: Account, section: str = TEACHER) -> str:
    """The key from the environment, or a word that stands for none."""
    return _variable(settings.api_key_env, f"{section}.api_key_env") if settings.api_key_env else "none"


def secret_headers(settings: Account, section: str = TEACHER) -> dict[str, str]:
    """The headers whose values stand in the environment."""
    return {
        name: _variable(value.removeprefix("env:"), f"{section}.headers.{name}")
        for name, value in settings.headers.items()
        if value.startswith("env:")
    }


def _variable(name: str, setting: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingsError(f"{setting}: {name} is not set in the environment; export it and run again")
    return value
