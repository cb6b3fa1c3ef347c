"""What becomes of one source row: a post's columns, or the reason why it is none. Runs in worker processes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from os.path import normpath
from typing import Any, NamedTuple

from assay import colours, images, text
from assay.authors import hash_author
from assay.corpora.base import Layout, RawPost, Row
from assay.corpora.cells import moment
from assay.corpora.language import detect
from assay.corpora.leftovers import key
from assay.errors import ImageProblem, RowError, SettingsError
from assay.posts import Problem, schema

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
STAGE = "ingest"


@dataclass(frozen=True)
class Rules:
    """How posts of one corpus are cleaned and checked."""

    corpus: str
    author_key: bytes
    check_images: images.Check = "header"
    max_pixels: int = 50_000_000
    shard_posts: int = 10_000
    detect_language: bool = True
    brands: dict[str, tuple[list[str], list[str], list[str]]] = field(default_factory=dict)  # tags, handles, words


@dataclass
class Mapped:
    """What a worker makes of a chunk of rows: post columns, their digests, and the problems."""

    posts: dict[str, list[Any]]
    digests: list[bytes]
    sources: list[str]
    problems: list[Problem]
    named: int = 0  # images that the rows name
    files: list[int] = field(default_factory=list)  # that were read or named, see leftovers.key


class Mapper:
    """Turns rows into post columns; nothing that a row holds can raise out of it."""

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self.layout, self.rules = layout, rules
        self.brands = text.BrandIndex.build(rules.brands)
        self.names = schema(layout.gold).names

    def __call__(self, chunk: list[Row]) -> Mapped:
        mapped = Mapped({name: [] for name in self.names}, [], [], [])
        for row in chunk:
            post_id, before = None, len(mapped.problems)
            self.layout.touched.clear()
            try:
                if isinstance(row.data, RowError):
                    raise row.data
                raw = self.layout.parse(row)
                post_id = raw.post_id
                mapped.named += len(raw.images) + len(raw.lost)
                self.layout.touched.extend(raw.images)
                values, digest = self._post(raw, row.source, mapped.problems)
            except RowError as error:
                del mapped.problems[before:]
                self._note_files(mapped)
                mapped.problems.append(
                    Problem(post_id, row.source, STAGE, error.code, "dropped", _printable(error.detail))
                )
                continue
            except SettingsError:  # object storage refuses: that says nothing of a row
                raise
            except Exception as error:  # an adapter met something that nobody foresaw
                del mapped.problems[before:]
                self._note_files(mapped)
                mapped.problems.append(
                    Problem(
                        post_id,
                        row.source,
                        STAGE,
                        "unreadable_row",
                        "dropped",
                        _printable(f"{type(error).__name__}: {error}"[:200]),
                    )
                )
                continue
            self._note_files(mapped)
            for name in self.names:
                mapped.posts[name].append(values[name])
            mapped.digests.append(digest)
            mapped.sources.append(row.source)
        return mapped

    def _note_files(self, mapped: Mapped) -> None:
        """The files of a row, whatever became of it."""
        root = f"{self.layout.images}/"
        for relative in self.layout.touched:
            plain = relative.replace("\\", "/")
            odd = "./" in plain or "//" in plain
            mapped.files.append(key(root + normpath(plain) if odd else root + plain))

    def _post(self, raw: RawPost, source: str, problems: list[Problem]) -> tuple[dict[str, Any], bytes]:
        lost = list(raw.lost)
        post_id = _printable(raw.post_id)
        if not post_id:
            raise RowError("no_id", "the row has no post id")
        clean = self._text(raw, lost)
        kept, seen = self._images(raw, lost)
        if not clean and not kept:
            code = lost[0][0] if lost else "no_text_no_image"
            raise RowError(code, "; ".join(f"{c} {d}".strip() for c, d in lost) or "neither text nor image")
        created = _moment(raw.created_at, lost)
        problems += [Problem(post_id, source, STAGE, code, "degraded", _printable(detail)) for code, detail in lost]
        tags = text.hashtags(clean)
        handles = list(dict.fromkeys(text.mentions(clean) + [_printable(h).lstrip("@").lower() for h in raw.handles]))
        brands = sorted({*map(_printable, raw.brands), *self.brands.find(tags, handles, clean)} - {""})
        values: dict[str, Any] = {
            "post_id": post_id,
            "text": clean,
            "images": kept,
            "author": hash_author(_printable(raw.author or ""), self.rules.author_key),
            "created_at": created,
            "brands": brands,
            "hashtags": tags,
            "mentions": handles,
            "sponsored": raw.sponsored,
            "likes": raw.likes,
            "comments": raw.comments,
            **self._language(raw, clean),
            "split": _printable(raw.split or "") or None,
            "duplicate_of": None,
            "text_sig": text.signature(clean) if clean else None,
            "image_sig": [one.signature for one in seen],
            "colours": mean._asdict() if (mean := colours.of_post([one.colours for one in seen])) else None,
        }
        values |= {f"gold_{name}": _printable(raw.gold.get(name) or "") or None for name in self.layout.gold}
        content = "\0".join([clean, *([one.hash for one in seen] or kept)])
        return values, hashlib.blake2b(content.encode(), digest_size=16).digest()

    def _text(self, raw: RawPost, lost: list[tuple[str, str]]) -> str:
        if raw.text is None:
            return ""
        try:
            return text.normalise(text.decode(raw.text) if isinstance(raw.text, bytes) else raw.text)
        except RowError as error:
            lost.append((error.code, error.detail))
            return ""

    def _language(self, raw: RawPost, clean: str) -> dict[str, str | None]:
        told = _printable(raw.language or "") or None
        found = detect(clean) if told is None and self.rules.detect_language else None
        origin = "corpus" if told else "detected" if found else None
        return {"language": told or found, "language_from": origin}

    def _images(self, raw: RawPost, lost: list[tuple[str, str]]) -> tuple[list[str], list[_Picture]]:
        if self.rules.check_images == "none" and self.layout.images_are_known:
            return raw.images, []
        kept, seen = [], []
        for path in raw.images:
            if _UNFIT.search(path):
                lost.append(("missing_image", path))
                continue
            try:
                known = images.check(self.layout.images, path, self.rules.check_images, self.rules.max_pixels)
            except ImageProblem as problem:
                lost.append((problem.code, problem.detail or path))
                continue
            kept.append(path)
            if known:
                seen.append(_Picture(known.hash, known.signature, colours.of_picture(known.picture)))
        return kept, seen


class _Picture(NamedTuple):
    hash: str
    signature: str
    colours: colours.Colours


def _printable(value: str) -> str:
    """Text that every file and terminal can take: lone surrogates and controls become a mark."""
    return _UNFIT.sub("�", value).strip()


def _moment(value: datetime | int | None, lost: list[tuple[str, str]]) -> datetime | None:
    return value if value is None else moment(value, "created_at", lost)
