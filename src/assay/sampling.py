"""Which posts are labelled, each with its inclusion probability, and their images packed in shards.

Every post has a permanent random number, a hash of the seed and its id (Ohlsson 1995). A random
sample takes the smallest ones: a simple random sample without replacement, which changes little
when the corpus grows, so that few new labels are paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay import colours, images
from assay.buckets import Root
from assay.config import Sample
from assay.errors import DataError, ImageProblem, SettingsError
from assay.posts import ShardWriter, gold_names, shards, stream, write_table
from assay.progress import cores, progress

SHARD_ROWS = 1000
KEPT = ("post_id", "text", "author", "created_at", "brands", "sponsored", "language", "split", "duplicate_of")
SIGNED = ("text_sig",)


class Draw(NamedTuple):
    """A sample: for each post drawn its inclusion probability (0 to 1] and its stratum."""

    inclusion_p: dict[str, float]
    stratum: dict[str, str]
    frame: int  # how many posts there were to draw from


def draw(post_ids: Sequence[str], strata: Sequence[str], settings: Sample) -> Draw:
    """Draw a sample; `strata` names the stratum of each post (one stratum for the other designs)."""
    ids, groups = np.asarray(post_ids, dtype=object), np.asarray(strata, dtype=object)
    if len(ids) == 0:
        raise DataError("the corpus has no posts to sample from; see its problems table")
    if settings.design == "all":
        return Draw(dict.fromkeys(post_ids, 1.0), dict(zip(post_ids, strata, strict=True)), len(ids))
    numbers = np.array([permanent_number(settings.seed, post_id) for post_id in post_ids], dtype=np.uint64)
    names, index, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    least = int(np.minimum(counts, max(settings.min_per_stratum, 1)).sum())
    if least > min(settings.posts, len(ids)):
        raise SettingsError(
            f"sample.by: {len(names)} strata of {settings.by!r} need at least {least} posts, but sample.posts is "
            f"{settings.posts}; choose another column, more posts or a smaller min_per_stratum"
        )
    order = np.lexsort((numbers, index))  # by stratum, then by permanent number
    starts = np.concatenate([[0], np.cumsum(counts)])
    sizes = allocate(counts, min(settings.posts, len(ids)), settings.min_per_stratum)
    inclusion: dict[str, float] = {}
    stratum: dict[str, str] = {}
    for name, start, count, size in zip(names, starts, counts, sizes, strict=False):
        chosen = order[start : start + size]
        for post_id in ids[chosen]:
            inclusion[post_id], stratum[post_id] = float(size / count), str(name)
    return Draw(inclusion, stratum, len(ids))


def random_draw(post_ids: Sequence[str], size: int, seed: int) -> Draw:
    """A simple random sample of `size` posts, or all of them."""
    order = sorted(post_ids, key=lambda post_id: permanent_number(seed, post_id))[:size]
    p = len(order) / len(post_ids) if post_ids else 1.0
    return Draw(dict.fromkeys(order, p), dict.fromkeys(order, "all"), len(post_ids))


def write_choice(inclusion_p: dict[str, float], out: Path) -> None:
    """Write which posts to take, by id; empty where `draw` decides."""
    rows = sorted(inclusion_p.items())
    schema = pa.schema([("post_id", pa.string()), ("inclusion_p", pa.float64())])
    write_table(pa.table({"post_id": [i for i, _ in rows], "inclusion_p": [p for _, p in rows]}, schema=schema), out)


def read_choice(chosen: Path, size: int) -> Draw | None:
    """What the choose stage found, None where it left the choice to `draw`."""
    rows = pq.read_table(chosen).to_pylist()
    if not rows:
        return None
    ids = [row["post_id"] for row in rows]
    return Draw({row["post_id"]: row["inclusion_p"] for row in rows}, dict.fromkeys(ids, "all"), size)


def allocate(counts: np.ndarray, size: int, minimum: int) -> np.ndarray:
    """Proportional allocation of `size` over strata of `counts` posts, by largest remainders.

    Each stratum gets at least `minimum` (or all it has), so that every inclusion probability is
    above 0; the sum is `size` unless the minima alone exceed it.
    """
    share = counts * size / counts.sum()
    sizes = np.minimum(np.maximum(np.floor(share).astype(int), max(minimum, 1)), counts)
    order = np.argsort(-(share - np.floor(share)), kind="stable")
    while sizes.sum() < size:
        for at in order:
            if sizes.sum() < size and sizes[at] < counts[at]:
                sizes[at] += 1
    while sizes.sum() > size and (sizes > max(minimum, 1)).any():
        over = np.where(sizes > max(minimum, 1), sizes - share, -np.inf)
        sizes[int(np.argmax(over))] -= 1
    return np.asarray(sizes)


def permanent_number(seed: int, post_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{post_id}".encode(), digest_size=8).digest(), "big")


def frame(posts: Path, by: str | None) -> tuple[list[str], list[str]]:
    """The ids of all posts and the stratum of each, in the order of the corpus."""
    if by is None:
        ids = [row["post_id"] for batch in stream(posts, ["post_id"], 65_536) for row in batch]
        return ids, ["all"] * len(ids)
    column = {"brand": "brands", "length": "text"}.get(by, by)
    known = [name for name in pq.read_schema(shards(posts)[0]).names if name != "author"]
    if column not in known:
        raise SettingsError(f"sample.by: no column {by!r}; allowed: brand, length, {', '.join(known)}")
    ids, values = [], []
    for batch in stream(posts, ["post_id", column], 16_384):
        ids += [row["post_id"] for row in batch]
        values += [len(row["text"]) if by == "length" else row[column] for row in batch]
    return ids, _terciles(values) if by == "length" else [_name(value) for value in values]


def _name(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _terciles(lengths: list[int]) -> list[str]:
    low, high = np.quantile(lengths, [1 / 3, 2 / 3]) if lengths else (0, 0)
    return ["short" if n <= low else "medium" if n <= high else "long" for n in lengths]


# -------------------------------------------------------------------------------------- shards


def sample_schema(gold: Sequence[str]) -> pa.Schema:
    """The sample table: what is needed of each post, its images as bytes, and how it was drawn."""
    return pa.schema(
        [
            pa.field("post_id", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("author", pa.string()),
            pa.field("created_at", pa.timestamp("s", tz="UTC")),
            pa.field("brands", pa.list_(pa.string()), nullable=False),
            pa.field("sponsored", pa.bool_()),
            pa.field("language", pa.string()),
            pa.field("split", pa.string()),
            pa.field("duplicate_of", pa.string()),
            pa.field("text_sig", pa.binary()),
            pa.field("images", pa.list_(pa.binary()), nullable=False),  # packed, see images.pack
            pa.field("image_hashes", pa.list_(pa.string()), nullable=False),  # of the files they come from
            pa.field("image_sig", pa.list_(pa.string()), nullable=False),
            pa.field("colours", colours.TYPE),  # means over these images
            pa.field("lost", pa.list_(pa.string()), nullable=False),  # "code: detail" of unusable images
            pa.field("inclusion_p", pa.float64(), nullable=False),
            pa.field("stratum", pa.string(), nullable=False),
            *(pa.field(f"gold_{name}", pa.string()) for name in gold),
        ]
    )


def write_sample(
    posts: Path, root: Root, out: Path, *, settings: Sample, max_pixels: int, drawn: Draw | None = None
) -> dict[str, int]:
    """Draw the sample (or take what is `drawn`) and write its shards; returns counts.

    Images are read from below `root`.
    """
    if drawn is None:
        ids, strata = frame(posts, settings.by if settings.design == "stratified" else None)
        drawn = draw(ids, strata, settings)
    gold = gold_names(pq.read_schema(shards(posts)[0]))
    arrow = sample_schema(gold)
    columns = [*KEPT, *SIGNED, "images", *(f"gold_{name}" for name in gold)]
    writer = ShardWriter(out, arrow, SHARD_ROWS)
    counts = {"frame": drawn.frame, "posts": 0, "with_text": 0, "with_image": 0, "empty": 0}
    chosen = (row for batch in stream(posts, columns, 4096) for row in batch if row["post_id"] in drawn.inclusion_p)

    def packed(row: dict[str, Any]) -> dict[str, Any]:
        return _pack(row, root, settings, max_pixels) | {
            "inclusion_p": drawn.inclusion_p[row["post_id"]],
            "stratum": drawn.stratum[row["post_id"]],
        }

    with ThreadPoolExecutor(cores()) as pool, progress(what="sample", total=len(drawn.inclusion_p)) as bar:
        for batch in _batches(chosen, 128):
            rows = list(pool.map(packed, batch))
            writer.write(pa.Table.from_pylist(rows, schema=arrow))
            counts["posts"] += len(rows)
            counts["with_text"] += sum(bool(row["text"]) for row in rows)
            counts["with_image"] += sum(bool(row["images"]) for row in rows)
            counts["empty"] += sum(not row["text"] and not row["images"] for row in rows)
            bar.update(len(rows))
    writer.close()
    return counts


def _pack(row: dict[str, Any], root: Root, settings: Sample, max_pixels: int) -> dict[str, Any]:
    loaded = images.load(root, row["images"], limit=settings.max_images)
    return with_images(row, loaded.data, loaded.lost, settings, max_pixels)


def with_images(
    row: dict[str, Any], data: Sequence[bytes], lost: Sequence[tuple[str, str]], settings: Sample, max_pixels: int
) -> dict[str, Any]:
    """A row of the sample table with its images, packed; `lost`: (code, detail) of those that could not be read."""
    problems = list(lost)
    packed, hashes, sigs, seen = [], [], [], []
    for one in data:
        try:
            small = images.pack(one, longest=settings.image_px, max_pixels=max_pixels)
            sigs.append(images.signature(small.image))
            seen.append(colours.of_picture(small.image))
        except ImageProblem as problem:
            problems.append((problem.code, problem.detail))
            continue
        packed.append(small.data)
        hashes.append(images.content_hash(one))
    return row | {
        "images": packed,
        "image_hashes": hashes,
        "image_sig": sigs,
        "colours": mean._asdict() if (mean := colours.of_post(seen)) else None,
        "lost": [f"{code}: {detail}" for code, detail in problems],
    }


def _batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    return iter(lambda: list(islice(iterator, size)), [])
