"""The shards of a corpus that is scored: what each depends on, and how one is scored."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import images
from assay.buckets import Bucket, Root, Versions
from assay.encode.extract import PostInputs
from assay.errors import DataError
from assay.parallel import in_order
from assay.posts import count, span, stream
from assay.progress import cores, progress
from assay.scoring.predict import Predictor
from assay.scoring.prediction import prediction_schema, table_row

CONTENT = ["post_id", "text", "images"]
KIN = ["post_id", "author", "content"]
BATCHES_AHEAD = 1  # batches in work beyond those that the cores encode: they read files and write rows meanwhile


@dataclass
class Shard:
    """Some posts in a row, and what is known of them."""

    number: int
    start: int  # of the post table's rows, the first
    stop: int  # one behind the last
    key: str  # a digest of what its predictions depend on
    folds: dict[int, int] = field(default_factory=dict)  # by row of the shard, see folds_of_posts
    learnt: list[int] = field(default_factory=list)  # rows of the shard that the student learnt from
    pictures: int = 0  # that its posts name
    posts: str = ""  # a digest of its posts alone


@dataclass(frozen=True)
class Place:
    """Where the posts of a corpus lie, and how they are taken."""

    posts: Path
    root: Root  # of their images
    batch_size: int
    stem: str = ""  # of the keys of its shards: model, code and settings


def plan(
    place: Place, *, shard_posts: int, learnt: set[str], fold_of: dict[str, int], most_images: int = 1
) -> Iterator[Shard]:
    """The shards of a corpus in its order.

    A key depends on the place's stem, on the shard's own rows, on size and time of their images, and on what of
    `learnt` and `fold_of` is theirs: posts that are appended, or changed, cost no shard but their own.
    """
    number = start = rows = 0
    look = _looker(place.root)
    shard, digest, own = Shard(0, 0, 0, ""), hashlib.sha256(place.stem.encode()), hashlib.sha256()
    with progress(what="infer: look", total=count(place.posts)) as bar:
        for batch in stream(place.posts, CONTENT, 4096):
            for row in batch:
                post_id = row["post_id"]
                fold, known = fold_of.get(post_id), post_id in learnt
                if fold is not None:
                    shard.folds[rows] = fold
                if known:
                    shard.learnt.append(rows)
                shard.pictures += min(most_images, len(row["images"]))
                digest.update(_content(look, row, fold, known))
                own.update(_post(row))
                rows += 1
                if rows == shard_posts:
                    yield _ended(shard, rows, digest, own)
                    number, start, rows = number + 1, start + rows, 0
                    shard, digest = Shard(number, start, start, ""), hashlib.sha256(place.stem.encode())
                    own = hashlib.sha256()
            bar.update(len(batch))
    if rows or not number:
        yield _ended(shard, rows, digest, own)


def _ended(shard: Shard, rows: int, digest: Any, own: Any) -> Shard:
    shard.stop, shard.key, shard.posts = shard.start + rows, digest.hexdigest()[:40], own.hexdigest()[:40]
    return shard


def _post(row: dict[str, Any]) -> bytes:
    return json.dumps([row["post_id"], row["text"], row["images"]]).encode()


def _posts_digest(posts: pa.Table) -> str:
    digest = hashlib.sha256()
    for row in posts.select(CONTENT).to_pylist():
        digest.update(_post(row))
    return digest.hexdigest()[:40]


def _content(look: Callable[[str], Any], row: dict[str, Any], fold: int | None, learnt: bool) -> bytes:
    """What the predictions of a post depend on."""
    seen = [look(path) for path in row["images"]]
    return json.dumps([row["post_id"], row["text"], row["images"], seen, fold, learnt]).encode()


def _check(place: Place, shard: Shard, posts: pa.Table) -> None:
    """DataError where posts and pictures are not what they were when the shard was planned, or are not so from here.

    Pictures in object storage are not looked at again: a storage that fails has said so by itself.
    """
    if isinstance(place.root, Bucket):
        if shard.posts and _posts_digest(posts) != shard.posts:
            raise DataError(f"{place.posts} is not what it was at the start of the run; nothing of this shard is kept")
        return
    look = _looker(place.root)
    digest, learnt = hashlib.sha256(place.stem.encode()), set(shard.learnt)
    for at, row in enumerate(posts.to_pylist()):
        digest.update(_content(look, row, shard.folds.get(at), at in learnt))
    if shard.key and digest.hexdigest()[:40] != shard.key:
        raise DataError(
            f"pictures below {place.root}, or posts in {place.posts}, are not those of the start of the run (a disk "
            "that is gone, files that change?); nothing of this shard is kept, run again"
        )


def _looker(root: Root) -> Callable[[str], Any]:
    """What tells the state of an image: what changes when it does, and None where there is none."""
    return Versions(root).__getitem__ if isinstance(root, Bucket) else partial(_state, root)


def _state(root: Path, relative: str) -> tuple[int, int] | None:
    """Size and time of an image; None where there is none to look at."""
    try:
        found = os.stat(os.path.join(root, relative))
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def score_shard(
    predictor: Predictor, place: Place, shard: Shard, tick: Callable[[int], Any] = lambda _: None
) -> dict[str, pa.Table]:
    """The predictions of a shard by task, in its order; `tick` is told how many posts are done, batch by batch."""
    posts = span(place.posts, shard.start, shard.stop, CONTENT)
    size = place.batch_size

    def work(start: int) -> dict[str, pa.Table]:
        return _score_batch(predictor, place, shard, start, posts.slice(start, size).to_pylist())

    parts: dict[str, list[pa.Table]] = {task: [] for task in predictor.targets}
    for found in in_order(work, range(0, len(posts), size), workers=cores() + BATCHES_AHEAD):
        for task, table in found.items():
            parts[task].append(table)
        tick(len(table))
    _check(place, shard, posts)  # what vanished meanwhile would else be kept as missing
    schemas = {task: prediction_schema(target) for task, target in predictor.targets.items()}
    return {task: pa.concat_tables([schemas[task].empty_table(), *tables]) for task, tables in parts.items()}


def _score_batch(
    predictor: Predictor, place: Place, shard: Shard, start: int, rows: list[dict[str, Any]]
) -> dict[str, pa.Table]:
    with predictor.clock.doing("read"):
        loaded = images.load_many(place.root, [row["images"] for row in rows], limit=predictor.max_images)
        inputs = [
            PostInputs(row["text"], [(images.content_hash(data), data) for data in found.data])
            for row, found in zip(rows, loaded, strict=True)
        ]
    unread = ["; ".join(f"{code}: {detail}" for code, detail in found.lost) for found in loaded]
    folds = [shard.folds.get(at) for at in range(start, start + len(rows))]
    learnt = {at - start for at in shard.learnt}
    said = predictor.score(inputs, folds)
    with predictor.clock.doing("answer"):
        return {
            task: pa.Table.from_pylist(
                [
                    table_row(row["post_id"], one, lost, in_train=at in learnt, fold=fold)
                    for at, (row, one, lost, fold) in enumerate(zip(rows, found, unread, folds, strict=True))
                ],
                schema=prediction_schema(predictor.targets[task]),
            )
            for task, found in said.items()
        }


def folds_of_posts(sources: list[Path], labelled: dict[str, int]) -> dict[str, int]:
    """The fold of each post of a corpus, by id, where a student of cross-fitting must not have seen it.

    That is the fold of a labelled post itself, and of those by its author or with its very content: of the students
    that learnt from their twin, none is to speak of them.
    """
    if not labelled:
        return {}
    known = pa.array(list(labelled), pa.string())
    by_author: dict[str, int] = {}
    by_content: dict[str, int] = {}
    for rows in _kin(sources):
        own = rows.filter(pc.is_in(rows["post_id"], known))
        for post_id, author, content in zip(*(own[name].to_pylist() for name in KIN), strict=True):
            by_content.setdefault(content, labelled[post_id])
            if author is not None:
                by_author.setdefault(author, labelled[post_id])
    authors, contents = pa.array(list(by_author), pa.string()), pa.array(list(by_content), pa.string())
    found: dict[str, int] = {}
    for rows in _kin(sources):
        related = pc.or_kleene(pc.is_in(rows["author"], authors), pc.is_in(rows["content"], contents))
        kin = rows.filter(related)  # a labelled post is its own content, or that of an earlier one
        for post_id, author, content in zip(*(kin[name].to_pylist() for name in KIN), strict=True):
            found[post_id] = labelled.get(post_id, by_content.get(content, by_author.get(author, -1)))
    return found


def _kin(sources: list[Path]) -> Iterator[pa.Table]:
    """What posts may share, shard by shard: author, and content by the id of the first post that has it."""
    for source in sources:
        read = pq.read_table(source, columns=["post_id", "author", "duplicate_of"])
        yield read.append_column("content", pc.coalesce(read["duplicate_of"], read["post_id"]))
