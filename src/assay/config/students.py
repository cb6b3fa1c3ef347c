"""Sections under `students`: branches, fusion and head of a student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.config.base import Positive, Section


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
