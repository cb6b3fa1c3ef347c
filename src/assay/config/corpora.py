"""Sections under `corpora`: one class a kind of raw corpus."""

from __future__ import annotations

import codecs
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.plugins import one_of
from assay.section import Positive, Section

CheckImages = Literal["none", "header", "full"]


class Brand(Section):
    """How a brand is recognised in a post: by its hashtags and its handles, without # and @, and by words.

    A word counts whole and in any case; `=Gap` in this spelling alone, for brands that are common words.
    """

    hashtags: list[str] = []
    """Hashtags that name it, without #."""
    handles: list[str] = []
    """Handles that name it, without @."""
    words: list[str] = []
    """Words that name it, whole and in any case; =Gap in this spelling alone."""


class Corpus(Section):
    """What every corpus has, whatever its layout."""

    kind: str
    """The layout of the raw files."""
    path: str
    """Folder (or file, for a table; or hub name, for a hub), relative to the main checkout or absolute. A corpus stays
    where it is; only its manifest is in git.
    """
    check_images: CheckImages = "header"
    """none: only whether the file exists; header: also format and size, no pixel decoded; full: every image is
    decoded, which also gives hashes for duplicates.
    """
    max_pixels: Positive = 50_000_000  # as images.MAX_PIXELS
    """An image of more pixels (width x height) counts as a decompression bomb."""
    shard_posts: Positive = 10_000
    """Posts in a shard: the unit in which inference resumes."""
    engine: Literal["local", "ray"] = "local"
    """Who reads it at ingest: this machine, or Ray, the cluster that RAY_ADDRESS names (extra cluster)."""
    detect_language: bool = True
    """Where the corpus names no language, it is detected from the caption (ISO 639, `und` where that is too short to
    tell).
    """
    brands: dict[str, Brand] = {}
    """Brand -> how a post names it."""
    brand_file: str | None = None
    """The same as a CSV with the columns name, words, hashtags, handles; several in a cell with | between them. Put it
    into git; after a change, scan the corpus or run `dvc repro --force ingest@<corpus>`.
    """

    def paths(self) -> list[str]:
        """The files and folders that it is made of; images count from the last."""
        return [self.path]


class DemoCorpus(Corpus):
    """The drawn corpus, in the Instagram influencer layout."""

    kind: Literal["demo"]


class InstagramCorpus(Corpus):
    """Either release of the Instagram influencer data; which one is seen from its files."""

    kind: Literal["instagram"]


class MvsaCorpus(Corpus):
    """MVSA-Single or MVSA-Multiple."""

    kind: Literal["mvsa"]


class DateColumn(Section):
    """A column of dates that are all written in one way."""

    column: str
    """Its name."""
    format: str
    """As strptime reads it, such as %d/%m/%Y; a cell written otherwise is a problem, never a guess."""

    @field_validator("format")
    @classmethod
    def _has_a_day(cls, value: str) -> str:
        try:
            again = datetime.strptime(datetime(2001, 2, 3).strftime(value), value)
        except ValueError as error:
            raise ValueError(f"format {value!r}: {error}; such as %d/%m/%Y") from None
        if (again.year, again.month) != (2001, 2):
            raise ValueError(f"format {value!r} must name year, month and day, such as %d/%m/%Y")
        return value


class Columns(Section):
    """Which column of a table holds what; `gold` maps a name of ours to a column of labels."""

    id: str = "id"
    """The column of the post's id."""
    text: str | None = "text"
    """Of the caption; null: there is none."""
    image: str | None = "image"
    """Of a path, or a list of paths."""
    author: str | None = None
    """Of the author, who becomes a keyed hash."""
    created_at: str | DateColumn | None = None
    """Of the time: ISO text, UTC seconds, dd.mm.yyyy; 01/02/2020 is not guessed: {column: date, format: "%d/%m/%Y"}."""
    brands: str | None = None
    """Of a list of brands, or names separated by commas."""
    sponsored: str | None = None
    """Of whether the post is paid for."""
    language: str | None = None
    """Of the language, ISO 639."""
    likes: str | None = None
    """Of the number of likes."""
    comments: str | None = None
    """Of the number of comments."""
    split: str | None = None
    """Of the official split; (file): the name of the table's file, such as train.jsonl."""
    gold: dict[str, str] = {}
    """Name -> column of labels, read by annotate.column."""

    @property
    def date(self) -> tuple[str | None, str | None]:
        """The column of the time, and how it is written; None: as is plain."""
        when = self.created_at
        return (when.column, when.format) if isinstance(when, DateColumn) else (when, None)

    @property
    def named(self) -> dict[str, str]:
        """Key -> column of all that is mapped, gold as gold.<name>."""
        found = self.model_dump(exclude={"gold", "created_at"}) | {"created_at": self.date[0]}
        found |= {f"gold.{name}": column for name, column in self.gold.items()}
        return {key: column for key, column in found.items() if column}


class TableCorpus(Corpus):
    """A CSV, TSV, JSON, JSONL, Parquet or Excel file (or a folder of them) with a path to an image in each row."""

    kind: Literal["table"]
    images_root: str | None = None
    """The folder that image paths count from; null: the table's folder. Name it even so when path is a single file and
    images may change, for only what is named is watched by scan.
    """
    columns: Columns = Columns()
    """Which column holds what."""
    encoding: str = "auto"
    """Of CSV and TSV: auto (found from the whole file, and said by ingest), or such as cp1252."""
    delimiter: str = "auto"
    """Of CSV: auto, or one character, such as ;"""
    quoting: Literal["auto", "double", "none"] = "auto"
    """double: cells stand in quotes; none: quotes are part of the text; auto: found out."""

    def paths(self) -> list[str]:
        return [self.path, *([self.images_root] if self.images_root else [])]

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
    """Add the text in the picture to the caption."""


class HatefulMemesCorpus(Corpus):
    """Hateful Memes, phase 1 or 2, or its fine-grained files."""

    kind: Literal["hateful_memes"]


class HubCorpus(Corpus):
    """An image-text data set of the Hugging Face `datasets` library: a hub name, or a local folder."""

    kind: Literal["hub"]
    config: str | None = None
    """Configuration of the data set."""
    revision: str | None = None
    """A branch, tag or commit of it; its splits are kept as official splits."""
    columns: Columns = Columns()
    """Which column holds what; image is an image feature."""


if TYPE_CHECKING:
    AnyCorpus = Corpus
else:  # what params.yaml may have under a name of `corpora`
    AnyCorpus = one_of(Corpus, __name__, "corpus_settings")


class Demo(Section):
    """How large the drawn corpus is and from which seed it is drawn."""

    posts: Annotated[int, Field(ge=50)] = 1500
    """How many posts; about 3 % of them are broken on purpose."""
    seed: int = 7
    """Same seed, same bytes."""
