"""Sections under `students`: branches, fusion and head of a student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.section import Positive, Section

Rate = Annotated[float, Field(ge=0, lt=1)]


class Lora(Section):
    """Low-rank adapters on an encoder's linear layers (Hu et al., 2021), merged into it after training.

    Convolutions over single places (1 x 1) are linear layers too.
    """

    rank: Positive = 8
    """Rank of the adapters."""
    alpha: Positive = 16
    """Their scale is alpha / rank."""
    dropout: Rate = 0.0
    """Dropout before them."""
    targets: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get one."""


class Branch(Section):
    """What both branches have: an encoder, and how much of it learns."""

    encoder: str
    """packaged/efficientnet-lite0, -lite1 or -lite2 (image; the larger two are the extra `encoders`),
    packaged/minilm-l6 (text), timm/<model>, transformers/<model> (a name of the hub) or a local folder, which is used
    with what lies on the machine; ASSAY_HUB=1 lets it fetch.
    """
    revision: str | None = None
    """A branch, tag or commit on the hub."""
    frozen: bool = True
    """false: the encoder learns too."""
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """So many of its first layers (and the embeddings before them) stay as they are."""
    lora: Lora | None = None
    """Adapters on its linear layers learn in their place, behind `freeze_layers`; needs pip install 'assay[tune]'."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.frozen and (self.freeze_layers or self.lora):
            raise ValueError("freeze_layers and lora are for an encoder that learns; set frozen: false")
        return self


class ImageBranch(Branch):
    """The image encoder: `packaged/…`, `timm/<name>`, `transformers/<name>`, `vae/<name>` or a local folder.

    `pooling: projected` is the space that CLIP shares between images and texts.
    """

    views: Annotated[list[Literal["crop", "whole", "flip"]], Field(min_length=1)] = ["crop"]
    """Pictures are seen as crop (the encoder's own), whole (squeezed, nothing cut off), flip; the mean of all."""
    pooling: Literal["pooler", "projected"] = "pooler"
    """projected: the space that CLIP shares between images and texts."""
    layers: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    """Blocks, each the mean over its places, beside the encoder's own vector, such as [5, 6, 7]; null: that alone."""

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if self.layers and self.pooling == "projected":
            raise ValueError("layers lie in no space shared with texts; leave layers or pooling: projected out")
        return self


class TextBranch(Branch):
    """The text encoder: `packaged/…`, `transformers/<name>` or a local folder."""

    max_tokens: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Longer texts are cut; null: 128, or as many as the encoder takes where these are fewer (CLIP: 77)."""
    pooling: Literal["auto", "mean", "cls", "max", "pooler", "projected"] = "auto"
    """How the tokens' vectors become one; auto: pooler of the text towers of CLIP and SigLIP, else mean."""
    layers: list[Annotated[int, Field(ge=0)]] | None = None
    """Layers side by side, such as [3, 4, 5, 6]; null: the last."""
    ocr: bool = False
    """Read what is written in a post's pictures, and put it behind its text (RapidOCR; extra `ocr`). Pictures are read
    as they are packed: set sample.image_px to some 640 with it. For an encoder that does not learn.
    """

    @model_validator(mode="after")
    def _check_ocr(self) -> Self:
        if self.ocr and not self.frozen:
            raise ValueError("ocr is for a text encoder that does not learn; set frozen: true, or leave ocr out")
        return self


class LexicalBranch(Section):
    """Hashed word and character n-grams with learned weights, beside the dense text encoder."""

    buckets: Annotated[int, Field(ge=256, le=4_194_304)] = 65_536
    """Size of the table of hashed n-grams, weighted like TF-IDF."""
    words: Annotated[int, Field(ge=0, le=3)] = 2
    """Up to n-grams of so many words."""
    chars: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(max_length=2)] = [3, 5]
    """[shortest, longest] n-grams of characters; []: none."""
    dropout: Rate = 0.3
    """Share of n-grams left out in training."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Of the table."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.words and not self.chars:
            raise ValueError("words: 0 and chars: [] leave no n-grams")
        if self.chars and (len(self.chars) != 2 or self.chars[0] > self.chars[1]):
            raise ValueError(f"chars {self.chars} must be [shortest, longest] or []")
        return self


class Fusion(Section):
    """How the two modalities meet."""

    kind: Literal["concat", "gated", "cross_attention"] = "concat"
    """concat: side by side; gated: learned weights of the modalities; cross_attention: each looks at the other."""
    dim: Positive = 256
    """Width, for gated and cross_attention."""
    dropout: Rate = 0.1
    """For gated and cross_attention."""
    heads: Positive = 4
    """Attention heads, for cross_attention."""
    layers: Positive = 2
    """Layers, for cross_attention."""
    slots: Positive = 4
    """Tokens a modality, for cross_attention."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "cross_attention" and self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        return self


class Head(Section):
    """The layers behind the fusion; `linear_skip` adds a linear path around them."""

    kind: Literal["auto", "linear", "mlp", "multitask"] = "auto"
    """auto: hidden layers and a regularised linear model on features and n-grams together, weighed against each other
    by log loss on held-out posts (hidden layers alone for ranks, for encoders that learn, and where `train` asks for
    class weights, weighted sampling, logit adjustment, focal or asymmetric loss); linear: that model alone, but for
    ranks; mlp: shared hidden layers alone; multitask: a small head of task_hidden units for each label over them.
    """
    hidden: list[Positive] = [256, 128]
    """Units of the hidden layers."""
    dropout: Rate = 0.3
    """Behind each of them."""
    input_dropout: Rate = 0.0
    """Before the first."""
    batch_norm: bool = False
    """Batch normalisation in each."""
    linear_skip: bool = False
    """A linear path from the features straight to the output."""
    members: Annotated[int, Field(ge=1, le=64)] = 1
    """So many heads, learning apart and answering by their mean."""
    task_hidden: Positive = 64
    """Kind multitask: units of each label's own layer."""


class Student(Section):
    """A student: two branches (one may be absent), their fusion and a head."""

    image: ImageBranch | None = None
    """The image branch; null: text alone."""
    text: TextBranch | None = None
    """The text branch; null: images alone."""
    lexical: LexicalBranch | None = None
    """Hashed n-grams beside the text encoder; null: none."""
    fusion: Fusion = Fusion()
    """How the two modalities meet."""
    head: Head = Head()
    """The layers behind the fusion."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.image or self.text):
            raise ValueError("a student needs an image branch, a text branch or both")
        if self.lexical and not self.text:
            raise ValueError("lexical reads the text: it needs a text branch beside it")
        if self.head.kind == "linear" and self.tuned:
            raise ValueError(f"head.kind linear: {' and '.join(self.tuned)} learn; freeze them, or choose mlp")
        return self

    @property
    def linear(self) -> bool:
        """Whether a linear model stands beside the hidden layers, or in their place; not where encoders learn."""
        return self.head.kind in ("auto", "linear") and not self.tuned

    @property
    def tuned(self) -> list[str]:
        """The branches whose encoder learns: image, text, both or none."""
        return [name for name, branch in (("image", self.image), ("text", self.text)) if branch and not branch.frozen]

    def only(self, branch: Literal["image", "text"]) -> Student:
        """The twin that sees one modality alone."""
        gone = {"image": None} if branch == "text" else {"text": None, "lexical": None}
        return Student.model_validate(self.model_copy(update=gone).model_dump())
