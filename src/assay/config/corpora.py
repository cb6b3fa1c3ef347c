"""Sections under `corpora`: one class a kind of raw corpus."""

from __future__ import annotations

import codecs
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from assay.plugins import brought
from assay.section import Positive, Section

CheckImages = Literal["none", "header", "full"]


class Brand(Section):
    """How a brand is recognised in a post: by its hashtags and its handles, without # and @, and by words.

    A word counts whole and in any case; `=Gap` in this spelling alone, for brands that are common words.
    """

    hashtags: list[str] = []
    handles: list[str] = []
    words: list[str] = []


class Corpus(Section):
    """What every corpus has, whatever its layout."""

    kind: str
    path: str
    check_images: CheckImages = "header"
    max_pixels: Positive = 50_000_000  # as images.MAX_PIXELS
    shard_posts: Positive = 10_000
    detect_language: bool = True
    brands: dict[str, Brand] = {}
    brand_file: str | None = None


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
    split: str | None = None
    gold: dict[str, str] = {}


class TableCorpus(Corpus):
    """A CSV, TSV, JSON, JSONL, Parquet or Excel file (or a folder of them) with a path to an image in each row."""

    kind: Literal["table"]
    images_root: str | None = None
    columns: Columns = Columns()
    encoding: str = "auto"
    delimiter: str = "auto"
    quoting: Literal["auto", "double", "none"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.delimiter != "auto" and len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r} must be one character, or auto")
        try:
            codecs.lookup("utf-8" if self.encoding == "auto" else self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is unknown; such as utf-8, cp1252, or auto") from None
        return self


class Mmhs150kCorpus(Corpus):
    """MMHS150K: the raw release, or the table form (`train.csv`, `val.csv`, `test.csv`, `images/`)."""

    kind: Literal["mmhs150k"]
    ocr: bool = False


class HatefulMemesCorpus(Corpus):
    """Hateful Memes, phase 1 or 2, or its fine-grained files."""

    kind: Literal["hateful_memes"]


class HubCorpus(Corpus):
    """An image-text data set of the Hugging Face `datasets` library: a hub name, or a local folder."""

    kind: Literal["hub"]
    config: str | None = None
    revision: str | None = None
    columns: Columns = Columns()


def _kinds() -> dict[str, type[Corpus]]:
    """The settings of every kind: the classes above, and those that packages bring, which see this module half read."""
    own = [one for one in Corpus.__subclasses__() if one.__module__ == __name__]
    theirs = [point.load() for point in brought("corpus_settings").values()]
    return {get_args(one.model_fields["kind"].annotation)[0]: one for one in [*own, *theirs]}


if TYPE_CHECKING:
    AnyCorpus = Corpus
else:  # what params.yaml may have under a name of `corpora`
    AnyCorpus = Annotated[reduce(or_, _kinds().values()), Field(discriminator="kind")]


class Demo(Section):
    """How large the drawn corpus is and from which seed it is drawn."""

    posts: Annotated[int, Field(ge=50)] = 1500
    seed: int = 7
