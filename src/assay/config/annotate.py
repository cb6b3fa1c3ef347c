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
    """demo: the drawn teacher in this process; else the address of any OpenAI-compatible server, https://…/v1."""
    model: str = "assay-demo-1"
    """The model's name there, such as qwen/qwen2.5-vl-32b-instruct."""
    api_key_env: str | None = None
    """The NAME of the environment variable that holds the key; null: none is needed."""
    headers: dict[str, str] = {}
    """More headers; a secret one as env:NAME_OF_A_VARIABLE."""
    extra_body: dict[str, Any] = {}
    """More fields of each request, such as {provider: {sort: price}}; part of an answer's key. A field that is null is
    left out, also one of assay's own, such as max_tokens.
    """
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """null: not sent. A model that refuses it is asked without it."""
    max_tokens: Positive = 300
    """The longest answer, in tokens; reasoning models think within it too."""
    token_limit: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """The field that max_tokens is sent in; auto: found out."""
    system_role: Literal["auto", "system", "developer", "user"] = "auto"
    """Who speaks the rubric; auto: found out."""
    structure: Literal["auto", "json_schema", "tool", "plain"] = "auto"
    """How the answer's form is asked for; auto tries them in this order with the first post, and remembers what the
    server takes.
    """
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    """The most requests in flight; fewer while the server has too much to do."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """A limit of your account, where you know it; null: found out as it is met."""
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """The same, in tokens."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Of one try, in seconds."""
    deadline_s: Annotated[float, Field(gt=0)] = 600.0
    """Of one post with all its tries and pauses, in seconds."""
    retries: Annotated[int, Field(ge=0, le=50)] = 6
    """Of passing faults: 429, 5xx, time-outs, cut connections."""
    usd_per_million_input: Price | None = None
    """Price in US dollars of a million tokens sent, for servers that do not tell the cost; null: unknown."""
    usd_per_million_output: Price | None = None
    """Price in US dollars of a million tokens answered; null: unknown."""
    batch_price: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Mode batch: share of these prices that a batch costs."""
    batch_poll_s: Annotated[float, Field(gt=0)] = 30.0
    """Mode batch: seconds between two looks at a batch."""

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
    """Ask a teacher, or read a gold column of the corpus."""
    column: str | None = None
    """From a column: its name under the corpus' columns.gold. For labels, a JSON list or names separated by commas, []
    for none of them.
    """
    rubric: str | None = None
    """Another rubric's name, without .md; null: the task's own name."""
    teacher: Teacher = Teacher()
    """Who rates."""
    second_teacher: Teacher | None = None
    """Another teacher, asked the share `repeat` too; null: none."""
    people: Literal["beside", "learn"] = "beside"
    """What people say of posts (human/<task>.csv). beside: shown beside the labels, and how far these are from it;
    learn: the student learns from it, too, in place of the label of the posts that people coded. Figures and findings
    are of the labels either way.
    """
    mode: Literal["online", "batch"] = "online"
    """batch: the OpenAI Batch API, cheaper and up to a day's wait."""
    distribution: Literal["auto", "typed", "none"] = "auto"
    """auto: log-probabilities where the server gives them, and the label is the expected score; typed: the endpoint
    /systemone of `transformers serve`; none: plain answers.
    """
    votes: Annotated[int, Field(ge=1, le=99)] = 1
    """Answers a post; above 1 (with temperature above 0) the label is their mean or majority."""
    repeat: Share = 0.0
    """Share of the posts asked a second time, for self-agreement and the noise ceiling."""
    anchors: Annotated[int, Field(ge=0, le=1000)] = 20
    """Posts asked again when the server reports another version of its model; 0: none."""
    ask_with: list[str] = []
    """Other tasks asked about the same posts in the same call, such as [sentiment]: same corpus, sample and teacher.
    Their answers wait in the store for their own annotate.
    """
    brands: bool = False
    """The teacher also names the brands of a post (also unlisted ones); the rubric needs a section Brands.
    annotate.json compares them with those of the corpus.
    """
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """The most that this task may cost in US dollars, all runs together, failed tries counted; null: no cap."""
    image_px: Annotated[int, Field(ge=32, le=4096)] | None = None
    """Longer side of images as they are sent, in pixels; null: as in the sample."""
    mask: list[Masked] = ALL_MASKED
    """What is replaced in texts before they are sent; handles of brands stay."""
    phone_regions: list[str] = ["US"]
    """Countries whose phone numbers are known without +, such as [US, GB, IN]."""
    dry_run: str | None = None
    """A folder: write the requests there instead of sending them, then stop."""
    max_failed_share: Share = 0.02
    """More posts than this share failed for passing reasons: stop, keep all, run again."""

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

    def rubric_file(self, task: str) -> str:
        """The file in the folder rubrics that a task's teacher is asked by."""
        return f"{self.rubric or task}.md"
