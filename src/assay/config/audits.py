"""Sections under `audits`: what an image generator makes of the same prompt for different groups of people."""

from __future__ import annotations

import itertools
import re
import string
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.config.annotate import Annotate, check_headers
from assay.config.students import ImageBranch, TextBranch
from assay.plugins import one_of
from assay.section import Positive, Section, Share, check_known

PLACES = {"who", "activity"}
CLIP = {"encoder": "transformers/openai/clip-vit-base-patch32", "pooling": "projected"}
SETS: dict[str, dict[str, Any]] = {
    "six": {
        "efficientnet": {"image": {"encoder": "packaged/efficientnet-lite0"}},
        "minilm": {"text": {"encoder": "packaged/minilm-l6"}},
        "colours": {"image": {"encoder": "packaged/colour-grid"}, "control": True},
        "clip": {"image": CLIP, "text": CLIP},
        "vae": {"image": {"encoder": "vae/stabilityai/sdxl-vae"}, "control": True},
        "resnet50": {"image": {"encoder": "timm/resnet50.a1_in1k"}},
        "dino": {"image": {"encoder": "timm/vit_small_patch16_224.dino"}, "split_product": True},
    }
}
"""Sets of encoders that `encoders` may name."""


class Template(Section):
    """A prompt with the places {who} and {activity}, and the words that stand for each group at {who}."""

    prompt: str
    """Text with the places {who} and {activity}."""
    who: dict[str, str]
    """Group -> the words for it, all different."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None]
        if sorted(found) != sorted(PLACES):
            raise ValueError(f"prompt {self.prompt!r} must hold {{who}} and {{activity}} once each, and no other place")
        if len(set(self.who.values())) != len(self.who):
            raise ValueError("who: two groups have the same words, so that their prompts would not differ")
        return self


class Source(Section):
    """What every generator has, whatever makes its images."""

    kind: str
    """What makes the images."""


class DrawnSource(Source):
    """Drawn figures whose looks follow the groups in order, with a planted lean of the reference prompt."""

    kind: Literal["demo"]
    lean: dict[str, Annotated[float, Field(ge=0)]] = {}
    """How often the reference is drawn with the looks of each group; {}: all alike."""
    visible: Share = 1.0
    """Share of images that heed the words for their group; 0: no effect at all."""
    size_px: Annotated[int, Field(ge=64, le=1024)] = 128
    """Side of the images, in pixels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lean and not sum(self.lean.values()):
            raise ValueError("lean: one of the groups must be above 0")
        return self


class DiffusersSource(Source):
    """A pipeline of the library diffusers, by hub name or local folder."""

    kind: Literal["diffusers"]
    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    """Hub name or local folder of any pipeline."""
    revision: str | None = None
    """A branch, tag or commit on the hub."""
    variant: str | None = None
    """Such as fp16."""
    scheduler: str | None = "euler_ancestral"
    """euler_ancestral, euler, ddim, dpmpp_2m, unipc, lcm, pndm, or a class of diffusers; null: the pipeline's own."""
    steps: Positive = 20
    """Denoising steps."""
    guidance: Annotated[float, Field(ge=0)] = 7.5
    """Classifier-free guidance scale."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 768
    """In pixels."""
    height: Annotated[int, Field(ge=8, multiple_of=8)] = 768
    """In pixels."""
    negative_prompt: str | None = (
        "painting, cartoon, anime, render, artwork, 3d render, illustration, drawing, sketch, doll, deformed, text"
    )
    """What images shall not show; null: none."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: float16 on a GPU, else float32."""
    batch_size: Positive = 4
    """Images at a time."""
    attention_slicing: bool = False
    """Saves memory."""
    vae_slicing: bool = False
    """Saves memory."""
    vae_tiling: bool = False
    """Saves memory."""
    xformers: bool = False
    """Memory-efficient attention of the package xformers."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Parts of the model wait in main memory."""
    extra: dict[str, Any] = {}
    """More arguments of the pipeline's call."""


