"""Where the posts of a stream come from: JSONL on a pipe, a growing table, pictures in a folder."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from assay import images
from assay.errors import CorpusError
from assay.scoring.streaming import Post
from assay.text import decode

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None, ".json": None}
SETTLED_S = 0.5  # a file of a watched folder is read when it has not changed for so long
Waits = Callable[[], bool]
"""Wait a little for more; False: there will be none."""


def no_more() -> bool:
    """For a source that is read to its end."""
    return False


def every(seconds: float, stop: Callable[[], bool]) -> Waits:
    """For a source that is watched, until `stop` says so."""

    def wait() -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if stop():
                return False
            time.sleep(min(0.1, seconds))
        return True

    return wait


def of(source: Path, root: Path, wait: Waits) -> Iterator[Post]:
    """The posts of a picture, a table or a folder; CorpusError where it is none of these."""
    kind = source.suffix.lower()
    if source.is_dir():
        yield from of_folder(source, wait)
    elif not source.exists():
        raise CorpusError(f"{source}: not there; allowed: a picture, a folder, a table ({_tables()}), - for JSONL")
    elif kind in TABLES:
        yield from of_table(source, root, wait)
    elif kind in PICTURES:
        yield _of_picture(source, source.name)
    else:
        raise CorpusError(f"{source}: allowed: a picture, a folder, a table ({_tables()}), - for JSONL")


def _tables() -> str:
    return ", ".join(name for name in TABLES if name != ".json")


def of_lines(lines: Iterable[bytes], root: Path) -> Iterator[Post]:
    """Posts of JSON lines with id, text, image (a path below `root`, a data URL, or a list); what is none is told."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            yield _of_row(row, number, root)
        except (ValueError, TypeError, RecursionError) as error:
            said = " ".join(str(error).split())[:120]
            yield Post(str(number), fault=f"bad_row: line {number}: {said}")


def of_table(path: Path, root: Path, wait: Waits) -> Iterator[Post]:
    """The rows of a CSV, TSV or JSONL file; one that is watched may grow. CorpusError where it has no such columns."""
    try:
        with open(path, "rb") as file:
            delimiter = TABLES[path.suffix.lower()]
            lines = _growing(file, wait)
            yield from of_lines(lines, root) if delimiter is None else _of_cells(path, lines, delimiter, root)
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}") from error


def _of_cells(path: Path, lines: Iterator[bytes], delimiter: str, root: Path) -> Iterator[Post]:
    rows = csv.DictReader((decode(line) for line in lines), delimiter=delimiter)
    names = {name.strip().lstrip("\ufeff").lower() for name in rows.fieldnames or []}
    if rows.fieldnames and not names & {"text", "image"}:
        raise CorpusError(f"{path}: no column text or image; it has {', '.join(rows.fieldnames)}")
    for number in count(1):
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Post(str(number), fault=f"bad_row: line {rows.line_num}: {error}")
            continue
        yield _of_row({(name or "").strip().lstrip("\ufeff").lower(): v for name, v in row.items()}, number, root)


def _of_row(row: dict[str, Any], number: int, root: Path) -> Post:
    post_id = row.get("id")
    post = Post(str(number if post_id in (None, "") else post_id), str(row.get("text") or ""))
    given = row.get("image") or []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, str):
            post.fault = "bad_row: image: allowed: a path, a data URL, or a list of them"
        elif one[:5].lower() != "data:":
            post.files.append(root / one)
        else:
            try:
                post.files.append(images.from_base64(one))
            except ValueError as error:
                post.fault = f"bad_row: image: {error}"
    return post


def _growing(file: BinaryIO, wait: Waits) -> Iterator[bytes]:
    """The lines of a file, each when it is whole; the last may lack its end where nothing more is waited for."""
    part = b""
    while True:
        line = file.readline()
        part += line
        if part.endswith(b"\n"):
            yield part
            part = b""
        elif not line and not wait():
            if part:
                yield part
            return


def of_folder(folder: Path, wait: Waits) -> Iterator[Post]:
    """The pictures below a folder, each with the text file of its name as its caption; their paths are the ids.

    Of a watched folder also those that come later, once they have not changed for a moment.
    """
    taken: set[str] = set()
    while True:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name in taken or path.suffix.lower() not in PICTURES or path.name.startswith("."):
                continue
            if wait is not no_more and not _settled(path):
                continue
            taken.add(name)
            yield _of_picture(path, name)
        if not wait():
            return


def _settled(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > SETTLED_S
    except OSError:
        return False


def _of_picture(path: Path, name: str) -> Post:
    try:
        caption = decode(path.with_suffix(".txt").read_bytes())
    except OSError:
        caption = ""
    return Post(name, caption, [path])


def standard_input(stream: BinaryIO | io.BufferedReader, root: Path) -> Iterator[Post]:
    """Posts of JSON lines on a pipe, each as soon as its line is whole."""
    return of_lines(iter(stream.readline, b""), root)
