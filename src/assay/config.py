"""params.yaml -> typed settings; the only reader of YAML. Unknown keys and wrong types are errors."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.config_errors import one_line
from assay.errors import SettingsError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
CheckImages = Literal["none", "header", "full"]


class Section(BaseModel):
    """A section of params.yaml: an unknown key is an error, and text is never read as a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Brand(Section):
    """How a brand is recognised in a post: by its hashtags and its handles, without # and @."""

    hashtags: list[str] = []
    handles: list[str] = []


class Corpus(Section):
    """What every corpus has, whatever its layout."""

    path: str
    check_images: CheckImages = "header"
    max_pixels: Positive = 50_000_000  # as images.MAX_PIXELS
    shard_posts: Positive = 10_000
    brands: dict[str, Brand] = {}


class DemoCorpus(Corpus):
    """The drawn corpus, in the Instagram influencer layout."""

    kind: Literal["demo"]


class InstagramCorpus(Corpus):
    """Either release of the Instagram influencer data; which one is seen from its files."""

    kind: Literal["instagram"]


class MvsaCorpus(Corpus):
    """MVSA-Single or MVSA-Multiple."""

    kind: Literal["mvsa"]


class Columns(Section):
    """Which column of a table holds what; `gold` maps a name of ours to a column of labels."""

    id: str = "id"
    text: str | None = "text"
    image: str | None = "image"
    author: str | None = None
    created_at: str | None = None
    brands: str | None = None
    sponsored: str | None = None
    language: str | None = None
    likes: str | None = None
    comments: str | None = None
    gold: dict[str, str] = {}


class TableCorpus(Corpus):
    """A CSV, JSONL or Parquet file (or a folder of them) with a path to an image in each row."""

    kind: Literal["table"]
    images_root: str | None = None
    columns: Columns = Columns()


AnyCorpus = Annotated[DemoCorpus | InstagramCorpus | MvsaCorpus | TableCorpus, Field(discriminator="kind")]


class Demo(Section):
    """How large the drawn corpus is and from which seed it is drawn."""

    posts: Annotated[int, Field(ge=50)] = 1500
    seed: int = 7


# --- targets


class ScoreTarget(Section):
    """A bounded score; `bands` are the inner edges between the named bands, low to high."""

    kind: Literal["score"]
    min: float = 0.0
    max: float = 10.0
    bands: list[float] = []
    band_names: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        edges = [self.min, *self.bands, self.max]
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"bands {self.bands} must rise, between {self.min} and {self.max}")
        if self.band_names and len(self.band_names) != len(self.bands) + 1:
            raise ValueError(f"band_names needs {len(self.bands) + 1} names for {len(self.bands)} edges")
        return self

    def names_of_bands(self) -> list[str]:
        """The bands' names, low to high; numbered where params give none."""
        return self.band_names or [f"band {i + 1}" for i in range(len(self.bands) + 1)]


class ClassesTarget(Section):
    """Exactly one of the named classes."""

    kind: Literal["classes"]
    names: Annotated[list[str], Field(min_length=2)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {self.names} repeat")
        return self


Target = Annotated[ScoreTarget | ClassesTarget, Field(discriminator="kind")]


# --- tasks


class Sample(Section):
    """Which posts are labelled."""

    design: Literal["random", "stratified", "all"] = "random"
    size: Positive = 1000
    by: str | None = None
    min_per_stratum: Annotated[int, Field(ge=0)] = 2
    seed: int = 1
    image_px: Annotated[int, Field(ge=32, le=4096)] = 256
    max_images: Positive = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.design == "stratified" and not self.by:
            raise ValueError("by is missing: design stratified needs a column, such as brands or length")
        if self.by == "author":
            raise ValueError("by: author is a keyed hash and cannot be sampled by")
        return self


class Teacher(Section):
    """Who rates: an OpenAI-compatible server, or the drawn demo teacher inside this process."""

    base_url: str = "demo"
    model: str = "assay-demo-1"
    api_key_env: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Positive = 300
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 4
    usd_per_million_input: Annotated[float, Field(ge=0)] | None = None
    usd_per_million_output: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base_url != "demo" and not re.match(r"https?://", self.base_url):
            raise ValueError(f"base_url {self.base_url!r} must be demo or begin with http:// or https://")
        return self


class Annotate(Section):
    """Where labels come from: a teacher, or a gold column of the corpus."""

    source: Literal["teacher", "column"] = Field(alias="from")
    column: str | None = None
    rubric: str | None = None
    teacher: Teacher = Teacher()
    max_failed_share: Share = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "column" and not self.column:
            raise ValueError("column is missing: from: column needs the name of a gold column")
        return self


class Split(Section):
    """How labelled posts are divided; groups never cross a split."""

    train: Share = 0.6
    val: Share = 0.1
    calibration: Share = 0.1
    test: Share = 0.2
    group_by: list[Literal["author", "image", "text"]] = ["author", "image", "text"]
    text_similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    image_distance: Annotated[int, Field(ge=0, le=7)] = 4
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    seed: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.val + self.calibration + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + calibration + test is {total:g}, must be 1")
        if not (self.train and self.val and self.test):
            raise ValueError("train, val and test must each be above 0")
        if self.folds and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} must be below folds {self.folds} (the first fold is 0)")
        return self


