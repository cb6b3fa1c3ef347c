"""Sections under `audits`: what an image generator makes of the same prompt for different groups of people."""

from __future__ import annotations

import itertools
import re
import string
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from assay.config.annotate import Annotate, check_headers
from assay.config.students import ImageBranch, TextBranch
from assay.section import Positive, Section, Share, check_known

PLACES = {"who", "activity"}


class Template(Section):
    """A prompt with the places {who} and {activity}, and the words that stand for each group at {who}."""

    prompt: str
    who: dict[str, str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None]
        if sorted(found) != sorted(PLACES):
            raise ValueError(f"prompt {self.prompt!r} must hold {{who}} and {{activity}} once each, and no other place")
        if len(set(self.who.values())) != len(self.who):
            raise ValueError("who: two groups have the same words, so that their prompts would not differ")
        return self


class DrawnSource(Section):
    """Drawn figures whose looks follow the groups in order, with a planted lean of the reference prompt."""

    kind: Literal["demo"]
    lean: dict[str, Annotated[float, Field(ge=0)]] = {}
    visible: Share = 1.0
    size_px: Annotated[int, Field(ge=64, le=1024)] = 128

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lean and not sum(self.lean.values()):
            raise ValueError("lean: one of the groups must be above 0")
        return self


class DiffusersSource(Section):
    """A pipeline of the library diffusers, by hub name or local folder."""

    kind: Literal["diffusers"]
    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    revision: str | None = None
    variant: str | None = None
    scheduler: str | None = "euler_ancestral"
    steps: Positive = 20
    guidance: Annotated[float, Field(ge=0)] = 7.5
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 768
    height: Annotated[int, Field(ge=8, multiple_of=8)] = 768
    negative_prompt: str | None = (
        "painting, cartoon, anime, render, artwork, 3d render, illustration, drawing, sketch, doll, deformed, text"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_size: Positive = 4
    attention_slicing: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    xformers: bool = False
    offload: Literal["none", "model", "sequential"] = "none"
    extra: dict[str, Any] = {}


class OpenAISource(Section):
    """The images endpoint of any server that speaks the OpenAI protocol."""

    kind: Literal["openai"]
    base_url: str
    model: str
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    image_size: str | None = "1024x1024"
    response_format: Literal["b64_json", "url"] | None = None
    seed_field: str | None = None
    negative_prompt: str | None = None
    negative_field: str | None = None
    extra_body: dict[str, Any] = {}
    concurrency: Positive = 4
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 180.0
    retries: Annotated[int, Field(ge=0)] = 6
    usd_per_image: Annotated[float, Field(ge=0)] | None = None
    budget_usd: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} must begin with http:// or https://")
        check_headers(self.headers)
        if self.budget_usd is not None and self.usd_per_image is None:
            raise ValueError("budget_usd needs usd_per_image, since image servers do not tell what an image cost")
        if self.negative_prompt and not self.negative_field:
            raise ValueError("negative_prompt needs negative_field, the name under which this server takes it")
        return self


class FolderSource(Section):
    """Images made elsewhere and a mapping table: file, activity, group, and where there are several seed, template."""

    kind: Literal["folder"]
    path: str
    mapping: str = "mapping.csv"


Generator = Annotated[DrawnSource | DiffusersSource | OpenAISource | FolderSource, Field(discriminator="kind")]


class Images(Section):
    """Of how many activities, how many images of each prompt, and how many may be lacking."""

    take: Positive | None = None
    take_seed: int = 1
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [123, 124]
    own_noise: bool = True
    max_failed_share: Share = 0.05
    max_pixels: Positive = 50_000_000

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat")
        return self


class AuditEncoder(Section):
    """A space in which images, prompts or both become vectors."""

    image: ImageBranch | None = None
    text: TextBranch | None = None
    center: bool = True
    split_product: bool = False
    control: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.image or self.text):
            raise ValueError("an encoder needs image, text or both")
        if self.split_product and not self.image:
            raise ValueError("split_product compares image patches: it needs image")
        for branch in (self.image, self.text):
            if branch and not branch.frozen:
                raise ValueError("an audit's encoders do not learn; leave frozen out")
        return self


