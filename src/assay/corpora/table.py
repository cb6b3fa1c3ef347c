"""A plain table: CSV, JSONL or Parquet, one post a row, with a column map from params.yaml."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from assay import text
from assay.config import Columns
from assay.corpora.base import RawPost, Row
from assay.errors import CorpusError, RowError

FILE = "(file)"  # as columns.split: the name of the file that a row stands in, without suffix
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class Table:
    """The layout: one file, or all tables of a folder in the order of their names."""

    images_are_known = False

    def __init__(self, path: Path, images: Path | None, columns: Columns) -> None:
        self.files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
        if not self.files or self.files[0].suffix not in SUFFIXES:
            raise CorpusError(f"{path}: not a table; allowed: a file or folder of {', '.join(SUFFIXES)}")
        self.images = images or (path if path.is_dir() else path.parent)
        self.columns = columns
        self.gold = tuple(columns.gold)

    def rows(self) -> Iterator[Row]:
        """The rows of all files; a row that cannot be read carries its RowError."""
        for path in self.files:
            reader = {".csv": read_csv, ".tsv": read_csv, ".parquet": _parquet}.get(path.suffix, _jsonl)
            checked = False
            for number, data in reader(path):
                if not checked and isinstance(data, dict):
                    self._check_columns(path, data)
                    checked = True
                if self.columns.split == FILE and isinstance(data, dict):
                    data[FILE] = path.stem
                yield Row(f"{path.name}:{number}", data)

    def _check_columns(self, path: Path, row: dict[str, Any]) -> None:
        named = {k: v for k, v in self.columns.model_dump(exclude={"gold"}).items() if v and v != FILE}
        named |= {f"gold.{k}": v for k, v in self.columns.gold.items()}
        if path.suffix in (".jsonl", ".ndjson"):  # an object may leave out what it does not have, but not its id
            named = {"id": self.columns.id}
        for key, column in named.items():
            if column not in row:
                raise CorpusError(
                    f"{path}: columns.{key}: no column {column!r}; the file has: {', '.join(map(str, row))}"
                )

    def _relative(self, path: str) -> str:
        """A path as the layout wants it; an absolute one may be given where it lies below the images' folder."""
        found = Path(path)
        if found.is_absolute() and found.is_relative_to(self.images):
            return found.relative_to(self.images).as_posix()
        return path

    def parse(self, row: Row) -> RawPost:
        """A post from the mapped columns."""
        c, data = self.columns, row.data

        def get(column: str | None) -> Any:
            value = data.get(column) if column else None
            return None if value is None or (isinstance(value, float) and value != value) else value

        post_id = get(c.id)
        if post_id is None or str(post_id).strip() == "":
            raise RowError("no_id", f"column {c.id} is empty")
        body = get(c.text)
        return RawPost(
            post_id=str(post_id).strip(),
            text=body if body is None or isinstance(body, bytes) else str(body),
            images=[self._relative(path) for path in _list(get(c.image))],
            author=_text(get(c.author)),
            created_at=_moment(get(c.created_at)),
            brands=_list(get(c.brands), separator=","),
            sponsored=_flag(get(c.sponsored)),
            likes=_whole(get(c.likes)),
            comments=_whole(get(c.comments)),
            language=_text(get(c.language)),
            split=_text(get(c.split)),
            gold={name: _label(get(column)) for name, column in c.gold.items()},
        )


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file, each decoded by itself, so that one bad line spoils no other."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            try:
                decoded = line.decode("utf-8-sig" if number == 0 else "utf-8")
            except UnicodeDecodeError:
                try:
                    decoded = line.decode("gb18030")
                except UnicodeDecodeError:
                    decoded = line.decode("utf-8", "surrogateescape")
            yield decoded.replace("\0", "")


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Line number and cells by column of each row, or the RowError of a row that cannot be read."""
    reader = csv.reader(_lines(path), delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CorpusError(f"{path}: not a CSV file with one row a line: {error}") from error
    if header is None:
        return
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, RowError("bad_line", str(error))
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield number, RowError("bad_line", f"{len(cells)} cells instead of {len(header)}")
        elif any("\udc80" <= char <= "\udcff" for cell in cells for char in cell):
            yield number, RowError("bad_encoding", "neither UTF-8 nor GB18030")
        else:
            yield number, {name: cell if cell != "" else None for name, cell in zip(header, cells, strict=True)}


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, _object(line)
            except RowError as error:
                yield number, error


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(text.decode(line))
        except (ValueError, RecursionError) as error:
            raise RowError("cut_json", str(error)) from error
    if not isinstance(found, dict):
        raise RowError("cut_json", f"a JSON {type(found).__name__}, not an object")
    return found


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        file = pq.ParquetFile(path)
    except Exception as error:
        raise CorpusError(f"{path}: not a Parquet file: {' '.join(str(error).split())[:120]}") from error
    number = 0
    for batch in file.iter_batches(batch_size=512):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _list(value: Any, separator: str | None = None) -> list[str]:
    """A list column, a list written as JSON or Python, or one value (split where a separator is given)."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            try:
                value = ast.literal_eval(stripped)
            except (ValueError, SyntaxError):
                value = stripped
        if isinstance(value, str):
            value = value.split(separator) if separator else [value]
    if not isinstance(value, Iterable) or isinstance(value, dict | bytes):
        raise RowError("bad_line", f"a {type(value).__name__} where a path or a list is wanted")
    return [str(item).strip() for item in value if item is not None and str(item).strip()]


def _label(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list | tuple | set):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    if isinstance(value, bool):
        return str(int(value))
    return str(value).strip() or None


def _moment(value: Any) -> datetime | int | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        except ValueError:
            pass
    return _whole(value)


def _whole(value: Any) -> int | None:
    try:
        number = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**62 else None


def _flag(value: Any) -> bool | None:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
        str(value).strip().lower() if not isinstance(value, float) else str(int(value))
    )
