"""Sections under `tasks`: one question asked of one corpus."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.config.annotate import Annotate
from assay.config.losses import known_losses
from assay.section import Positive, Section, Share
from assay.targets import AnyTarget

DESIGNS_WITH_FEATURES = ("diverse", "active")


class Sample(Section):
    """Which posts are labelled."""

    design: Literal["random", "stratified", "all", "diverse", "active"] = "random"
    """random; stratified by the column `by`; all; diverse: posts unlike each other by the student's frozen features;
    active: a random first batch, then posts that a student of it is unsure of.
    """
    posts: Positive = 1000
    """Posts to draw; design all ignores it."""
    pool: Positive = 5000
    """Designs diverse and active draw from so many random posts, whose features are computed."""
    first: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Design active: share of the posts in the first, random batch."""
    by: str | None = None
    """Design stratified: brand, sponsored, language, length, or any column of the posts but author."""
    min_per_stratum: Annotated[int, Field(ge=0)] = 2
    """Design stratified: at least so many posts of each stratum."""
    seed: int = 1
    """Of permanent random numbers: a grown corpus keeps most of its old sample."""
    image_px: Annotated[int, Field(ge=32, le=4096)] = 448
    """Longer side of an image as teacher and student see it, in pixels."""
    max_images: Positive = 4
    """Of a post with more images, only the first so many count."""

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
    """Share of the labelled posts to learn from; the four shares sum to 1."""
    val: Share = 0.1
    """Share for early stopping, and for the strength of baselines."""
    calibration: Share = 0.1
    """Share for the temperature and the width of intervals."""
    test: Share = 0.2
    """Share that evaluate looks at once."""
    group_by: list[Literal["author", "image", "text"]] = ["author", "image", "text"]
    """Posts that share one of these never part: the author, a near-duplicate image or text."""
    text_similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of words and word pairs from which two texts are the same."""
    image_distance: Annotated[int, Field(ge=0, le=7)] = 4
    """Bits of 64 in which the perceptual hashes of the same image may differ."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Grouped k-fold instead of the shares: the test split is fold number `fold` of so many."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Which fold is the test split; the first is 0."""
    seed: int = 1
    """Of the assignment of groups to splits."""
    official: dict[Literal["train", "val", "calibration", "test"], list[str]] | None = OFFICIAL
    """Which names of the corpus' official splits are which split; others are left out. null: split anew. Official
    splits are kept and only checked for leaks; a val split that is lacking is cut from train, and without a
    calibration split students are calibrated on val.
    """

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
    """How much less easy positives count."""
    gamma_neg: Annotated[float, Field(ge=0)] = 4.0
    """How much less easy negatives count."""
    clip: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Probability below which a negative counts nothing."""


