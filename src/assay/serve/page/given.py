"""Many posts as a browser uploads them: a table, pictures, or a table whose rows name the pictures."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from assay.corpora import cells
from assay.corpora.guess import content
from assay.corpora.sheets import SUFFIXES, Line, kind_of, open_sheet
from assay.errors import CorpusError, RowError
from assay.parallel import processes
from assay.scoring.prediction import Prediction

MOST_POSTS = 5_000
LONGEST_S, MOST_BYTES = 30, 2 * 2**30  # that reading a table may take: a small file can be a large table
PICTURE = "picture"  # the only column of posts that are pictures alone
NO_CONTENT = "no_content"


class File(NamedTuple):
    """An uploaded file: its name, without the folders that a browser does not tell, and where it lies here."""

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
        said = answer.reason or ""
        return "; ".join([*self.lost, *([said] if said and not (self.lost and said.startswith(NO_CONTENT)) else [])])


class Given(NamedTuple):
    """The posts of an upload, the columns of their table, and how it was read, in words."""

    rows: list[Row]
    columns: list[str]
    said: str


def read_apart(table: File | None, pictures: Sequence[File]) -> Given:
    """As read_given, of a table in a process of its own, which may take so much time and memory and no more."""
    if table is None:
        return read_given(None, pictures)
    pool = ProcessPoolExecutor(1, processes(), _bounded, (LONGEST_S, MOST_BYTES))
    try:
        return pool.submit(read_given, table, list(pictures)).result(timeout=2 * LONGEST_S)
    except (BrokenProcessPool, MemoryError, TimeoutError) as error:
        raise CorpusError(
            f"{table.name} takes more than {LONGEST_S} s or {MOST_BYTES >> 30} GiB to read; `assay predict FILE` has "
            "no such bound"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)


def _bounded(seconds: int, size: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def read_given(table: File | None, pictures: Sequence[File]) -> Given:
    """The posts of a table or, without one, of pictures; CorpusError where there are none that can be read."""
    if table is None:
        return _of_pictures(pictures)
    if not kind_of(Path(table.name)):
        raise CorpusError(f"{table.name} is no table; allowed: {', '.join(SUFFIXES)}")
    try:
        return _of_table(table, pictures)
    except CorpusError as error:  # which names the file by its place here
        raise CorpusError(str(error).replace(str(table.path), table.name)) from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise CorpusError(f"{table.name}: {getattr(error, 'strerror', None) or error}") from error


def _of_pictures(pictures: Sequence[File]) -> Given:
    if not pictures:
        raise CorpusError("nothing was uploaded; choose a table, a folder of pictures, or both")
    if len(pictures) > MOST_POSTS:
        raise CorpusError(f"{len(pictures):,} pictures; this page takes at most {MOST_POSTS:,}")
    rows, seen = [], dict[str, int]()
    for one in sorted(pictures, key=lambda one: one.name):
        seen[one.name] = seen.get(one.name, 0) + 1
        name = one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})"
        rows.append(Row({PICTURE: name}, pictures=[one.path]))
    return Given(rows, [PICTURE], "pictures alone")


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
    rows, named = map(list, zip(*(_row(line, found.columns) for line in lines), strict=True))
    unused = _give_pictures(rows, named, pictures)
    columns = dict.fromkeys(_clean(str(one)) for one in sheet.columns or [name for row in rows for name in row.cells])
    kinds = {"text": "texts", "image": "pictures"}
    said = " and ".join(f"{kinds[role]} in column {found.columns[role]!r}" for role in kinds if role in found.columns)
    said += f" ({sheet.said})" + (f"; no row names {unused:,} of the pictures" if unused else "")
    return Given(rows, list(columns), said)


def _row(line: Line, columns: dict[str, str]) -> tuple[Row, list[str]]:
    """A row, and the names of its pictures."""
    if isinstance(line.data, RowError):
        return Row({}, lost=[f"{line.data.code}: line {line.number}: {line.data.detail}"]), []
    row = Row({_clean(str(name)): _clean(value) for name, value in line.data.items()})
    lost = list(line.odd)
    if "text" in columns:
        text = cells.text(cells.flat(line.data.get(columns["text"])), "text", lost) or ""
        row.text = text.encode("utf-8", "ignore").decode()
    names = []
    if "image" in columns:
        names = cells.strings(cells.flat(line.data.get(columns["image"])), "image", lost)
    row.lost = [f"{code}: {detail}" for code, detail in lost]
    return row, list(dict.fromkeys(names))


def _give_pictures(rows: Sequence[Row], named: Sequence[list[str]], pictures: Sequence[File]) -> int:
    """Give rows the pictures that they name; how many pictures no row names.

    A browser sends no folders: a name that rows have in several folders, or several pictures have, is none.
    """
    known: dict[str, list[File]] = {}
    for one in pictures:
        known.setdefault(one.name, []).append(one)
    places: dict[str, set[str]] = {}
    for name in (name for names in named for name in names):
        places.setdefault(_bare(name), set()).add(name)
    for row, names in zip(rows, named, strict=True):
        for name in names:
            there = known.get(_bare(name), [])
            if len(there) == 1 and len(places[_bare(name)]) == 1:
                row.pictures.append(there[0].path)
            else:
                several = ", of which there are several, and a browser sends no folders" if there else ""
                row.lost.append(f"missing_image: {name}{several}")
    return sum(len(found) for name, found in known.items() if name not in places)


def _bare(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/").strip()).name


def _clean(value: Any) -> Any:
    """A cell as a file can hold it: half characters become a mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