class OpenAISource(Source):
    """The images endpoint of any server that speaks the OpenAI protocol."""

    kind: Literal["openai"]
    base_url: str
    """The server's address."""
    model: str
    """The model's name there."""
    api_key_env: str | None = None
    """The NAME of the environment variable that holds the key."""
    headers: dict[str, str] = {}
    """More headers; a secret one as env:NAME_OF_A_VARIABLE."""
    image_size: str | None = "1024x1024"
    """Width x height as the server writes it."""
    response_format: Literal["b64_json", "url"] | None = None
    """How images come back; null: the field is left out."""
    seed_field: str | None = None
    """The name under which the server takes a seed; null: it takes none."""
    negative_prompt: str | None = None
    """What images shall not show."""
    negative_field: str | None = None
    """The name under which the server takes it."""
    extra_body: dict[str, Any] = {}
    """More fields of each request."""
    concurrency: Positive = 4
    """The most requests in flight."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """A limit of your account; null: found out as it is met."""
    timeout_s: Annotated[float, Field(gt=0)] = 180.0
    """Of one try, in seconds."""
    retries: Annotated[int, Field(ge=0)] = 6
    """Of passing faults."""
    usd_per_image: Annotated[float, Field(ge=0)] | None = None
    """Price of an image in US dollars."""
    budget_usd: Annotated[float, Field(gt=0)] | None = None
    """The most that may be spent in US dollars, over all runs."""

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


class FolderSource(Source):
    """Images made elsewhere and a mapping table: file, activity, group, and where there are several seed, template."""

    kind: Literal["folder"]
    path: str
    """The folder of images made elsewhere. After a change of its files: `dvc repro --force generate@<audit>`."""
    mapping: str = "mapping.csv"
    """A CSV in it with the columns file, activity, group, and where there are several images seed, template; category
    and prompt may be there.
    """


if TYPE_CHECKING:
    Generator = Source
else:  # what params.yaml may have under a name of `generators`
    Generator = one_of(Source, __name__, "generator_settings")


class Images(Section):
    """Of how many activities, how many images of each prompt, and how many may be lacking."""

    take: Positive | None = None
    """So many activities, of each category its share; null: all."""
    take_seed: int = 1
    """Of the choice of activities."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [123, 124]
    """An image of each prompt for each seed. A single one leaves no noise floor."""
    own_noise: bool = True
    """Each activity starts from noise of its own, the same for its groups and templates; false: the seeds themselves
    for all, whose quirks would then pass for findings.
    """
    max_failed_share: Share = 0.05
    """More images than this share failed for passing reasons: stop, keep all, run again."""
    max_pixels: Positive = 50_000_000
    """An image of more pixels is refused."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat")
        return self


class AuditEncoder(Section):
    """A space in which images, prompts or both become vectors."""

    image: ImageBranch | None = None
    """A frozen image branch, as under students."""
    text: TextBranch | None = None
    """A frozen text branch, as under students."""
    center: bool = True
    """The mean over all images is taken off first; raw cosines are dominated by it."""
    split_product: bool = False
    """Also patch by patch (vision transformers)."""
    control: bool = False
    """Shown, but without a part in the verdict: colour and layout, which should not know of age."""

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

    @property
    def is_shared(self) -> bool:
        """Whether images and prompts lie in one space, that of a model such as CLIP."""
        image, text = self.image, self.text
        if image is None or text is None or image.encoder != text.encoder:
            return False
        return image.pooling == text.pooling == "projected"


class Statistics(Section):
    """How findings are tested."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Level of tests, and of the detectable effect."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Of the detectable effect."""
    bootstrap: Annotated[int, Field(ge=200)] = 2000
    """Draws of activities, for 95 % intervals."""
    permutations: Annotated[int, Field(ge=199)] = 4999
    """Of groups within activities, for p-values."""
    probe_permutations: Annotated[int, Field(ge=99)] = 999
    """The linear probe learns again for each."""
    correction: Literal["holm", "bh", "none"] = "holm"
    """Over encoders and comparisons (by category: encoders and categories)."""
    min_activities: Annotated[int, Field(ge=3)] = 5
    """Fewer whole activities: stop; a category with fewer is "too few"."""
    seed: int = 1
    """Of draws, permutations and folds."""


class Pictures(Section):
    """Maps, sheets and the page."""

    maps: list[Literal["tsne", "umap"]] = ["tsne", "umap"]
    """umap needs pip install 'assay[audit]'."""
    map_images: Annotated[int, Field(ge=50, le=20_000)] = 1200
    """At most so many images on a map."""
    perplexity: Annotated[float, Field(gt=1)] = 30.0
    """Of t-SNE."""
    neighbours: Annotated[int, Field(ge=2)] = 15
    """Of UMAP."""
    thumbnail_px: Annotated[int, Field(ge=32, le=512)] = 96
    """Longer side of thumbnails, in pixels."""
    sheet_activities: Annotated[int, Field(ge=1, le=100)] = 12
    """Activities on the contact sheet."""
    heat_activities: Annotated[int, Field(ge=5, le=1000)] = 60
    """Rows of the heat map: the strongest leans either way."""


class Perceived(Section):
    """Apparent band of the person in each image: a teacher labels a sample, a student all, estimates use both."""

    names: Annotated[list[str], Field(min_length=2)]
    """Bands; headings of the rubric."""
    annotate: Annotate
    """Who says it, as under tasks; always a teacher."""
    encoder: str
    """A name under the audit's encoders, with images."""
    sample: Annotated[int, Field(ge=20)] = 200
    """Images that the teacher labels, spread over the groups."""
    image_px: Annotated[int, Field(ge=32, le=4096)] = 512
    """Longer side, in pixels, as the teacher sees them."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Of the cross-fitting."""
    population: dict[str, Share] = {}
    """Shares to stand beside, such as {young: 0.38, middle-aged: 0.33, older: 0.29}."""
    seed: int = 1
    """Of sample and folds."""

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
    """Groups of people that prompts name."""
    reference: str | None
    """The group whose prompt names nobody's; null: groups are only told apart."""
    comparisons: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """Pairs of groups; []: every two but the reference."""
    generator: str
    """A name under generators."""
    activities: str
    """A CSV with the columns id, category, activity."""
    templates: dict[str, Template]
    """Name -> prompt. Prompts of one activity differ in the words for the group alone."""
    use: Annotated[list[str], Field(min_length=1)]
    """Which templates are asked."""
    images: Images = Images()
    """Of how many activities, how many images."""
    encoders: Annotated[dict[str, AuditEncoder], Field(min_length=1)]
    """Spaces in which images, prompts or both are compared; or `six`: CLIP's images and prompts, latents of SDXL,
    ResNet-50, DINO and its patches, beside the packaged ones. One that cannot be had is left out, and said.
    """
    image_px: Annotated[int, Field(ge=32, le=4096)] = 512
    """Longer side of images as encoders get them, in pixels."""
    statistics: Statistics = Statistics()
    """How findings are tested."""
    pictures: Pictures = Pictures()
    """Maps, sheets and the page."""
    perceived: Perceived | None = None
    """Apparent band of the person in each image, by a teacher and a student of it; null: not asked."""

    @field_validator("encoders", mode="before")
    @classmethod
    def _take_set(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        check_known("encoders", value, SETS)
        return SETS[value]

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