class Statistics(Section):
    """How findings are tested."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    bootstrap: Annotated[int, Field(ge=200)] = 2000
    permutations: Annotated[int, Field(ge=199)] = 4999
    probe_permutations: Annotated[int, Field(ge=99)] = 999
    correction: Literal["holm", "bh", "none"] = "holm"
    min_activities: Annotated[int, Field(ge=3)] = 5
    seed: int = 1


class Pictures(Section):
    """Maps, sheets and the page."""

    maps: list[Literal["tsne", "umap"]] = ["tsne", "umap"]
    map_images: Annotated[int, Field(ge=50, le=20_000)] = 1200
    perplexity: Annotated[float, Field(gt=1)] = 30.0
    neighbours: Annotated[int, Field(ge=2)] = 15
    thumbnail_px: Annotated[int, Field(ge=32, le=512)] = 96
    sheet_activities: Annotated[int, Field(ge=1, le=100)] = 12
    heat_activities: Annotated[int, Field(ge=5, le=1000)] = 60


class Perceived(Section):
    """Apparent band of the person in each image: a teacher labels a sample, a student all, estimates use both."""

    names: Annotated[list[str], Field(min_length=2)]
    annotate: Annotate
    encoder: str
    sample: Annotated[int, Field(ge=20)] = 200
    image_px: Annotated[int, Field(ge=32, le=4096)] = 512
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    population: dict[str, Share] = {}
    seed: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {self.names} repeat")
        for name in self.population:
            check_known("population", name, dict.fromkeys(self.names))
        if self.population and abs(sum(self.population.values()) - 1) > 0.01:
            raise ValueError(f"population shares sum to {sum(self.population.values()):g}, must be 1")
        if self.annotate.source != "teacher":
            raise ValueError("annotate.from must be teacher: there is no column to read")
        for name in ("ask_with", "brands"):
            if getattr(self.annotate, name):
                raise ValueError(f"annotate.{name} is for tasks on posts; leave it out")
        return self


class Audit(Section):
    """One audit: groups of people, prompts, images, encoders, statistics."""

    groups: Annotated[list[str], Field(min_length=2)]
    reference: str | None
    comparisons: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    generator: str
    activities: str
    templates: dict[str, Template]
    use: Annotated[list[str], Field(min_length=1)]
    images: Images
    encoders: Annotated[dict[str, AuditEncoder], Field(min_length=1)]
    image_px: Annotated[int, Field(ge=32, le=4096)] = 512
    statistics: Statistics = Statistics()
    pictures: Pictures = Pictures()
    perceived: Perceived | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.groups)) != len(self.groups):
            raise ValueError(f"groups {self.groups} repeat")
        for name in self.groups:
            if not re.fullmatch(r"[A-Za-z0-9]+(?:[-.][A-Za-z0-9]+)*", name):
                raise ValueError(f"groups: {name!r} must be made of letters and digits, with - or . between them")
        known: dict[str, Any] = dict.fromkeys(self.groups)
        if self.reference is not None:
            check_known("reference", self.reference, known)
        if len(self.attributed) < 2:
            raise ValueError(
                f"groups {self.groups} with reference {self.reference} leave nothing to compare; add a group"
            )
        for pair in self.comparisons:
            for name in pair:
                check_known("comparisons", name, known)
            if pair[0] == pair[1] or self.reference in pair:
                raise ValueError(f"comparisons: {pair} must be two different groups, neither of them the reference")
        for name in self.use:
            check_known("use", name, self.templates)
            if set(self.templates[name].who) != set(self.groups):
                raise ValueError(
                    f"templates.{name}.who must have words for exactly the groups {', '.join(self.groups)}"
                )
        if self.perceived:
            check_known("perceived.encoder", self.perceived.encoder, self.encoders)
            if self.encoders[self.perceived.encoder].image is None:
                raise ValueError(f"perceived.encoder: {self.perceived.encoder} has no image")
        return self

    @property
    def attributed(self) -> list[str]:
        """The groups other than the reference."""
        return [name for name in self.groups if name != self.reference]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The comparisons: those of params, else every two groups other than the reference."""
        given = [(first, second) for first, second in self.comparisons]
        return given or list(itertools.combinations(self.attributed, 2))
