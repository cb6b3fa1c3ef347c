"""Instagram influencer data, both releases, and plain instaloader folders.

- brand release: `post_info.txt`, `json/<post>.json`, `img_resized_*/<image>.jpg`
- influencer release: `JSON-Image_files_mapping.txt`, `info/<user>-<post>.info`, `image/<user>-<image>.jpg`
- instaloader and others: JSON files, in one folder or one a profile, with `<stem>.jpg` or `<stem>_1.jpg`, … beside
"""

from __future__ import annotations

import ast
import errno
import hashlib
import lzma
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from assay import text
from assay.config import Corpus
from assay.corpora.base import Bookkeeping, RawPost, Row
from assay.corpora.insta_node import NOT_POSTS, is_post, nodes, picture_names, post_of
from assay.errors import CorpusError, ImageProblem, RowError
from assay.images import safe_path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".heic")
_PLAIN_LIST, _PLAIN_NAME = re.compile(r"\[(?:'[\w.-]+'(?:, )?)*\]"), re.compile(r"'([\w.-]+)'")
_PART = re.compile(r"(.+)_(\d+)")
LOOKED_AT = 50  # JSON files by which a folder is told for one of posts
INFO, MAPPING = "post_info.txt", "JSON-Image_files_mapping.txt"


class ImageIndex:
    """Which folder each image name is in, as two sorted arrays (9 bytes an image): scanned once."""

    def __init__(self, root: Path) -> None:
        keys, places = array("Q"), array("B")
        self.folders: list[str] = []
        listed = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name.startswith("im"))
        for name in listed[:255]:
            self.folders.append(name)
            with os.scandir(root / name) as entries:
                for entry in entries:
                    if entry.name.lower().endswith(PICTURES):
                        keys.append(_key(entry.name))
                        places.append(len(self.folders) - 1)
        order = np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable") if keys else np.empty(0, int)
        self._keys, self._places = array("Q"), array("B")  # not numpy's: bisect is ten times quicker on these
        if keys:
            self._keys.frombytes(np.frombuffer(keys, dtype=np.uint64)[order].tobytes())
            self._places.frombytes(np.frombuffer(places, dtype=np.uint8)[order].tobytes())

    def find(self, name: str) -> str | None:
        """The image's path below the root, or None when it is in none of the folders."""
        key = _key(name)
        at = bisect_left(self._keys, key)
        if at == len(self._keys) or self._keys[at] != key:
            return None
        return f"{self.folders[self._places[at]]}/{name}"


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