class Train(Section):
    """How the student learns."""

    lr: Annotated[float, Field(gt=0)] = 0.0001
    """AdamW's learning rate at the end of warm-up: of fusion and head."""
    lr_image: Annotated[float, Field(gt=0)] = 0.0001
    """Learning rate of an image encoder that learns (frozen: false)."""
    lr_text: Annotated[float, Field(gt=0)] = 0.00003
    """Learning rate of a text encoder that learns."""
    lr_lexical: Annotated[float, Field(gt=0)] = 0.001
    """Learning rate of the n-gram table."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """AdamW's weight decay, a step and learning rate."""
    epochs: Positive = 100
    """Passes over the training posts, at most."""
    batch_size: Positive = 32
    """Posts a batch."""
    grad_accumulation: Positive = 1
    """Batches a step of the optimiser."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    warmup: Share = 0.1
    """Share of all steps with a rising learning rate."""
    schedule: Literal["cosine", "cosine_restarts", "constant"] = "cosine"
    """How the learning rate falls after warm-up."""
    restarts: Positive = 3
    """Schedule cosine_restarts: how many cycles."""
    patience: Positive = 8
    """Stop after so many epochs without a better `metric`."""
    metric: str = "loss"
    """The figure on val by which training stops: loss, or one of the kind of target (see `target`)."""
    loss: str = "auto"
    """auto: the first named of the kind of target (see `target`), or another one of it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Loss cross_entropy: the share of each label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes weigh more; of labels, the positives of each."""
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """Loss focal: how much less easy posts count."""
    asymmetric: Asymmetric = Asymmetric()
    """Loss asymmetric: the same for positives and negatives apart."""
    soft_targets: Share = 0.0
    """Share of the loss that follows the teacher's distributions, where labels carry them."""
    sampler: Literal["random", "weighted"] = "random"
    """weighted: posts of rare classes, labels or bands are drawn more often."""
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0
    """tau: so many times the log priors are added to the logits in training; 1.0 aims at balanced accuracy."""
    uncertainty_weights: bool = False
    """Learned weights of labels, or of the tasks of a joint student."""
    text_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of words left out, for a text encoder that learns."""
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of posts whose picture or text is hidden in training."""
    augment: Literal["none", "meme", "photo"] = "none"
    """For an image encoder that learns. meme: keeps what is written; photo: also crops and mirrors."""
    augment_scale: Annotated[list[Share], Field(min_length=2, max_length=2)] = [0.6, 1.0]
    """Augment photo: the least and the largest share of the area that a crop keeps."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of averaged weights, such as 0.99; 0: the weights themselves."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU, else fp32."""
    grad_checkpointing: bool = False
    """Less memory and more time, for encoders that learn."""
    compile: bool = False
    """torch.compile of fusion and head."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train: auto, cpu, cuda, or mps (Apple silicon)."""
    inner_folds: Annotated[int, Field(ge=0, le=20)] = 0
    """k: learn from train and val together; k students, each without one fold of it, tell how long to train, and are
    calibrated on where there is no calibration split. 0: off.
    """
    crossfit: Annotated[int, Field(ge=0, le=20)] | None = None
    """k: k students, each without one fold of whole leakage groups, score the corpus together; evaluate and findings
    then rest on every labelled post, each predicted by the student that never saw it. 0: one student, judged by the
    test split. null: 5, or 0 where an encoder learns (k encoders would be k passes over the corpus).
    """
    self_distil: Share = 0.0
    """Share of the loss that follows the predictions of the students of `inner_folds`."""
    start_from: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    """For few labels: another task's student, as `assay keep` put it below starts/. This one's linear model sees what
    that one says beside the features; they need the same encoders. null: from nothing.
    """
    tensorboard: bool = False
    """Also write metrics/<task>/train/tensorboard; needs pip install 'assay[tune]'."""
    seed: int = 1
    """Of weights, batches and augmentation."""
    seeds: list[int] = []
    """Further seeds: evaluate.json then has mean and spread over all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.augment_scale[0] <= self.augment_scale[1]:
            raise ValueError(f"augment_scale {self.augment_scale} must be [least, largest], above 0 and at most 1")
        if self.inner_folds == 1:
            raise ValueError("inner_folds 1 leaves nothing to learn from; allowed: 0 (off) or 2 to 20")
        if self.crossfit == 1:
            raise ValueError("crossfit 1 leaves nothing to learn from; allowed: 0 (off) or 2 to 20")
        if self.self_distil and not self.inner_folds:
            raise ValueError("self_distil needs inner_folds of 2 or more, whose students it learns from")
        return self


class Infer(Section):
    """How the whole corpus is scored."""

    batch_size: Positive = 256
    """Posts at a time."""
    shard_posts: Positive = 10_000
    """Posts a shard: what is written at once, and what a kill can cost; a new post costs its own shard."""
    cache: Annotated[float, Field(ge=0)] | None = None
    """GiB of the student's features kept below ASSAY_HOME for later runs, at most; 0: no more of them, null: all."""
    precision: Literal["f32", "bf16"] = "f32"
    """In what graphs of frozen encoders are computed; bf16: faster, where the processor has it (else f32). Labelled
    posts are scored in it too, so that corrected findings stay so.
    """
    engine: Literal["local", "ray"] = "local"
    """This machine, or Ray: the cluster that RAY_ADDRESS names, else this machine's cores by Ray."""
    cpus: Positive = 2
    """CPUs of each worker on Ray."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of each worker on Ray; a part of one is allowed."""
    share: str | None = None
    """Object storage, such as s3://bucket/assay, by which posts go to workers on Ray and finished shards come back;
    null: workers read posts by the same path, and what they say comes back through Ray.
    """

    @field_validator("share")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError(f"share {value!r}: allowed: an address such as s3://bucket/folder")
        return value


class Evaluate(Section):
    """What the student is looked at by, beside the whole test split."""

    slices: list[str] = ["language", "brand", "sponsored", "length", "images"]
    """Figures by these columns: language, brand, sponsored, length, images, or any other of the posts."""
    min_slice: Positive = 20
    """A slice with fewer test posts is not shown."""


class Report(Section):
    """What the report shows."""

    min_posts: Positive = 30
    """A brand with fewer scored posts is "too few"."""
    target: Literal["these_posts", "posts_like_these"] = "these_posts"
    """Whom the findings are about. these_posts: the corpus as it is, were every post labelled; posts_like_these: more
    posts by authors like these, whose number and spread then count.
    """
    by: list[str] = ["sponsored", "month", "language", "author_size"]
    """Findings by these, where the corpus has them: sponsored, month, year, language, author_size."""
    brand_groups: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    """Brands taken together, such as {luxury: [aldo, zara]}: findings of each group as of a column of `by`; capitals do
    not count.
    """
    worst: Annotated[int, Field(ge=0, le=200)] = 12
    """How many of the largest errors are shown."""
    share: Literal["masked", "full"] = "masked"
    """Of the posts that the page shows. masked: pictures as coarse mosaics, and addresses, numbers, handles and links
    as marks, so that the page can be mailed; full: as they are.
    """


class Task(Section):
    """One question asked of one corpus."""

    corpus: str
    """A name under corpora."""
    student: str
    """A name under students."""
    target: AnyTarget
    """What is asked; its kind and names."""
    sample: Sample = Sample()
    """Which posts are labelled; each keeps its inclusion probability."""
    annotate: Annotate
    """Where labels come from."""
    split: Split = Split()
    """How labelled posts are divided, so that nothing leaks."""
    train: Train = Train()
    """How the student learns."""
    evaluate: Evaluate = Evaluate()
    """What the student is looked at by."""
    infer: Infer = Infer()
    """How the whole corpus is scored."""
    report: Report = Report()
    """What the report shows."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        kind, train = self.target.kind, self.train
        stops = ("loss", *(metric.name for metric in self.target.metrics if metric.stops))
        for name, value, allowed in (("metric", train.metric, stops), ("loss", train.loss, known_losses(kind))):
            if allowed and value not in allowed:
                raise ValueError(f"train.{name} {value} does not fit target kind {kind}; allowed: {', '.join(allowed)}")
        return self
