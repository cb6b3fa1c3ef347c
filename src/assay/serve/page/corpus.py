"""What the page shows of a scored corpus: its findings, its brands, and a search among its posts."""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import config, images
from assay.buckets import Root
from assay.corpora.where import pictures_of
from assay.errors import AssayError, DataError, ImageProblem
from assay.measure.csvfile import read_csv
from assay.posts import shards, span
from assay.targets import NAMES, NUMBER, Target

THUMBNAIL_PX = 260
MOST_HITS = 2400  # that can be paged through
ORDERS = {"score": ("highest first", "lowest first"), "other": ("surest first", "least sure first")}


@dataclass(frozen=True)
class Query:
    """What is looked for: words that all occur, a brand, a class or label, a range of scores, a part of the posts."""

    words: str = ""
    brand: str | None = None
    name: str | None = None
    low: float | None = None
    high: float | None = None
    order: str = ""
    page: int = 0
    size: int = 12


@dataclass
class Hit:
    """A post that was found."""

    text: str
    value: Any
    probability: float | None
    status: str
    brands: list[str]
    pictures: int
    post_id: str = ""
    picture: str | None = None  # a data URL
    unlike: bool = False  # all that the student learnt from


@dataclass
class Found:
    """One page of hits, of how many in all."""

    total: int
    hits: list[Hit] = field(default_factory=list)


