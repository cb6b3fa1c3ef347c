"""Files that took hours or money: there whole or not at all, also after a power cut, and checked before use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from assay.progress import say
from assay.store import process_start

_TEMPORARY = re.compile(r"\.(\d+)\.tmp$")


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished file to its name, once its bytes and the name are on the disk.

    The digest of an earlier file of this name goes before it: a kill in between leaves a file without one.
    """
    _seal(path).unlink(missing_ok=True)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    with contextlib.suppress(OSError):  # some file systems and Windows have no such thing
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sign(path: Path) -> None:
    """Write the file's own digest beside it."""
    partial = _seal(path).with_name(f"{_seal(path).name}.{os.getpid()}.tmp")
    partial.write_text(file_digest(path))
    put_in_place(partial, _seal(path))


def is_whole(path: Path, read: Callable[[Path], object]) -> bool:
    """Whether a signed file is there as it was written; a damaged one is put aside, to be made again.

    `read` reads it whole, and raises where it cannot: this decides on a file whose process was killed before it
    had signed it.
    """
    if not path.exists():
        return False
    try:
        seal = _seal(path).read_text()
    except OSError:
        seal = None
    if seal is not None:
        whole = seal == file_digest(path)
    else:
        try:
            read(path)
            whole = True
        except Exception:  # of whatever library reads it
            whole = False
    if not whole:
        put_aside(path)
    return whole


def put_aside(path: Path) -> None:
    """Rename a damaged file, so that it is made again and can still be looked at."""
    say(f"{path}: not as it was written (a power cut, a full disk?); kept as {path.name}.damaged, and made again")
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.damaged"))
        _seal(path).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a signed file and its digest."""
    path.unlink(missing_ok=True)
    _seal(path).unlink(missing_ok=True)


def complete_lines(path: Path) -> int:
    """How many bytes of a file are whole lines; what is behind them was cut off, as by a kill."""
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at > 0:
            start = max(0, at - 65_536)
            file.seek(start)
            if (found := file.read(at - start).rfind(b"\n")) >= 0:
                return start + found + 1
            at = start
    return 0


def sweep(folder: Path) -> None:
    """Delete the unfinished files of processes that are gone."""
    for path in folder.glob("*.tmp") if folder.is_dir() else ():
        found = _TEMPORARY.search(path.name)
        if found and process_start(int(found[1])) == "":
            path.unlink(missing_ok=True)


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def file_digest(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