ValMetric = Literal["loss", "mae", "rmse", "r2", "spearman", "accuracy", "f1_macro", "f1_weighted", "auroc"]


class Train(Section):
    """How the student learns."""

    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    epochs: Positive = 40
    batch_size: Positive = 32
    grad_accumulation: Positive = 1
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    warmup: Share = 0.1
    schedule: Literal["cosine", "cosine_restarts", "constant"] = "cosine"
    restarts: Positive = 3
    patience: Positive = 3
    metric: ValMetric = "loss"
    loss: Literal["auto", "mse", "huber", "cross_entropy"] = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    seed: int = 1


class Infer(Section):
    """How the whole corpus is scored."""

    batch_size: Positive = 64


class Report(Section):
    """What the report shows."""

    min_posts: Positive = 30
    worst: Annotated[int, Field(ge=0, le=200)] = 12


class Task(Section):
    """One question asked of one corpus."""

    corpus: str
    student: str
    target: Target
    sample: Sample
    annotate: Annotate
    split: Split
    train: Train
    infer: Infer
    report: Report

    @model_validator(mode="after")
    def _check(self) -> Self:
        scores = {"mae", "rmse", "r2", "spearman"}
        wrong = scores if self.target.kind == "classes" else set(get_args(ValMetric)) - scores - {"loss"}
        if self.train.metric in wrong:
            allowed = ", ".join(sorted(set(get_args(ValMetric)) - wrong))
            raise ValueError(
                f"train.metric {self.train.metric} does not fit target kind {self.target.kind}; allowed: {allowed}"
            )
        losses = {"score": {"auto", "mse", "huber"}, "classes": {"auto", "cross_entropy"}}[self.target.kind]
        if self.train.loss not in losses:
            raise ValueError(
                f"train.loss {self.train.loss} does not fit target kind {self.target.kind}; "
                f"allowed: {', '.join(sorted(losses))}"
            )
        return self


# --- students


class ImageBranch(Section):
    """The image encoder: `packaged/…`, `timm/<name>`, `transformers/<name>` or a local folder."""

    encoder: str
    frozen: bool = True


class TextBranch(Section):
    """The text encoder: `packaged/…`, `transformers/<name>` or a local folder."""

    encoder: str
    frozen: bool = True
    max_tokens: Annotated[int, Field(ge=4, le=8192)] = 128
    pooling: Literal["mean", "cls"] = "mean"


class Fusion(Section):
    """How the two modalities meet."""

    kind: Literal["concat"] = "concat"


class Head(Section):
    """The layers behind the fusion; `linear_skip` adds a linear path around them."""

    hidden: list[Positive] = [256, 128]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_norm: bool = False
    linear_skip: bool = False


class Student(Section):
    """A student: two branches (one may be absent), their fusion and a head."""

    image: ImageBranch | None = None
    text: TextBranch | None = None
    fusion: Fusion = Fusion()
    head: Head = Head()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.image or self.text):
            raise ValueError("a student needs an image branch, a text branch or both")
        for name, branch in (("image", self.image), ("text", self.text)):
            if branch and not branch.frozen:
                raise ValueError(f"{name}.frozen: false is not supported yet; allowed: true")
        return self


class Params(Section):
    """The whole of params.yaml."""

    scan: list[str] = []
    demo: Demo = Demo()
    corpora: dict[str, AnyCorpus]
    tasks: dict[str, Task]
    students: dict[str, Student]
    joint: dict[str, Any] = {}
    audits: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in [*self.corpora, *self.tasks, *self.students]:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"name {name!r} must be made of letters, digits, _ and -")
        for name in self.tasks:
            if name in ("corpora", "manifest", "raw"):
                raise ValueError(f"tasks.{name}: this name is taken by a folder of data/; choose another")
        for name, task in self.tasks.items():
            _known(f"tasks.{name}.corpus", task.corpus, self.corpora)
            _known(f"tasks.{name}.student", task.student, self.students)
        for name, corpus in self.corpora.items():
            if corpus.kind == "demo" and name != "demo":
                raise ValueError(f"corpora.{name}: kind demo is only for the corpus named demo")
        for name in self.scan:
            _known("scan", name, self.corpora)
            if self.corpora[name].kind == "demo":
                raise ValueError(f"scan: {name} is the drawn corpus, which has its own stage; leave it out")
        return self


def _known(key: str, value: str, known: dict[str, Any]) -> None:
    if value not in known:
        raise ValueError(f"{key}: {value!r} is not there; allowed: {', '.join(known) or 'none'}")


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml; SettingsError with one line for the first thing that is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; run this in the repository's root") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: must be a mapping with the keys {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(f"{path}: {one_line(error, raw, Params)}") from None
