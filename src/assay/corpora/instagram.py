"""Instagram influencer data, both releases, and plain instaloader folders.

- brand release: `post_info.txt`, `json/<post>.json`, `img_resized_*/<image>.jpg`
- influencer release: `JSON-Image_files_mapping.txt`, `info/<user>-<post>.info`, `image/<user>-<image>.jpg`
- instaloader: `<date>_UTC.json[.xz]` beside `<date>_UTC.jpg` or `<date>_UTC_1.jpg`, …
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from assay import text
from assay.corpora.base import RawPost, Row
from assay.errors import CorpusError, ImageProblem, RowError
from assay.images import safe_path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".heic")
_PLAIN_LIST, _PLAIN_NAME = re.compile(r"\[(?:'[\w.-]+'(?:, )?)*\]"), re.compile(r"'([\w.-]+)'")
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


class Instagram:
    """The layout; which release it is shows in its files."""

    gold: tuple[str, ...] = ()
    images_are_known = True

    def __init__(self, root: Path) -> None:
        self.root = self.images = root
        self.index = ImageIndex(root)
        if (root / INFO).is_file():
            self.table, self.parse_line, self.notes = INFO, _info_line, "json"
        elif (root / MAPPING).is_file():
            self.table, self.parse_line, self.notes = MAPPING, _mapping_line, "info"
        elif next(_loader_files(root), None):
            self.table = ""
        else:
            raise CorpusError(
                f"{root}: no {INFO}, no {MAPPING} and no instaloader files (*_UTC.json); is this the right folder?"
            )

    def rows(self) -> Iterator[Row]:
        """The lines of the table of posts, or the JSON files of an instaloader folder."""
        if not self.table:
            for name in sorted(_loader_files(self.root)):
                yield Row(name, name)
            return
        with open(self.root / self.table, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not (number == 1 and self.table == MAPPING and b"influencer_name" in line):
                    yield Row(f"{self.table}:{number}", line)

    def parse(self, row: Row) -> RawPost:
        """A post from its line and its JSON file."""
        if not self.table:
            return self._loader_post(row.data)
        author, sponsored, note, names = self.parse_line(text.decode(row.data).rstrip("\r\n").split("\t"))
        post = _from_node(_read_node(self.root, f"{self.notes}/{note}"))
        post.post_id = _stem(note).rsplit("-", 1)[-1]
        post.author = author or post.author
        post.sponsored = (post.sponsored or sponsored) if sponsored is not None else post.sponsored
        for name in names:
            if "/" in name or "\\" in name or name.startswith(".."):
                post.lost.append(("outside_corpus", name))
                continue
            found = self.index.find(name)
            if found:
                post.images.append(found)
            else:
                post.lost.append(("missing_image", name))
        return post

    def _loader_post(self, name: str) -> RawPost:
        post = _from_node(_read_node(self.root, name))
        stem = _stem(name)
        post.post_id = post.post_id or stem
        beside = [f"{stem}{suffix}" for suffix in PICTURES] + [
            f"{stem}_{i}{suffix}" for i in range(1, 21) for suffix in PICTURES
        ]
        post.images = [path for path in beside if (self.root / path).is_file()]
        return post


def _loader_files(root: Path) -> Iterator[str]:
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.endswith(("_UTC.json", "_UTC.json.xz")) and "(" not in entry.name:
                yield entry.name


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


def _read_node(root: Path, relative: str) -> dict[str, Any]:
    """The node of a post's JSON file, out of whatever its downloader wrapped around it."""
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
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = _second_try(data, relative)
    for wrapper in ("node", "GraphImages", "graphql", "data", "shortcode_media", "xdt_shortcode_media"):
        if isinstance(found, dict) and wrapper in found:
            found = found[wrapper]
        if isinstance(found, list):
            found = found[0] if found else None
    if not isinstance(found, dict):
        raise RowError("cut_json", f"{relative}: no post in it")
    return found


def _read(root: Path, relative: str) -> bytes:
    """The bytes of a file of the corpus; a link is followed only where safe_path allows it."""
    folder, _, name = relative.rpartition("/")
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


def _from_node(node: dict[str, Any]) -> RawPost:
    owner = _dict(node.get("owner"))
    tagged = [_dict(_dict(e).get("node")) for e in _edges(node, "edge_media_to_tagged_user")]
    sponsors = [_dict(_dict(_dict(e).get("node")).get("sponsor")) for e in _edges(node, "edge_media_to_sponsor_user")]
    comments = _count(node, "edge_media_to_parent_comment")
    return RawPost(
        post_id=str(node.get("id") or node.get("shortcode") or ""),
        text=_caption(node),
        author=owner.get("username") or owner.get("id"),
        created_at=_whole(node.get("taken_at_timestamp") or node.get("date")),
        handles=[
            str(u)
            for u in [*(_dict(t.get("user")).get("username") for t in tagged), *(s.get("username") for s in sponsors)]
            if u
        ],
        sponsored=True if sponsors else None,
        likes=_count(node, "edge_media_preview_like"),
        comments=_count(node, "edge_media_to_comment") if comments is None else comments,
    )


def _caption(node: dict[str, Any]) -> str | None:
    for edge in _edges(node, "edge_media_to_caption"):
        caption = _dict(_dict(edge).get("node")).get("text")
        if isinstance(caption, str):
            return caption
    plain = node.get("caption")
    return plain if isinstance(plain, str) else None


def _edges(node: dict[str, Any], key: str) -> list[Any]:
    edges = _dict(node.get(key)).get("edges")
    return edges if isinstance(edges, list) else []


def _count(node: dict[str, Any], key: str) -> int | None:
    return _whole(_dict(node.get(key)).get("count"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**62 else None
