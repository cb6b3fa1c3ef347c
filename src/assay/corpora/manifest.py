"""A manifest says in a few bytes which state a raw corpus is in: files, bytes and a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from assay.buckets import Bucket, Root
from assay.errors import CorpusError
from assay.progress import progress


def scan(paths: Sequence[Root]) -> dict[str, int | str]:
    """Count files and bytes below `paths` and digest names, sizes and modification times.

    The digest is the sum of one hash a file, so that order and memory do not matter. Contents are
    not read. CorpusError when a path is missing or nothing is there.
    """
    files = size = total = 0
    for root in paths:
        if isinstance(root, Path) and not root.exists():
            raise CorpusError(f"{root}: not there; set `path` of the corpus to the folder where it lies")
        found = root.files() if isinstance(root, Bucket) else _files(root)
        for relative, own, version in progress(found, what="scan", unit="file"):
            files += 1
            size += own
            entry = f"{relative}\0{own}\0{version}".encode("utf-8", "surrogateescape")
            total += int.from_bytes(hashlib.blake2b(entry, digest_size=32).digest(), "little")
    if files == 0:
        raise CorpusError(f"{paths[0]}: empty; set `path` of the corpus to the folder where it lies")
    return {"files": files, "bytes": size, "digest": f"{total % 2**256:064x}"}


def _files(root: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of modification of each file."""
    if root.is_file():
        yield root.name, root.stat().st_size, root.stat().st_mtime_ns
        return
    stack = [str(root)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    status = entry.stat(follow_symlinks=False)
                    yield os.path.relpath(entry.path, root), status.st_size, status.st_mtime_ns