class ScoredCorpus:
    """The scored corpus of one task; files are read when they are asked for, so that a new run is seen."""

    def __init__(self, task: str, target: Target, posts: Path, predictions: Path, root: Root | None) -> None:
        self.task, self.target = task, target
        self.posts, self.predictions, self.root = posts, predictions, root
        self.findings_file, self.brands_file = Path(), Path()

    @classmethod
    def of(cls, model: Path, task: str, target: Target) -> ScoredCorpus | None:
        """The corpus that a model folder of this repository scored; None where its findings are not there."""
        here = model.resolve().parent.parent
        try:
            params = config.load(here / "params.yaml")
            of = params.tasks[task].corpus
            root = pictures_of(params.corpora[of])
        except (AssayError, KeyError):
            return None
        predictions = here / "data" / "predictions" / model.name
        joint = (predictions / task).is_dir()
        found = cls(
            task,
            target,
            here / "data" / "corpora" / of / "posts",
            predictions / task if joint else predictions,
            root,
        )
        metrics = here / "metrics" / "joint" / model.name if joint else here / "metrics" / model.name
        found.findings_file = metrics / "findings.json"
        found.brands_file = metrics / "brands" / f"{task}.csv" if joint else metrics / "brands.csv"
        return found if found.findings_file.is_file() else None

    def findings(self) -> dict[str, Any]:
        """The content of findings.json of this task."""
        found = json.loads(self.findings_file.read_text())
        own: dict[str, Any] = found.get(self.task, found)
        return own

    def brands(self) -> list[dict[str, Any]]:
        """Rows of the brand table, numbers as numbers, None where there are too few posts or labels."""
        rows = [row for row in read_csv(self.brands_file) if row["brand"]]
        return [{name: v if name == "brand" else _as_written(v) for name, v in row.items()} for row in rows]

    def values(self) -> list[Any]:
        """The predictions of all posts."""
        return [value for path in shards(self.predictions) for value in _column(path, "value")]

    def search(self, query: Query) -> Found:
        """The posts that fit, a page of them; shards are read one at a time."""
        total = 0

        def keyed() -> Iterator[tuple[float, int]]:
            nonlocal total
            start = 0
            for scored in shards(self.predictions):
                table = pq.read_table(scored, columns=["post_id", "value", "probabilities", "status"])
                text = span(self.posts, start, start + len(table), ["post_id", "text", "brands"])
                if not text["post_id"].combine_chunks().equals(table["post_id"].combine_chunks()):
                    raise DataError(f"{scored} is of other posts than {self.posts}; run dvc repro")
                rows = self._fitting(text, table, query)
                total += len(rows)
                yield from ((key, start + row) for row, key in zip(rows, self._keys(table, rows, query), strict=True))
                start += len(table)

        first = query.page * query.size
        best = heapq.nsmallest(min(first + query.size, MOST_HITS), keyed())
        wanted = best[first : first + query.size]
        return Found(total, [self._hit(row, query) for _, row in wanted])

    def _fitting(self, text: pa.Table, table: pa.Table, query: Query) -> list[int]:
        """The rows of a shard that fit a query."""
        fits = pc.is_valid(table["value"])
        for word in query.words.split()[:16]:
            fits = pc.and_(fits, pc.match_substring(text["text"], word, ignore_case=True))
        rows: list[int] = pc.indices_nonzero(fits).to_pylist()
        if query.brand is not None:
            brands = text["brands"].take(pa.array(rows, pa.int64())).to_pylist()
            rows = [row for row, names in zip(rows, brands, strict=True) if query.brand in names]
        values = table["value"].take(pa.array(rows, pa.int64())).to_pylist()
        if self.target.shape == NUMBER:
            low = self.target.bounds[0] if query.low is None else query.low
            high = self.target.bounds[1] if query.high is None else query.high
            return [row for row, value in zip(rows, values, strict=True) if low - 1e-9 <= value <= high + 1e-9]
        if query.name is None:
            return rows
        return [row for row, value in zip(rows, values, strict=True) if query.name in _names(value)]

    def _keys(self, table: pa.Table, rows: list[int], query: Query) -> list[float]:
        """What hits are ordered by, the smallest first."""
        downward = query.order not in ("lowest first", "least sure first")
        if self.target.shape == NUMBER:
            numbers = table["value"].take(pa.array(rows, pa.int64())).to_pylist()
        else:
            numbers = [
                self._sure(one, query) for one in table["probabilities"].take(pa.array(rows, pa.int64())).to_pylist()
            ]
        return [-number if downward else number for number in numbers]

    def _sure(self, probabilities: list[float], query: Query) -> float:
        """The probability of the class or label that is looked for, else the largest one."""
        if query.name is None or self.target.shape == NUMBER:
            return max(probabilities)
        return probabilities[self.target.groups.index(query.name)]

    def _hit(self, row: int, query: Query) -> Hit:
        post = _row(self.posts, row, ["post_id", "text", "brands", "images"])
        scored = _row(self.predictions, row, ["value", "probabilities", "status", "unlike"])
        likely = None
        if self.target.shape != NUMBER:
            likely = self._sure(scored["probabilities"], query)
        value = scored["value"]
        if self.target.shape == NAMES and not value:
            value = ["none"]
        count = len(post["images"])
        hit = Hit(post["text"], value, likely, scored["status"], post["brands"], count, post["post_id"])
        hit.unlike = bool(scored.get("unlike"))
        if self.root is not None and post["images"]:
            hit.picture = _thumbnail(self.root, post["images"][0])
        return hit

    def examples(self, count: int) -> list[tuple[str, bytes]]:
        """Some posts that have text and a picture, with the picture's file packed small."""
        found = []
        for row in islice(self._with_pictures(), count * 8):
            with contextlib.suppress(ImageProblem, OSError):
                data = images.read_bytes(self.root or Path(), row["images"][0])
                packed = images.pack(data, longest=640, max_pixels=images.MAX_PIXELS)
                found.append((row["text"], packed.data))
            if len(found) == count:
                break
        return found

    def _with_pictures(self) -> Iterator[dict[str, Any]]:
        for path in shards(self.posts):
            for batch in pq.ParquetFile(path).iter_batches(64, columns=["text", "images"]):
                yield from (row for row in batch.to_pylist() if row["text"].strip() and row["images"])


def _names(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _as_written(value: str) -> Any:
    """A cell of a table of figures as it was before it became text: a number, True, False or None."""
    if value in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[value]
    try:
        return float(value)
    except ValueError:
        return value


def _column(path: Path, name: str) -> list[Any]:
    found: list[Any] = pq.read_table(path, columns=[name])[name].to_pylist()
    return found


def _row(folder: Path, row: int, columns: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = span(folder, row, row + 1, columns).to_pylist()[0]
    return found


def _thumbnail(root: Root, relative: str) -> str | None:
    try:
        data = images.read_bytes(root, relative)
        small = images.pack(data, longest=THUMBNAIL_PX, max_pixels=images.MAX_PIXELS).data
    except (ImageProblem, OSError):
        return None
    return data_url(small)


def data_url(image: bytes) -> str:
    """A picture's file as a data URL."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
