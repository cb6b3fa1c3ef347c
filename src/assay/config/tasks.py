"""Sections under `tasks`: one question asked of one corpus."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from assay.config.base import Positive, Section, Share
from assay.config.targets import Target


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
