"""Files of a corpus that nothing was read from: each is named, none is taken for not being there."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from assay.buckets import Bucket, Root
from assay.corpora.base import Layout
from assay.posts import Problem
from assay.progress import progress

BATCH = 4096


class Files:
    """Which files were read or named by a row, as eight bytes each."""

    def __init__(self) -> None:
        self._keys = array("Q")

    def add(self, keys: Iterable[int]) -> None:
        """Files by their `key`."""
        self._keys.extend(keys)

    def unread(self, layout: Layout, stage: str) -> Iterator[Problem]:
        """A problem for each file below the layout's roots that is neither among these nor one it reads by itself."""
        known = np.unique(np.frombuffer(self._keys, dtype=np.uint64)) if self._keys else np.empty(0, np.uint64)
        seen: set[str] = set()
        for root in layout.roots:
            waiting: list[str] = []
            with progress(what="files", unit="file") as bar:
                for path in _files(root):
                    bar.update()
                    waiting.append(path)
                    if len(waiting) == BATCH:
                        yield from _named(waiting, known, layout, root, stage, seen)
                        waiting = []
            yield from _named(waiting, known, layout, root, stage, seen)


def _named(
    paths: list[str], known: np.ndarray, layout: Layout, root: Root, stage: str, seen: set[str]
) -> Iterator[Problem]:
    if not paths:
        return
    keys = np.array([key(path) for path in paths], dtype=np.uint64)
    for path, is_known in zip(paths, np.isin(keys, known), strict=True):
        if is_known or path in seen or layout.is_read(path):
            continue
        seen.add(path)
        if isinstance(root, Bucket):
            relative = path.removeprefix(f"{root}/")
        else:
            relative = os.path.relpath(path, root) if root.is_dir() else os.path.basename(path)
        why = layout.unread.get(path, "no row names it, and this kind of corpus reads nothing from it")
        yield Problem(None, relative.encode("utf-8", "replace").decode(), stage, "unread_file", "unread", why[:200])


def key(path: str) -> int:
    """Eight bytes that stand for an absolute path."""
    data = path.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _files(root: Root) -> Iterator[str]:
    """Every file below a folder, or the one file, by absolute path; links are not followed into folders."""
    if isinstance(root, Bucket):
        yield from (f"{root}/{file.relative}" for file in root.files())
        return
    if not root.is_dir():
        yield str(root)
        return
    stack = [str(root)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        yield entry.path
        except PermissionError:
            continue