class Instagram(Bookkeeping):
    """The layout; which release it is shows in its files."""

    gold: tuple[str, ...] = ()
    images_are_known = True

    def __init__(self, root: Path, unneeded: Iterable[str] = ()) -> None:
        self.table = ""
        if (root / INFO).is_file():
            self.table, self.parse_line, self.notes = INFO, _info_line, "json"
        elif (root / MAPPING).is_file():
            self.table, self.parse_line, self.notes = MAPPING, _mapping_line, "info"
        elif not _has_posts(root):
            raise CorpusError(
                f"{root}: no {INFO}, no {MAPPING} and no instaloader files (*_UTC.json); is this the right folder?"
            )
        super().__init__(root, [self.table, *(["influencers.txt"] if self.table == MAPPING else []), *unneeded])
        self.index = ImageIndex(root) if self.table else None

    def rows(self) -> Iterator[Row]:
        """The lines of the table of posts, or the posts of all JSON files below the folder."""
        if not self.table:
            for name in _json_files(self.root):
                count = _posts_in(self.root, name)
                for i in range(count):
                    yield Row(name if count == 1 else f"{name}#{i}", (name, i, count))
            return
        with open(self.root / self.table, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not (number == 1 and self.table == MAPPING and b"influencer_name" in line):
                    yield Row(f"{self.table}:{number}", line)

    def parse(self, row: Row) -> RawPost:
        """A post from its line and its JSON file."""
        if not self.table or self.index is None:
            return self._loader_post(*row.data)
        author, sponsored, note, names = self.parse_line(text.decode(row.data).rstrip("\r\n").split("\t"))
        places = {name: None if _is_path(name) else self.index.find(name) for name in names}
        self.touched += [f"{self.notes}/{note}", *(place for place in places.values() if place)]
        found = nodes(_read_json(self.root, f"{self.notes}/{note}"))
        if len(found) != 1 or not isinstance(found[0], dict):
            raise RowError("cut_json", f"{self.notes}/{note}: {len(found) if found else 'no'} posts in it")
        post = post_of(found[0])
        post.post_id = _stem(note).rsplit("-", 1)[-1]
        post.author = author or post.author
        post.sponsored = (post.sponsored or sponsored) if sponsored is not None else post.sponsored
        for name in names:
            place = places[name]
            if place:
                post.images.append(place)
            else:
                post.lost.append(("outside_corpus" if _is_path(name) else "missing_image", name))
        return post

    def _loader_post(self, name: str, number: int, count: int) -> RawPost:
        self.touched.append(name)
        found = _read_json(self.root, name)
        told = found.get("instaloader") if isinstance(found, dict) else None
        kind = told.get("node_type") if isinstance(told, dict) else None
        every = nodes(found)
        node = every[number] if number < len(every) else None
        if kind in NOT_POSTS or not isinstance(node, dict) or not is_post(node):
            raise RowError("not_a_post", f"{name}: {kind or 'JSON of something else than a post'}")
        post = post_of(node)
        folder, stem = name.rpartition("/")[0], _stem(name)
        post.post_id = post.post_id or (stem if count == 1 else f"{stem}#{number}")
        beside = _listing(f"{self.root}/{folder}" if folder else str(self.root))
        pictures = beside.get(stem, []) if count == 1 else []
        if not pictures:
            pictures = [one for one in picture_names(node) if one in beside.get("", ())]
        prefix = f"{folder}/" if folder else ""
        post.images = [f"{prefix}{picture}" for picture in pictures]
        if count == 1 and f"{stem}.txt" in beside.get(".txt", ()):
            self.touched.append(f"{prefix}{stem}.txt")
            if post.text is None:
                post.text = safe_path(self.root, f"{prefix}{stem}.txt").read_bytes()
        return post


@lru_cache(maxsize=64)
def _listing(folder: str) -> dict[str, list[str]]:
    """The pictures of a folder by the stem of their post, all of them under "", and its texts under ".txt"."""
    found: dict[str, list[tuple[int, str]]] = {}
    texts, every = [], []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    for name in names:
        if name.endswith(".txt"):
            texts.append(name)
        if name.lower().endswith(PICTURES):
            every.append(name)
            stem = name.rpartition(".")[0]
            part = _PART.fullmatch(stem)
            found.setdefault(stem, []).append((0, name))
            if part:
                found.setdefault(part[1], []).append((int(part[2]), name))
    return {stem: [name for _, name in sorted(pictures)] for stem, pictures in found.items()} | {
        "": every,
        ".txt": texts,
    }


def _json_files(root: Path) -> Iterator[str]:
    """The JSON files below a folder, one folder a profile or all in one, in the order of their names."""
    for folder, inner, names in os.walk(root):
        inner.sort()
        for name in sorted(names):
            if name.endswith((".json", ".json.xz")):
                yield os.path.relpath(os.path.join(folder, name), root)


def _has_posts(root: Path) -> bool:
    """Whether one of the first JSON files is called as instaloader does, or has a post in it."""
    for name in islice(_json_files(root), LOOKED_AT):
        if name.endswith(("_UTC.json", "_UTC.json.xz")):
            return True
        try:
            if any(is_post(node) for node in nodes(_read_json(root, name))):
                return True
        except RowError:
            continue
    return False


def _posts_in(root: Path, name: str) -> int:
    """How many posts a JSON file has: one, but where a wrapper of several shows at its beginning."""
    try:
        with open(root / name, "rb") as file:
            head = file.read(4096)
        if not (b'"items"' in head or b'"GraphImages"' in head or head.lstrip()[:1] == b"["):
            return 1
        found = nodes(_read_json(root, name))
    except (OSError, RowError):
        return 1  # parse will say what is wrong
    return len(found) if any(is_post(node) for node in found) else 1


def _is_path(name: str) -> bool:
    """Whether what should be a file's name leads elsewhere."""
    return "/" in name or "\\" in name or name.startswith("..")


def _info_line(cells: list[str]) -> tuple[str, bool | None, str, list[str]]:
    if len(cells) != 5:
        raise RowError("bad_line", f"{len(cells)} columns instead of 5")
    _, author, sponsored, note, names = cells
    return author, {"0": False, "1": True}.get(sponsored.strip()), note.strip(), _names(names)


def _mapping_line(cells: list[str]) -> tuple[str, bool | None, str, list[str]]:
    if len(cells) != 3:
        raise RowError("bad_line", f"{len(cells)} columns instead of 3")
    author, note, names = cells
    return author, None, note.strip(), _names(names)


def _names(literal: str) -> list[str]:
    if _PLAIN_LIST.fullmatch(literal.strip()):  # nearly all: no need of a parser
        return _PLAIN_NAME.findall(literal)
    try:
        names = ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RowError("bad_line", "the list of images is not a Python list") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError("bad_line", "the list of images is not a list of names")
    return names


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".xz").rsplit(".", 1)[0]


def _read_json(root: Path, relative: str) -> Any:
    """What stands in a JSON file; RowError where it cannot be read."""
    try:
        data = _read(root, relative)
        if relative.endswith(".xz"):
            data = lzma.decompress(data)
    except ImageProblem as problem:
        raise RowError(problem.code, problem.detail) from None
    except FileNotFoundError as error:
        raise RowError("missing_json", relative) from error
    except (OSError, lzma.LZMAError) as error:
        raise RowError("cut_json", f"{relative}: {error}") from error
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _second_try(data, relative)


def _read(root: Path, relative: str) -> bytes:
    """The bytes of a file of the corpus; a link is followed only where safe_path allows it."""
    folder, _, name = relative.rpartition("/")
    if not os.path.isfile(f"{root}/{relative}") and os.path.exists(f"{root}/{relative}"):
        raise RowError("cut_json", f"{relative}: not a regular file")
    if name in ("", ".", "..") or folder not in ("json", "info", "") or "\\" in name or "\0" in name:
        return safe_path(root, relative).read_bytes()
    try:
        file = os.open(f"{root}/{relative}", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            return safe_path(root, relative).read_bytes()
        raise
    with open(file, "rb", buffering=0) as opened:
        return opened.read()


def _second_try(data: bytes, relative: str) -> Any:
    """JSON that orjson refuses: another encoding, or lone surrogates as older downloaders wrote them."""
    import json

    try:
        return json.loads(text.decode(data))
    except (ValueError, RecursionError) as error:
        raise RowError("cut_json", f"{relative}: {error}"[:200]) from error
    except RowError as error:
        raise RowError(error.code, f"{relative}: {error.detail}") from error


def open_layout(settings: Corpus, places: Sequence[Path]) -> Instagram:
    """The layout at its one place."""
    return Instagram(places[0])
