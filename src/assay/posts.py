"""The post table: its Arrow schema, the shard reader and writer, and the problems table.

One row is one post. Text is "" where a post has none; lists are empty, never null; every other
column is null where the corpus does not say. Labels that a corpus brings stand in `gold_<name>`
columns, as text (a list of labels as JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import colours
from assay.durable import put_in_place
from assay.errors import DataError

Severity = Literal["dropped", "degraded", "unread"]  # unread: of a file, not of a row

_STRINGS = pa.list_(pa.string())
POST_FIELDS = [
    pa.field("post_id", pa.string(), nullable=False),
    pa.field("text", pa.string(), nullable=False),
    pa.field("images", _STRINGS, nullable=False),  # paths relative to the corpus
    pa.field("author", pa.string()),  # a keyed hash, never the raw name
    pa.field("created_at", pa.timestamp("s", tz="UTC")),
    pa.field("brands", _STRINGS, nullable=False),
    pa.field("hashtags", _STRINGS, nullable=False),
    pa.field("mentions", _STRINGS, nullable=False),
    pa.field("sponsored", pa.bool_()),
    pa.field("likes", pa.int64()),
    pa.field("comments", pa.int64()),
    pa.field("language", pa.string()),  # as the corpus says, else detected: `und` where the text is too short to tell
    pa.field("language_from", pa.string()),  # corpus | detected
    pa.field("split", pa.string()),  # the official split, where the corpus brings one
    pa.field("duplicate_of", pa.string()),  # the first post with the very same text and images
    pa.field("text_sig", pa.binary()),  # MinHash, see assay.text.signature
    pa.field("image_sig", _STRINGS, nullable=False),  # a perceptual hash an image, where decoded
    pa.field("colours", colours.TYPE),  # means over the post's images, where decoded
]

PROBLEM_SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.string()),
        pa.field("source", pa.string(), nullable=False),  # file and line, or file, of the source row
        pa.field("stage", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


class Problem(NamedTuple):
    """Why a source row was dropped, or what a post lost."""

    post_id: str | None
    source: str
    stage: str
    code: str
    severity: Severity
    detail: str


def schema(gold: Sequence[str] = (), metadata: dict[str, str] | None = None) -> pa.Schema:
    """The post table's schema with its `gold_<name>` columns, in the order given."""
    fields = POST_FIELDS + [pa.field(f"gold_{name}", pa.string()) for name in gold]
    return pa.schema(fields, metadata=metadata or None)


def problems_table(problems: Iterable[Problem]) -> pa.Table:
    """The problems table of these problems, in their order."""
    rows = list(problems)
    columns = {
        name: pa.array([_fit(row[i]) for row in rows], PROBLEM_SCHEMA.field(name).type)
        for i, name in enumerate(PROBLEM_SCHEMA.names)
    }
    return pa.table(columns, schema=PROBLEM_SCHEMA)


def _fit(value: str | None) -> str | None:
    """Text that a table can hold: bytes of odd file names and lone surrogates become a mark."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file so that it is there whole or not at all; same table, same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table, partial, compression="zstd", row_group_size=4096)
    put_in_place(partial, path)


def write_json(found: Mapping[str, object], path: Path) -> None:
    """Write figures as small, readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


class ShardWriter:
    """Collects tables and writes them as `part-00000.parquet`, … of `rows` rows each."""

    def __init__(self, folder: Path, schema: pa.Schema, rows: int) -> None:
        self.folder, self.schema, self.rows = folder, schema, rows
        self.written = 0
        self._held: list[pa.Table] = []
        self._count = 0
        self._next = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: pa.Table) -> None:
        """Take a table; whole shards go to disk as they fill."""
        self._held.append(table)
        self._count += table.num_rows
        while self._count >= self.rows:
            self._flush(self.rows)

    def close(self) -> None:
        """Write what is left; an empty run still leaves one shard, so that readers find a schema."""
        if self._count or not self._next:
            self._flush(self._count)

    def _flush(self, rows: int) -> None:
        held = pa.concat_tables(self._held) if self._held else self.schema.empty_table()
        shard, rest = held.slice(0, rows), held.slice(rows)
        write_table(shard.cast(self.schema), self.folder / f"part-{self._next:05d}.parquet")
        self._next += 1
        self.written += shard.num_rows
        self._held = [rest] if rest.num_rows else []
        self._count = rest.num_rows


def shards(folder: Path) -> list[Path]:
    """The shards of a table folder, in order; DataError when there are none."""
    found = sorted(folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise DataError(f"{folder} holds no shards; run `dvc repro` to make it")
    return found


def read(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole table folder in memory; name `columns` where images would not fit."""
    return pa.concat_tables(pq.read_table(path, columns=list(columns) if columns else None) for path in shards(folder))


def beside(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows of `others` that belong to those of `rows`, in their order, by `post_id`; DataError if one is not there.

    Each of them has a post once.
    """
    at = pc.index_in(rows["post_id"], value_set=others["post_id"])
    if at.null_count:
        lost = rows["post_id"].filter(pc.is_null(at))
        raise DataError(f"{len(lost)} of {len(rows)} posts, such as {lost[0]}, are not among the posts of the corpus")
    return others.take(at)


def stream(folder: Path, columns: Sequence[str] | None = None, batch: int = 1024) -> Iterator[list[dict[str, Any]]]:
    """Rows of a table folder in batches of dicts; memory is bounded by the batch."""
    for path in shards(folder):
        file = pq.ParquetFile(path)
        for part in file.iter_batches(batch_size=batch, columns=list(columns) if columns else None):
            yield part.to_pylist()


def span(folder: Path, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
    """Rows `start` to `stop` of a table folder, counted over all its shards; only what holds them is read."""
    found, first = [], 0
    for path in shards(folder):
        if first >= stop:
            break
        rows = pq.read_metadata(path).num_rows
        if first + rows > start:
            found.append(_slice(pq.ParquetFile(path), max(0, start - first), min(rows, stop - first), columns))
        first += rows
    if not found:
        return pq.read_table(shards(folder)[0], columns=list(columns)).slice(0, 0)
    return pa.concat_tables(found)


def _slice(file: pq.ParquetFile, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
    """Rows `start` to `stop` of a file, from the row groups that hold them."""
    groups, first, skip = [], 0, 0
    for number in range(file.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        if first < stop and first + rows > start:
            groups.append(number)
        elif first + rows <= start:
            skip = first + rows
        first += rows
    return file.read_row_groups(groups, columns=list(columns)).slice(start - skip, stop - start)


def count(folder: Path) -> int:
    """How many rows a table folder holds, from the shards' footers."""
    return sum(pq.read_metadata(path).num_rows for path in shards(folder))


def gold_names(table_schema: pa.Schema) -> list[str]:
    """The names of the gold columns of a post table, without their prefix."""
    return [name.removeprefix("gold_") for name in table_schema.names if name.startswith("gold_")]
