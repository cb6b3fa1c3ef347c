"""Sections under `tasks.<name>.annotate`: who rates, how answers are asked for, and what may be sent."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from assay.section import Positive, Section, Share

Price = Annotated[float, Field(ge=0)]
Masked = Literal["email", "phone", "handle", "url"]
ALL_MASKED: list[Masked] = ["email", "phone", "handle", "url"]
SECRET_HEADERS = ("authorization", "cookie", "api-key", "x-api-key", "proxy-authorization")


OWN_FIELDS = {"model", "messages", "response_format", "tools", "tool_choice"}
ONLY = {"stream": False, "n": 1}  # all that can be read


def check_headers(headers: dict[str, str]) -> None:
    """ValueError when a header that is a secret stands in the file itself."""
    for name, value in headers.items():
        if name.lower() in SECRET_HEADERS and not value.startswith("env:"):
            raise ValueError(f"headers.{name} would be a secret in a file; write env:NAME_OF_A_VARIABLE")


class Teacher(Section):
    """Who rates: an OpenAI-compatible server, or the drawn demo teacher inside this process."""

    base_url: str = "demo"
    model: str = "assay-demo-1"
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    extra_body: dict[str, Any] = {}
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    max_tokens: Positive = 300
    token_limit: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    system_role: Literal["auto", "system", "developer", "user"] = "auto"
    structure: Literal["auto", "json_schema", "tool", "plain"] = "auto"
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    deadline_s: Annotated[float, Field(gt=0)] = 600.0
    retries: Annotated[int, Field(ge=0, le=50)] = 6
    usd_per_million_input: Price | None = None
    usd_per_million_output: Price | None = None
    batch_price: Annotated[float, Field(gt=0, le=1)] = 0.5
    batch_poll_s: Annotated[float, Field(gt=0)] = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base_url != "demo" and not re.match(r"https?://", self.base_url):
            raise ValueError(f"base_url {self.base_url!r} must be demo or begin with http:// or https://")
        check_headers(self.headers)
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError("usd_per_million_input and usd_per_million_output must be given together")
        taken = sorted(set(self.extra_body) & OWN_FIELDS)
        if taken:
            raise ValueError(f"extra_body may not set {', '.join(taken)}, which assay sets itself")
        for name, value in ONLY.items():
            if self.extra_body.get(name, value) not in (value, None):
                raise ValueError(f"extra_body.{name} may be {value} only: one answer, in one piece")
        return self


class Annotate(Section):
    """Where labels come from: a teacher, or a gold column of the corpus."""

    source: Literal["teacher", "column"] = Field(alias="from")
    column: str | None = None
    rubric: str | None = None
    teacher: Teacher = Teacher()
    second_teacher: Teacher | None = None
    mode: Literal["online", "batch"] = "online"
    distribution: Literal["auto", "typed", "none"] = "auto"
    votes: Annotated[int, Field(ge=1, le=99)] = 1
    repeat: Share = 0.0
    anchors: Annotated[int, Field(ge=0, le=1000)] = 20
    ask_with: list[str] = []
    brands: bool = False
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    image_px: Annotated[int, Field(ge=32, le=4096)] | None = None
    mask: list[Masked] = ALL_MASKED
    phone_regions: list[str] = ["US"]
    dry_run: str | None = None
    max_failed_share: Share = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "column" and not self.column:
            raise ValueError("column is missing: from: column needs the name of a gold column")
        if self.votes > 1 and self.teacher.temperature == 0:
            raise ValueError("votes above 1 need teacher.temperature above 0, or every vote is the same")
        if self.votes > 1 and self.distribution == "typed":
            raise ValueError("votes exclude distribution: typed, whose answers are distributions already")
        if self.second_teacher is not None and not self.repeat:
            raise ValueError("second_teacher is asked the share `repeat`, which is 0; set repeat, such as 0.1")
        same = ("model", "temperature", "max_tokens", "extra_body")
        if self.second_teacher and all(getattr(self.second_teacher, n) == getattr(self.teacher, n) for n in same):
            raise ValueError("second_teacher is the same model and settings; repeat alone asks a teacher twice")
        if self.mode == "batch" and (self.teacher.base_url == "demo" or self.distribution == "typed"):
            raise ValueError("mode: batch needs a server with the Batch API; neither demo nor typed answers have it")
        for name, wished in (("ask_with", bool(self.ask_with)), ("brands", self.brands)):
            if wished and self.source == "column":
                raise ValueError(f"{name} is for a teacher; with from: column nobody is asked")
            if wished and self.distribution == "typed":
                raise ValueError(f"{name} excludes distribution: typed, which answers one question without any text")
        if self.ask_with and self.mode == "batch":
            raise ValueError("ask_with excludes mode: batch, whose lines have one answer each")
        if self.phone_regions != [one.upper() for one in self.phone_regions]:
            raise ValueError("phone_regions are two-letter country codes in capitals, such as US or GB")
        return self
