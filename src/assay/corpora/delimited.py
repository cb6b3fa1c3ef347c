"""CSV and TSV: encoding, delimiter and quoting found from the whole file, no line lost to a stray quote.

A cell in quotes may hold delimiters and line ends (RFC 4180). A quote that is never closed would swallow
all that follows; such a line is read as it stands, and reading goes on with the next one. The lines of the
file are counted apart from the parser, and every one must end in a row, in a cell of one, or blank.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from assay.corpora.encodings import Found, find, has_escapes, lines_of
from assay.errors import CorpusError, DataError, RowError

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
DELIMITERS = (",", ";", "\t", "|")
MOST_LINES = 2000  # of one row: more is a quote that was never closed
LOOKED_AT = 500  # lines by which delimiters are compared
Quoting = Literal["double", "none"]


@dataclass(frozen=True)
class Form:
    """How a file is written."""

    found: Found
    delimiter: str
    quoting: Quoting

    def __str__(self) -> str:
        name = {"\t": "tab", " ": "blank"}.get(self.delimiter, repr(self.delimiter))
        other = f", some lines {self.found.fallback}" if self.found.fallback else ""
        quotes = "quotes as written" if self.quoting == "none" else "cells in quotes"
        return f"{self.found.encoding}{other}, delimiter {name}, {quotes}"


@dataclass
class Counts:
    """Where the lines of a file went; the first is counted apart from the parser."""

    lines: int = 0
    header: int = 0
    rows: int = 0
    inside_cells: int = 0
    blank: int = 0
    stray_quotes: int = 0

    def check(self, path: Path) -> None:
        """DataError when a line is neither header, row, part of a cell nor blank."""
        told = self.header + self.rows + self.inside_cells + self.blank
        if self.lines != told:
            raise DataError(f"{path}: {self.lines} lines, but {told} accounted for; please report this")

    def as_json(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


class Record(NamedTuple):
    """One row of a file: the number of its first line, its cells or why there are none, what was odd."""

    number: int
    cells: list[str] | RowError
    odd: str | None = None


def look(
    path: Path,
    wanted: Sequence[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: Quoting | None = None,
) -> Form:
    """How a file is written, as far as it is not told; `wanted`: columns that its header should have."""
    found = find(path, encoding)
    if delimiter is None:
        tabs = path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))
        delimiter = _delimiter(list(islice(lines_of(path, found), LOOKED_AT)), wanted, "\t" if tabs else ",")
    if quoting is None:
        quoting = _quoting(path, found, delimiter) if found.has_quotes else "double"
    return Form(found, delimiter, quoting)


def _delimiter(lines: list[str], wanted: Sequence[str], usual: str) -> str:
    """The delimiter under which the header has most of the wanted columns, then under which most lines fit it."""
    best, most = usual, (0, 0.0, 0)
    for one in (usual, *(other for other in DELIMITERS if other != usual)):
        rows = [row for row in csv.reader(lines, delimiter=one) if row]
        if not rows:
            return usual
        names = {cell.strip() for cell in rows[0]}
        share = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        found = (sum(name in names for name in wanted), share if len(rows[0]) > 1 else 0.0, len(rows[0]))
        if found > most and (one == usual or found[:2] > most[:2]):
            best, most = one, found
    return best


def _quoting(path: Path, found: Found, delimiter: str) -> Quoting:
    """`none` where every line is a row as it stands, and quotes taken for marks would join or break some."""
    width: int | None = None
    for line in lines_of(path, found):
        cells = len(_split(line, delimiter))
        if width is None:
            width = cells
        elif line.strip() and cells != width:
            return "double"
    counts = Counts()
    for _ in records(path, Form(found, delimiter, "double"), counts):
        if counts.stray_quotes or counts.inside_cells:
            return "none"
    return "double"


def header_of(path: Path, form: Form) -> list[str]:
    """The names of the columns; CorpusError where there are none."""
    for line in lines_of(path, form.found):
        if line.strip():
            try:
                cells = next(csv.reader([line], delimiter=form.delimiter))
            except csv.Error as error:
                raise CorpusError(f"{path}: its header cannot be read: {error}") from error
            return [cell.strip() for cell in cells]
    return []


def records(path: Path, form: Form, counts: Counts) -> Iterator[Record]:
    """The rows behind the header, in order; `counts` is added up on the way."""
    lines = _Lines(lines_of(path, form.found), counts)
    width = _skip_header(lines, form, counts)
    shape: re.Pattern[str] | None = None
    while True:
        number, first = lines.number + 1, lines.next()
        if first is None:
            return
        if not first.strip():
            counts.blank += 1
            continue
        record, used = _record(first, lines, form, width, shape or _shape(_split(first, form.delimiter)[0]))
        cells = record.cells
        counts.rows += 1
        counts.inside_cells += used
        counts.stray_quotes += record.odd is not None
        if isinstance(cells, list) and any(has_escapes(cell) for cell in cells):
            cells = RowError("bad_encoding", f"bytes that are neither {form.found.encoding} nor anything likely")
        elif isinstance(cells, list) and shape is None:
            shape = _shape(cells[0])
        yield Record(number, cells, record.odd)


def _shape(first: str) -> re.Pattern[str] | None:
    """What the first cell of a row looks like, if it is an id."""
    if first.strip().isdigit():
        return re.compile(r"\d+")
    return re.compile(r"[\w.:-]{6,}") if re.fullmatch(r"[\w.:-]{6,}", first.strip()) else None


class _Lines:
    """Lines that can be given back, with the number of the one read last."""

    def __init__(self, source: Iterator[str], counts: Counts) -> None:
        self._source, self._counts = source, counts
        self._back: deque[str] = deque()
        self.number = 0

    def next(self) -> str | None:
        if self._back:
            self.number += 1
            return self._back.popleft()
        line = next(self._source, None)
        if line is not None:
            self._counts.lines += 1
            self.number += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


def _skip_header(lines: _Lines, form: Form, counts: Counts) -> int:
    while True:
        line = lines.next()
        if line is None:
            return 0
        if line.strip():
            counts.header = 1
            try:
                return len(next(csv.reader([line], delimiter=form.delimiter)))
            except csv.Error:
                return len(_split(line, form.delimiter))
        counts.blank += 1


def _record(first: str, lines: _Lines, form: Form, width: int, shape: re.Pattern[str] | None) -> tuple[Record, int]:
    """The row that begins with a line, and how many further lines it takes."""
    if form.quoting == "none" or '"' not in first:
        return Record(0, _fitted(_split(first, form.delimiter), width)), 0
    taken: list[str] = []

    def feed() -> Iterator[str]:
        yield first
        while len(taken) < MOST_LINES and (line := lines.next()) is not None:
            taken.append(line)
            yield line

    try:
        cells: list[str] | RowError = _fitted(next(csv.reader(feed(), delimiter=form.delimiter, strict=True)), width)
    except (csv.Error, StopIteration):
        cells = RowError("bad_line", "a quote that is not closed")
    if isinstance(cells, list) and not _swallowed(taken, form, width, shape):
        return Record(0, cells), len(taken)
    lines.give_back(taken)
    literal = _fitted(_split(first, form.delimiter), width)
    if isinstance(literal, list):
        return Record(0, literal, "a quote that is not closed, or text behind one: read as it stands"), 0
    if isinstance(cells, list):  # the line is no row by itself, and what follows looks like rows: one cannot tell
        return Record(0, RowError("bad_line", "a quote that is not closed before what look like further rows")), 0
    lenient = _fitted(next(csv.reader([first], delimiter=form.delimiter)), width) if not taken else cells
    if isinstance(lenient, list):
        return Record(0, lenient, "quotes inside of a quoted cell"), 0
    return Record(0, lenient), 0


def _swallowed(taken: list[str], form: Form, width: int, shape: re.Pattern[str] | None) -> bool:
    """Whether the lines inside of a cell look like rows of their own: as many cells, and an id like the others."""
    inner = [line for line in taken if line.strip()]
    if not inner or width < 2 or shape is None:
        return False
    rows = [_split(line, form.delimiter) for line in inner]
    return all(len(row) == width and shape.fullmatch(row[0].strip().strip('"')) is not None for row in rows)


def _split(line: str, delimiter: str) -> list[str]:
    return line.removesuffix("\n").split(delimiter)


def _fitted(cells: list[str], width: int) -> list[str] | RowError:
    """As many cells as the header has; empty ones behind them are left out."""
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        cells = cells[:width]
    if len(cells) != width:
        return RowError("bad_line", f"{len(cells)} cells instead of {width}")
    return cells


def by_name(header: Sequence[str], cells: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Cells by their column, empty ones as None; of two columns of one name the first that is filled counts.

    Also the names of columns that stand twice with different content in this row.
    """
    found: dict[str, Any] = {}
    twice = []
    for name, cell in zip(header, cells, strict=True):
        value = cell if cell != "" else None
        if found.get(name) is None:
            found[name] = value
        elif value is not None and value != found[name]:
            twice.append(name)
    return found, twice
