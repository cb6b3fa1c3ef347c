"""Sections under `students`: branches, fusion and head of a student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.section import Positive, Section

Rate = Annotated[float, Field(ge=0, lt=1)]


class Lora(Section):
    """Low-rank adapters on an encoder's linear layers (Hu et al., 2021), merged into it after training."""

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Rate = 0.0
    targets: list[str] | Literal["all-linear"] = "all-linear"


class Branch(Section):
    """What both branches have: an encoder, and how much of it learns."""

    encoder: str
    revision: str | None = None
    frozen: bool = True
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    lora: Lora | None = None

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
    pooling: Literal["pooler", "projected"] = "pooler"


class TextBranch(Branch):
    """The text encoder: `packaged/…`, `transformers/<name>` or a local folder."""

    max_tokens: Annotated[int, Field(ge=4, le=8192)] = 128
    pooling: Literal["mean", "cls", "max", "pooler", "projected"] = "mean"
    layers: list[Annotated[int, Field(ge=0)]] | None = None


class LexicalBranch(Section):
    """Hashed word and character n-grams with learned weights, beside the dense text encoder."""

    buckets: Annotated[int, Field(ge=256, le=4_194_304)] = 65_536
    words: Annotated[int, Field(ge=0, le=3)] = 2
    chars: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(max_length=2)] = [3, 5]
    dropout: Rate = 0.3
    weight_decay: Annotated[float, Field(ge=0)] = 0.1

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
    dim: Positive = 256
    dropout: Rate = 0.1
    heads: Positive = 4
    layers: Positive = 2
    slots: Positive = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "cross_attention" and self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        return self


class Head(Section):
    """The layers behind the fusion; `linear_skip` adds a linear path around them."""

    kind: Literal["mlp", "multitask"] = "mlp"
    hidden: list[Positive] = [256, 128]
    dropout: Rate = 0.3
    input_dropout: Rate = 0.0
    batch_norm: bool = False
    linear_skip: bool = False
    members: Annotated[int, Field(ge=1, le=64)] = 1
    task_hidden: Positive = 64


class Student(Section):
    """A student: two branches (one may be absent), their fusion and a head."""

    image: ImageBranch | None = None
    text: TextBranch | None = None
    lexical: LexicalBranch | None = None
    fusion: Fusion = Fusion()
    head: Head = Head()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.image or self.text):
            raise ValueError("a student needs an image branch, a text branch or both")
        if self.lexical and not self.text:
            raise ValueError("lexical reads the text: it needs a text branch beside it")
        return self

    @property
    def tuned(self) -> list[str]:
        """The branches whose encoder learns: image, text, both or none."""
        return [name for name, branch in (("image", self.image), ("text", self.text)) if branch and not branch.frozen]

    def only(self, branch: Literal["image", "text"]) -> Student:
        """The twin that sees one modality alone."""
        gone = {"image": None} if branch == "text" else {"text": None, "lexical": None}
        return Student.model_validate(self.model_copy(update=gone).model_dump())
