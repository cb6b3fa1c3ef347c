"""What a server of the OpenAI protocol says, and the keys that it wants, which stand in the environment alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Protocol

import httpx2
import openai

from assay.errors import SettingsError

TEACHER = "annotate.teacher"


class Account(Protocol):
    """Settings that name a key."""

    @property
    def api_key_env(self) -> str | None: ...

    @property
    def headers(self) -> dict[str, str]: ...


def one_line(said: str, secrets: list[str]) -> str:
    """A server's message in one line of at most 200 characters, without the keys, which some repeat."""
    for secret in secrets:
        said = said.replace(secret, "***") if len(secret) > 4 else said
    return readable(" ".join(said.split())[:200])


def said_by(error: openai.APIStatusError) -> str:
    """What a server said of a refusal: its own message, or as much of the body as there is."""
    body = error.body if isinstance(error.body, dict) else {}
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
