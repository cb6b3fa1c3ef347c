"""Where the posts of a stream come from: JSONL on a pipe, a growing table, pictures in a folder."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from assay import images
from assay.buckets import Bucket, Root, is_address
from assay.errors import CorpusError, ImageProblem, RowError
from assay.scoring.streaming import Post, Stored
from assay.text import decode

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None, ".json": None}
MOST_BYTES = 64 * 2**20  # of a line
SETTLED_S = 0.5  # a file of a watched folder is read when it has not changed for so long
Names = Mapping[str, str]
"""Which column holds `id`, `text` and `image`, in small letters."""
OWN: Names = {"id": "id", "text": "text", "image": "image"}
DELIMITERS = ",;\t|"
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


def here(name: str, *, watched: bool) -> Path:
    """A source as a path of this machine: a table in object storage is fetched. CorpusError where it is not there."""
    if not is_address(name):
        return Path(name)
    if watched:
        raise CorpusError(f"--follow: {name} lies in object storage, which cannot be watched; name a file or folder")
    above, _, last = name.rpartition("/")
    if Path(last).suffix.lower() not in TABLES:
        raise CorpusError(f"{name}: allowed in object storage: a table ({', '.join(TABLES)}); --images-root: pictures")
    try:
        return Bucket(above).fetched([last]) / last
    except FileNotFoundError as error:
        raise CorpusError(f"{name}: not there") from error


def check(source: Path, *, watched: bool) -> None:
    """CorpusError where a source is none, or none that can be watched."""
    kind = source.suffix.lower()
    allowed = f"a picture, a folder, a table ({', '.join(name for name in TABLES if name != '.json')}), - for JSONL"
    if not source.exists():
        raise CorpusError(f"{source}: not there; allowed: {allowed}")
    if not source.is_dir() and kind not in (*TABLES, *PICTURES):
        raise CorpusError(f"{source}: allowed: {allowed}")
    if watched and kind in PICTURES and not source.is_dir():
        raise CorpusError(f"--follow: {source} is one picture; name a table or a folder to watch")


def of(source: Path, root: Root | None, wait: Waits, names: Names = OWN) -> Iterator[Post]:
    """The posts of a picture, a table or a folder."""
    if source.is_dir():
        yield from of_folder(source, wait)
    elif source.suffix.lower() in TABLES:
        yield from of_table(source, root, wait, names)
    else:
        yield _of_picture(source, source.name)


def of_lines(
    lines: Iterable[bytes], root: Root | None, name: str, names: Names = OWN, *, strict: bool = False
) -> Iterator[Post]:
    """Posts of JSON lines with id, text, image (a path, a data URL, or a list of them); what is none is told.

    `root`: the folder that paths count from, and may not leave; None: any file of this machine. `name` of the source
    and the line's number are the id of a post that has none. `strict`: CorpusError where the first has no such key.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        made_up = f"{name}:{number}"
        try:
            if len(line) >= MOST_BYTES:
                raise ValueError(f"over {MOST_BYTES >> 20} MiB")
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            told = {str(key).lower(): value for key, value in row.items()}
            if strict and set(told) - {names["id"]}:
                _check_names(name, list(row), names)
            strict = False
            yield _of_row(told, made_up, root, names)
        except (ValueError, TypeError, RecursionError) as error:
            said = " ".join(str(error).split())[:120]
            yield Post(made_up, fault=f"bad_row: line {number}: {said}")


def of_table(path: Path, root: Root | None, wait: Waits, names: Names = OWN) -> Iterator[Post]:
    """The rows of a CSV, TSV or JSONL file; one that is watched may grow. CorpusError where it has no such columns."""
    try:
        with open(path, "rb") as file:
            delimiter = TABLES[path.suffix.lower()]
            lines = _growing(file, wait)
            if delimiter is None:
                yield from of_lines(lines, root, path.name, names, strict=True)
            else:
                yield from _of_cells(path, lines, delimiter, root, names)
    except _Cut:  # a watched file's last row is not whole yet: the next run has it
        return
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}") from error


class _Cut(Exception):
    """The end of a run within a row."""


def _of_cells(path: Path, lines: Iterator[bytes], delimiter: str, root: Root | None, names: Names) -> Iterator[Post]:
    faults: list[Post] = []
    first = next((line for line in lines if line.strip()), b"")
    lines, delimiter = chain([first], lines), _delimiter(first, delimiter, names)

    def decoded() -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            try:
                yield decode(line)
            except RowError as error:
                faults.append(Post(f"{path.name}:line {number}", fault=f"{error.code}: line {number}: {error.detail}"))

    rows = csv.DictReader(decoded(), delimiter=delimiter)
    try:
        named = list(rows.fieldnames or [])
    except csv.Error as error:
        raise CorpusError(f"{path}: its first line cannot be read: {error}") from error
    if named:
        _check_names(str(path), [name.strip().lstrip("\ufeff") for name in named], names)
    for number in count(1):
        row: dict[Any, Any] | None = None
        try:
            row = next(rows, None)
        except csv.Error as error:
            faults.append(Post(f"{path.name}:{number}", fault=f"bad_row: line {rows.line_num}: {error}"))
            row = {}
        yield from faults
        faults.clear()
        if row is None:
            return
        if row:
            given = {(name or "").strip().lstrip("\ufeff").lower(): value for name, value in row.items()}
            yield _of_row(given, f"{path.name}:{number}", root, names)


