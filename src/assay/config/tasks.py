"""Sections under `tasks`: one question asked of one corpus."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.config.annotate import Annotate
from assay.config.losses import known_losses
from assay.section import Positive, Section, Share
from assay.targets import AnyTarget

DESIGNS_WITH_FEATURES = ("diverse", "active")


class Sample(Section):
    """Which posts are labelled."""

    design: Literal["random", "stratified", "all", "diverse", "active"] = "random"
    posts: Positive = 1000
    pool: Positive = 5000
    first: Annotated[float, Field(gt=0, lt=1)] = 0.5
    by: str | None = None
    min_per_stratum: Annotated[int, Field(ge=0)] = 2
    seed: int = 1
    image_px: Annotated[int, Field(ge=32, le=4096)] = 256
    max_images: Positive = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.design == "stratified" and not self.by:
            raise ValueError("by is missing: design stratified needs a column, such as brands or length")
        if self.design in DESIGNS_WITH_FEATURES and self.pool < self.posts:
            raise ValueError(f"pool {self.pool} is below posts {self.posts}; design {self.design} draws from the pool")
        if self.by == "author":
            raise ValueError("by: author is a keyed hash and cannot be sampled by")
        return self


OFFICIAL: dict[Literal["train", "val", "calibration", "test"], list[str]] = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev", "dev_seen", "dev_unseen"],
    "calibration": ["calibration"],
    "test": ["test", "test_seen", "test_unseen"],
}


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
    official: dict[Literal["train", "val", "calibration", "test"], list[str]] | None = OFFICIAL

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


class Asymmetric(Section):
    """Asymmetric loss: how strongly easy positives and negatives count less, and from where negatives count nothing."""

    gamma_pos: Annotated[float, Field(ge=0)] = 0.0
    gamma_neg: Annotated[float, Field(ge=0)] = 4.0
    clip: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Train(Section):
    """How the student learns."""

    lr: Annotated[float, Field(gt=0)] = 0.001
    lr_image: Annotated[float, Field(gt=0)] = 0.0001
    lr_text: Annotated[float, Field(gt=0)] = 0.00003
    lr_lexical: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    epochs: Positive = 40
    batch_size: Positive = 32
    grad_accumulation: Positive = 1
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    warmup: Share = 0.1
    schedule: Literal["cosine", "cosine_restarts", "constant"] = "cosine"
    restarts: Positive = 3
    patience: Positive = 3
    metric: str = "loss"
    loss: str = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    asymmetric: Asymmetric = Asymmetric()
    soft_targets: Share = 0.0
    sampler: Literal["random", "weighted"] = "random"
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0
    uncertainty_weights: bool = False
    text_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Literal["none", "meme", "photo"] = "none"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    grad_checkpointing: bool = False
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    inner_folds: Annotated[int, Field(ge=0, le=20)] = 0
    self_distil: Share = 0.0
    tensorboard: bool = False
    seed: int = 1
    seeds: list[int] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.inner_folds == 1:
            raise ValueError("inner_folds 1 leaves nothing to learn from; allowed: 0 (off) or 2 to 20")
        if self.self_distil and not self.inner_folds:
            raise ValueError("self_distil needs inner_folds of 2 or more, whose students it learns from")
        return self


class Infer(Section):
    """How the whole corpus is scored."""

    batch_size: Positive = 64


class Evaluate(Section):
    """What the student is looked at by, beside the whole test split."""

    slices: list[str] = ["language", "brand", "sponsored", "length", "images"]
    min_slice: Positive = 20


class Report(Section):
    """What the report shows."""

    min_posts: Positive = 30
    worst: Annotated[int, Field(ge=0, le=200)] = 12


class Task(Section):
    """One question asked of one corpus."""

    corpus: str
    student: str
    target: AnyTarget
    sample: Sample
    annotate: Annotate
    split: Split
    train: Train
    evaluate: Evaluate
    infer: Infer
    report: Report

    @model_validator(mode="after")
    def _check(self) -> Self:
        kind, train = self.target.kind, self.train
        stops = ("loss", *(metric.name for metric in self.target.metrics if metric.stops))
        for name, value, allowed in (("metric", train.metric, stops), ("loss", train.loss, known_losses(kind))):
            if allowed and value not in allowed:
                raise ValueError(f"train.{name} {value} does not fit target kind {kind}; allowed: {', '.join(allowed)}")
        return self
