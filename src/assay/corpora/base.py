"""The contract of a corpus layout: `rows` finds the source rows, `parse` turns one into a RawPost.

`rows` runs in the main process and must be cheap and lazy; `parse` runs in worker processes, so a
layout is pickled once for each of them. Neither cleans text nor checks images: ingest does that for
all layouts alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from assay.buckets import Root


class Row(NamedTuple):
    """One source row: where it stands, and its raw content or why there is none."""

    source: str
    data: Any  # or a RowError: why there is none


@dataclass(slots=True)
class RawPost:
    """A post as its corpus has it: text undecoded, author by name, images unchecked."""

    post_id: str
    text: bytes | str | None = None
    images: list[str] = field(default_factory=list)  # relative to the layout's `images`
    author: str | None = None
    created_at: datetime | int | None = None  # a datetime, or UTC seconds
    handles: list[str] = field(default_factory=list)  # tagged or sponsoring accounts
    brands: list[str] = field(default_factory=list)  # where the corpus names them itself
    sponsored: bool | None = None
    likes: int | None = None
    comments: int | None = None
    language: str | None = None
    split: str | None = None  # the official split, in the corpus' own words
    gold: dict[str, str | None] = field(default_factory=dict)
    lost: list[tuple[str, str]] = field(default_factory=list)  # (code, detail) of what was degraded


class Bookkeeping:
    """What most layouts need to say of their files: `own` are those that `rows` reads, `unneeded` folders below."""

    def __init__(self, root: Path, own: Iterable[str] = (), unneeded: Iterable[str] = ()) -> None:
        self.root = root
        self.images: Root = root
        self.roots: list[Root] = [root]
        self.own = {str(root / name) for name in own}
        self.unneeded = tuple(f"{root / name}{os.sep}" for name in unneeded)
        self.unread: dict[str, str] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self.touched: list[str] = []

    def is_read(self, path: str) -> bool:
        """Whether `rows` reads the file, or needs nothing of it."""
        return path in self.own or path.startswith(self.unneeded)


class Layout(Protocol):
    """A raw layout of posts on disk."""

    images: Root
    """The folder that image paths count from."""
    gold: tuple[str, ...]
    """Names of the label columns that the corpus brings."""
    images_are_known: bool
    """True where `parse` only returns images that exist, so that `check_images: none` need not look."""

    roots: list[Root]
    """The files and folders that the corpus is made of: what is below them is read, or named in the problems table."""
    unread: dict[str, str]
    """Files that could not be read as a whole, by absolute path, and why; filled by `rows`."""
    counts: dict[str, dict[str, int]]
    """Of tables: where their lines went, by the file's name; filled by `rows`."""
    touched: list[str]
    """Files that `parse` has read, relative to `images`; whoever calls `parse` empties it."""

    def is_read(self, path: str) -> bool:
        """Whether a file (absolute path) is one that `rows` reads, or that this kind of corpus needs nothing of."""
        ...

    def rows(self) -> Iterator[Row]:
        """All source rows, in a fixed order."""
        ...

    def parse(self, row: Row) -> RawPost:
        """One post; RowError with a code when the row cannot be one."""
        ...