def _delimiter(first: bytes, own: str, names: Names) -> str:
    """What parts the cells of a table by its first line: what gives columns that are looked for, or the most."""
    text, wanted = first.decode("utf-8", "replace"), set(names.values())
    cells = {one: next(csv.reader([text], delimiter=one), []) for one in DELIMITERS}
    known = {one: len(wanted & {c.strip().lstrip("\ufeff").lower() for c in found}) for one, found in cells.items()}
    most = max(known.values())
    if most:
        return max(DELIMITERS, key=lambda one: (known[one], one == own, len(cells[one])))
    return max(DELIMITERS, key=lambda one: (len(cells[one]), one == own))


def _check_names(where: str, there: list[str], names: Names) -> None:
    """CorpusError where a table has no column of content, or lacks one that was named."""
    known = {name.lower() for name in there}
    lacking = [name for kind, name in names.items() if name not in known and name != OWN[kind]]
    if lacking or not known & {names["text"], names["image"]}:
        what = ", ".join(lacking) or f"{names['text']} or {names['image']}"
        has = ", ".join(there)[:200]
        raise CorpusError(f"{where}: no column {what}; it has {has}; say --columns '{{text: NAME, image: NAME}}'")


def _of_row(row: dict[str, Any], made_up: str, root: Root | None, names: Names) -> Post:
    post_id = row.get(names["id"])
    post = Post(made_up if post_id in (None, "") else str(post_id), str(row.get(names["text"]) or ""))
    given = row.get(names["image"]) or []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, str):
            post.fault = "bad_row: image: allowed: a path, a data URL, or a list of them"
            continue
        try:
            if one[:5].lower() == "data:":
                post.files.append(images.from_base64(one))
            else:
                post.files.append(_file_of(root, one))
        except ImageProblem as problem:
            post.fault = str(problem)
        except ValueError as error:
            post.fault = f"bad_row: image: {error}"
    return post


def _file_of(root: Root | None, named: str) -> Path | Stored:
    """The image that a row names; ImageProblem where it is not below the root."""
    if isinstance(root, Bucket):
        relative = named.removeprefix(f"{root}/")
        root.path(relative)
        return Stored(root, relative)
    return Path(named) if root is None else images.safe_path(root, named)


def _growing(file: BinaryIO, wait: Waits) -> Iterator[bytes]:
    """The lines of a file, each when it is whole; the last may lack its end where nothing more is waited for.

    _Cut where the wait for more is over.
    """
    part = b""
    while True:
        line = file.readline(MOST_BYTES)
        part += line
        if part.endswith(b"\n") or len(part) >= MOST_BYTES:
            yield part
            part = b""
        elif not line and not wait():
            if wait is not no_more:
                raise _Cut
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
    """Whether a picture, and its caption where there is one, have not changed for a moment."""
    for one in (path, path.with_suffix(".txt")):
        try:
            age = time.time() - one.stat().st_mtime
        except OSError:
            if one == path:
                return False
            continue
        if 0 <= age <= SETTLED_S:
            return False
    return True


def _of_picture(path: Path, name: str) -> Post:
    try:
        caption = decode(path.with_suffix(".txt").read_bytes())
    except RowError as error:
        return Post(name, fault=f"{error.code}: {path.with_suffix('.txt').name}: {error.detail}")
    except OSError:
        caption = ""
    return Post(name, caption, [path])


def standard_input(stream: BinaryIO, root: Root | None, names: Names = OWN) -> Iterator[Post]:
    """Posts of JSON lines on a pipe, each as soon as its line is whole."""
    for post in of_lines(_of_pipe(stream), root, "-", names):
        post.lasting = not post.post_id.startswith("-:")
        yield post


def _of_pipe(stream: BinaryIO) -> Iterator[bytes]:
    """Lines of a pipe, past the stream's buffer, in which no thread may wait when the process ends."""
    try:
        number = stream.fileno()
    except (OSError, AttributeError):
        yield from iter(lambda: stream.readline(MOST_BYTES), b"")
        return
    waiting = b""
    while more := os.read(number, 65_536):
        *lines, waiting = (waiting + more).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(waiting) >= MOST_BYTES:
            yield waiting
            waiting = b""
    if waiting:
        yield waiting
