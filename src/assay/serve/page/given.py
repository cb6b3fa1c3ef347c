"""Many posts as a browser uploads them: a table, pictures, or a table whose rows name the pictures."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from assay.columns import text_in
from assay.corpora import cells
from assay.corpora.guess import content
from assay.corpora.sheets import SUFFIXES, kind_of, open_sheet
from assay.errors import CorpusError, RowError
from assay.scoring.prediction import Prediction

MOST_POSTS = 5_000
PICTURE = "picture"  # the only column of posts that are pictures alone


class File(NamedTuple):
    """An uploaded file: its name in the user's folder, and where it lies here."""

    name: str
    path: Path


@dataclass
class Row:
    """A post: the cells of its row, what is scored of it, and what could not be used."""

    cells: dict[str, Any]
    text: str = ""
    pictures: list[Path] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def reason(self, answer: Prediction) -> str:
        """All that could not be used: of the row, and of what was asked."""
        said = [] if self.lost and answer.value is None else [answer.reason or ""]
        return "; ".join(part for part in (*self.lost, *said) if part)


class Given(NamedTuple):
    """The posts of an upload, the columns of their table, and how it was read, in words."""

    rows: list[Row]
    columns: list[str]
    said: str


def read_given(table: File | None, pictures: Sequence[File]) -> Given:
    """The posts of a table or, without one, of pictures; CorpusError where there are none that can be read."""
    if table is None:
        if not pictures:
            raise CorpusError("nothing was uploaded; choose a table, a folder of pictures, or both")
        named = sorted(pictures, key=lambda one: one.name)
        return Given([Row({PICTURE: one.name}, pictures=[one.path]) for one in named], [PICTURE], "pictures alone")
    if not kind_of(Path(table.name)):
        raise CorpusError(f"{table.name} is no table; allowed: {', '.join(SUFFIXES)}")
    try:
        return _of_table(table, pictures)
    except CorpusError as error:  # which names the file by its place here
        raise CorpusError(str(error).replace(str(table.path), table.name)) from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise CorpusError(f"{table.name}: {getattr(error, 'strerror', None) or error}") from error


def _of_table(table: File, pictures: Sequence[File]) -> Given:
    found = content(table.path)
    wanted = list(pq.read_schema(table.path).names) if kind_of(table.path) == ".parquet" else []
    sheet = open_sheet(table.path, wanted or list(found.columns.values()))
    lines = list(islice(sheet.rows, MOST_POSTS + 1))
    if len(lines) > MOST_POSTS:
        raise CorpusError(
            f"{table.name} has more than {MOST_POSTS:,} rows, the most that this page takes; "
            "`assay predict FILE` takes any number"
        )
    known = _by_name(pictures)
    rows = []
    for line in lines:
        if isinstance(line.data, RowError):
            rows.append(Row({}, lost=[f"{line.data.code}: line {line.number}: {line.data.detail}"]))
        else:
            rows.append(_row({str(name): value for name, value in line.data.items()}, found.columns, known))
    columns = sheet.columns or list(dict.fromkeys(name for row in rows for name in row.cells))
    kinds = {"text": "texts", "image": "pictures"}
    what = " and ".join(f"{kinds[role]} in column {found.columns[role]!r}" for role in kinds if role in found.columns)
    return Given(rows, [str(name) for name in columns], f"{what} ({sheet.said})")


def _row(data: dict[str, Any], columns: dict[str, str], known: dict[str, list[File]]) -> Row:
    row = Row({name: cells.flat(value) for name, value in data.items()})
    if "text" in columns and not cells.is_missing(data.get(columns["text"])):
        row.text = text_in(data[columns["text"]])
    for name in cells.strings(cells.flat(data.get(columns.get("image", ""))), "image", []):
        there = known.get(_plain(name)) or known.get(PurePosixPath(_plain(name)).name, [])
        if len(there) == 1:
            row.pictures.append(there[0].path)
        else:
            row.lost.append(f"missing_image: {name}" + (", a name that several of the pictures have" if there else ""))
    return row


def _by_name(pictures: Sequence[File]) -> dict[str, list[File]]:
    """Pictures by their place in the uploaded folder, and by their bare name."""
    found: dict[str, list[File]] = {}
    for one in pictures:
        for name in {_plain(one.name), PurePosixPath(_plain(one.name)).name}:
            found.setdefault(name, []).append(one)
    return found


def _plain(name: str) -> str:
    return name.replace("\\", "/").strip().removeprefix("./")
