"""Writes the drawn corpus in the Instagram influencer layout, some of it broken on purpose.

About 3 % of the posts are broken, each in one of the ways of `BROKEN`. Beside the corpus stand
`truth.csv` (what was planted in each post) and `truth.json` (the mean score of each brand).
"""

from __future__ import annotations

import csv
import json
import os
import struct
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from assay.corpora.demo import captions
from assay.corpora.demo.draw import scene
from assay.corpora.demo.reading import combine, combine_moods
from assay.progress import progress

BROKEN = (
    "missing_image",
    "undecodable_image",
    "cut_image",
    "decompression_bomb",
    "no_text_no_image",
    "cut_json",
    "bad_encoding",
    "duplicate_id",
    "outside_corpus",
)
EPOCH = 1_546_300_800  # 2019-01-01, the drawn posts' first day and every file's mtime
FOLDERS = 4


def write_corpus(root: Path, *, posts: int, seed: int) -> None:
    """Draw the corpus below `root`: same arguments, same bytes."""
    rng = np.random.default_rng(seed)
    for folder in ["json", *(f"img_resized_{i + 1}" for i in range(FOLDERS))]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    broken = _choose_broken(rng, posts)
    lines: list[str] = []
    truth: list[dict[str, Any]] = []
    for number in progress(range(posts), what="draw", total=posts):
        fault = broken.get(number)
        if fault == "duplicate_id":
            lines.append(lines[-1])
            continue
        line, planted = _write_post(root, rng, number, fault)
        lines.append(line)
        truth.append(planted)
    numbered = (f"{i}\t{line}" for i, line in enumerate(lines))
    (root / "post_info.txt").write_text("\n".join(numbered) + "\n", encoding="utf-8")
    _write_truth(root, truth)
    for path in sorted(root.rglob("*")):
        os.utime(path, (EPOCH, EPOCH))


def _choose_broken(rng: np.random.Generator, posts: int) -> dict[int, str]:
    each = max(1, round(0.03 * posts / len(BROKEN)))
    numbers = rng.choice(np.arange(1, posts), each * len(BROKEN), replace=False)
    return {int(n): BROKEN[i % len(BROKEN)] for i, n in enumerate(numbers)}


def _write_post(root: Path, rng: np.random.Generator, number: int, fault: str | None) -> tuple[str, dict[str, Any]]:
    """One post on disk: its line without the row number, and what was planted in it."""
    post_id = str(1_900_000_000_000_000_000 + number * 7_919_113_007)
    author = f"drawn.author.{int(240 * rng.random() ** 1.7):03d}"
    names = list(captions.BRANDS)
    brand = names[int(rng.integers(len(names)))] if rng.random() < 0.72 else None
    lean = captions.BRAND_BIAS[brand] if brand else 0.3
    says, shows = (_level(rng, lean) if rng.random() < 0.8 else None for _ in range(2))
    said, shown = (_mood(rng) for _ in range(2))
    if said in ("positive", "negative") and shown in ("positive", "negative"):
        shown = said
    says_of = [name for name in captions.SLIGHTS if rng.random() < 0.075]
    shows_of = rng.choice(list(captions.SLIGHTS)) if rng.random() < 0.28 else None
    where = rng.random()  # the brand stands in the text, in the picture or in both
    caption = captions.compose(rng, bias=says, mood=said, brand=brand if where < 0.85 else None, slights=says_of)
    pictures = [
        scene(rng, bias=shows, mood=shown, brand=brand if where > 0.35 else None, slight=shows_of)
        for _ in range(1 + int(rng.random() < 0.06))
    ]
    lacks = rng.random()
    if fault is None and lacks < 0.03:
        caption, says, said, says_of = "", None, None, []
    elif fault is None and lacks < 0.05:
        pictures, shows, shown, shows_of = [], None, None, None
    if fault == "no_text_no_image":
        caption, pictures = "", []
    files = [f"{int(post_id) + i}.jpg" for i in range(len(pictures))]
    for i, (name, data) in enumerate(zip(files, pictures, strict=True)):
        kept = _broken_image(data, fault) if i == 0 else data
        if kept is not None:
            (root / f"img_resized_{1 + number % FOLDERS}" / name).write_bytes(kept)
    if fault == "outside_corpus":
        files = ["../../../etc/hosts.jpg"]
    sponsored = int(brand is not None and rng.random() < 0.35)
    node = _node(rng, post_id, author, caption, len(pictures), number)
    (root / "json" / f"{post_id}.json").write_bytes(_encode(_wrap(node, number), caption, fault, number))
    if fault in ("missing_image", "undecodable_image", "cut_image", "decompression_bomb", "outside_corpus") and (
        len(pictures) == 1 or fault == "outside_corpus"
    ):
        shows = shown = shows_of = None  # the picture is gone, and what it showed with it
    planted = {
        "post_id": post_id,
        "brand": brand or "",
        "brand_in_text": int(bool(brand) and where < 0.85),
        "text_level": says,
        "picture_level": shows,
        "score": round(combine(says, shows), 4),
        "mood": combine_moods(said, shown),
        "slights": ",".join(name for name in captions.SLIGHTS if name in says_of or name == shows_of),
        "fault": fault or "",
    }
    return f"{author}\t{sponsored}\t{post_id}.json\t{files!r}", planted


