"""The rows of one table file: CSV, TSV, JSON, JSON lines, Parquet or Excel, each with what was odd about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq

from assay import text
from assay.corpora.delimited import Counts, Form, by_name, header_of, look, records
from assay.corpora.encodings import opened
from assay.errors import CorpusError, RowError

CSV = (".csv", ".tsv", ".tab")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*CSV, *LINES, ".json", ".parquet", ".xlsx")
Options = dict[str, Any]  # encoding, delimiter, quoting of delimited files, where they are told


class Line(NamedTuple):
    """One row: its number in the file, its cells by column or why there are none, and what was odd."""

    number: int
    data: dict[str, Any] | RowError
    odd: tuple[tuple[str, str], ...] = ()


class Sheet(NamedTuple):
    """An opened table: its columns (None: each row has its own), its rows, and how it is read, for people."""

    columns: list[str] | None
    rows: Iterator[Line]
    said: str
    counts: Callable[[], dict[str, int]]


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read, without .gz and in small letters; "" for files that are no tables."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    return suffix if suffix in SUFFIXES and (not packed or suffix in (*CSV, *LINES)) else ""


def open_sheet(path: Path, wanted: Sequence[str], options: Options | None = None) -> Sheet:
    """Open a table; CorpusError with one line where it is none. `wanted`: the columns that will be read."""
    kind = kind_of(path)
    try:
        if kind in CSV:
            return _delimited(path, look(path, wanted, **(options or {})))
        if kind == ".parquet":
            return _parquet(path, wanted)
        if kind == ".xlsx":
            return _excel(path)
        return _json(path) if kind == ".json" else _lines(path)
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from error


def _delimited(path: Path, form: Form) -> Sheet:
    header, counts = header_of(path, form), Counts()

    def rows() -> Iterator[Line]:
        for number, cells, odd in records(path, form, counts):
            if isinstance(cells, RowError):
                yield Line(number, cells)
                continue
            found, twice = by_name(header, cells)
            more = [("stray_quote", odd)] if odd else []
            more += [("duplicate_column", f"{name}: two columns have this name, the first counts") for name in twice]
            yield Line(number, found, tuple(more))
        counts.check(path)

    return Sheet(header, rows(), str(form), counts.as_json)


def _lines(path: Path) -> Sheet:
    counts = {"lines": 0, "rows": 0, "blank": 0}

    def rows() -> Iterator[Line]:
        with opened(path) as lines:
            for number, line in enumerate(lines, 1):
                counts["lines"] += 1
                if not line.strip():
                    counts["blank"] += 1
                    continue
                counts["rows"] += 1
                yield Line(number, _object(line))

    return Sheet(None, rows(), "JSON lines", lambda: counts)


def _json(path: Path) -> Sheet:
    """A JSON array of objects, one object that holds such an array, or JSON lines under another name."""
    data = path.read_bytes()
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(text.decode(data))
        except (ValueError, RecursionError, RowError) as error:
            first = next((line for line in data.splitlines() if line.strip()), b"")
            if isinstance(_object(first), dict):
                return _lines(path)
            raise CorpusError(f"{path}: not JSON: {str(error)[:120]}") from error
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        found = lists[0] if len(lists) == 1 else [found]
    if not isinstance(found, list) or not any(isinstance(one, dict) for one in found):
        raise CorpusError(f"{path}: not a JSON array of objects")
    rows = (
        Line(number, row if isinstance(row, dict) else RowError("cut_json", f"a JSON {type(row).__name__}, no object"))
        for number, row in enumerate(found, 1)
    )
    return Sheet(None, rows, "a JSON array", lambda: {"rows": len(found)})


def _object(line: bytes) -> dict[str, Any] | RowError:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(text.decode(line))
        except (ValueError, RecursionError) as error:
            return RowError("cut_json", str(error)[:200])
        except RowError as error:
            return error
    if not isinstance(found, dict):
        return RowError("cut_json", f"a JSON {type(found).__name__}, not an object")
    return found


def _parquet(path: Path, wanted: Sequence[str]) -> Sheet:
    try:
        file = pq.ParquetFile(path)
    except Exception as error:
        raise CorpusError(f"{path}: not a Parquet file: {' '.join(str(error).split())[:120]}") from error
    columns = list(file.schema_arrow.names)
    chosen = [name for name in columns if name in set(wanted)]

    def rows() -> Iterator[Line]:
        number = 0
        for batch in file.iter_batches(batch_size=512, columns=chosen):
            try:
                found = batch.to_pylist()
            except (ValueError, OverflowError):  # a value that Python has no word for, such as the year 292277
                found = [_one_by_one(batch, row) for row in range(batch.num_rows)]
            for row in found:
                number += 1
                yield Line(number, row)

    return Sheet(columns, rows(), "Parquet", lambda: {"rows": int(file.metadata.num_rows)})


def _one_by_one(batch: Any, row: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            found[name] = batch.column(name)[row].as_py()
        except (ValueError, OverflowError):
            found[name] = str(batch.column(name)[row])
    return found


def _excel(path: Path) -> Sheet:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        lines = enumerate(sheet.iter_rows(values_only=True), 1)
        first = next(((n, row) for n, row in lines if any(cell is not None for cell in row)), None)
    except Exception as error:  # of zip, XML or the library itself
        raise CorpusError(f"{path}: not an Excel file: {' '.join(str(error).split())[:120]}") from error
    if first is None:
        raise CorpusError(f"{path}: its first sheet is empty")
    header = ["" if cell is None else str(cell).strip() for cell in first[1]]
    counts = {"lines": first[0], "header": 1, "rows": 0, "blank": first[0] - 1}

    def whole() -> Iterator[tuple[int, Any]]:
        try:
            yield from lines
        except Exception as error:  # as above: damage behind the first rows
            said = " ".join(str(error).split())[:120]
            yield counts["lines"] + 1, RowError("bad_line", f"this row and all behind it cannot be read: {said}")

    def rows() -> Iterator[Line]:
        for number, cells in whole():
            counts["lines"] += 1
            if isinstance(cells, RowError):
                counts["rows"] += 1
                yield Line(number, cells)
                return
            if all(cell is None or cell == "" for cell in cells):
                counts["blank"] += 1
                continue
            counts["rows"] += 1
            padded = [*cells, *[None] * (len(header) - len(cells))]
            found, twice = by_name(header, padded[: len(header)])
            more = tuple(("duplicate_column", f"{name}: two columns have this name") for name in twice)
            yield Line(number, found, more)

    others = [one.title for one in book.worksheets[1:]]
    said = f"Excel, sheet {sheet.title!r}" + (f"; not read: sheets {', '.join(others)}" if others else "")
    return Sheet(header, rows(), said, lambda: counts)