def _level(rng: np.random.Generator, lean: float) -> int:
    return int(rng.integers(3, 6)) if rng.random() < lean else int(rng.integers(0, 3))


def _mood(rng: np.random.Generator) -> str | None:
    draw = rng.random()
    return "positive" if draw < 0.32 else "negative" if draw < 0.55 else "neutral" if draw < 0.75 else None


def _node(
    rng: np.random.Generator, post_id: str, author: str, caption: str, pictures: int, number: int
) -> dict[str, Any]:
    """A post's JSON in the keys of the real thing."""
    return {
        "__typename": "GraphSidecar" if pictures > 1 else "GraphImage",
        "id": post_id,
        "shortcode": f"D{number:09d}",
        "taken_at_timestamp": EPOCH + int(rng.integers(0, 2 * 365 * 86_400)),
        "is_video": False,
        "dimensions": {"height": 224, "width": 224},
        "edge_media_to_caption": {"edges": [{"node": {"text": caption}}] if caption else []},
        "edge_media_preview_like": {"count": int(rng.lognormal(5.5, 1.2))},
        "edge_media_to_comment": {"count": int(rng.lognormal(2.0, 1.0))},
        "edge_media_to_tagged_user": {"edges": []},
        "edge_media_to_sponsor_user": {"edges": []},
        "owner": {"id": str(10_000 + int(author[-3:])), "username": author},
        "location": None,
    }


def _wrap(node: dict[str, Any], number: int) -> dict[str, Any]:
    """Every few posts the wrapper of another downloader."""
    if number % 10 == 3:
        return {"instaloader": {"version": "4.9"}, "node": node}
    if number % 10 == 6:
        return {"GraphImages": [node]}
    if number % 10 == 9:
        return {"graphql": {"shortcode_media": node}}
    return node


def _encode(found: dict[str, Any], caption: str, fault: str | None, number: int) -> bytes:
    encoded = json.dumps(found, ensure_ascii=False).encode("utf-8")
    if fault == "cut_json":
        return encoded[: len(encoded) // 2]
    if fault == "bad_encoding":
        return encoded[:-2] + b', "note": "\xff\xfe\xff"' + encoded[-2:]
    if number % 97 == 5:
        return json.dumps(found, ensure_ascii=False).encode("gb18030")
    return encoded


def _broken_image(data: bytes, fault: str | None) -> bytes | None:
    if fault == "missing_image":
        return None
    if fault == "undecodable_image":
        return b"<html>404</html>" * 40
    if fault == "cut_image":
        return data[: len(data) // 3]
    return _bomb() if fault == "decompression_bomb" else data


def _bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(60_000))) + part(b"IEND", b"")
    )


def _write_truth(root: Path, truth: list[dict[str, Any]]) -> None:
    with open(root / "truth.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(truth[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(truth)
    gone = ("no_text_no_image", "cut_json", "bad_encoding")
    by_brand: dict[str, list[float]] = defaultdict(list)
    for row in truth:
        if row["brand_in_text"] and row["fault"] not in gone:
            by_brand[row["brand"]].append(row["score"])
    means = {b: {"posts": len(s), "mean": round(float(np.mean(s)), 4)} for b, s in sorted(by_brand.items())}
    (root / "truth.json").write_text(json.dumps({"brands": means}, indent=1) + "\n")
