"""Scores a whole corpus, shard by shard; finished shards outlive a kill and are never done twice.

A finished shard waits in places.home() under a key of model and input shard; at the end all are
copied into the output folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay import durable, images
from assay.code import reach_digest
from assay.encode.features import PostInputs
from assay.errors import DataError
from assay.places import home
from assay.posts import shards, write_table
from assay.progress import progress, say
from assay.scoring.predict import Predictor
from assay.scoring.prediction import prediction_schema, table_row
from assay.scoring.run_log import RunLog
from assay.student.model import folder_digest

KEEP_S = 7 * 86_400


def infer(
    model: Path,
    posts: Path,
    root: Path,
    split: Path,
    outs: dict[str, Path],
    *,
    batch_size: int,
    max_pixels: int,
    manifest: Path,
) -> tuple[dict[str, Any], RunLog]:
    """Score every post of `posts`, images read below `root`; returns the figures of infer.json and the run's log.

    `outs` names the folder of each task's predictions; a joint student answers all in one pass.
    `manifest` says which state the raw corpus is in: shards finished before an image changed are not
    taken over. Finished shards stay for a week, so that another run with the same inputs has them.
    """
    predictor = Predictor.load(model, max_pixels=max_pixels, hub=True)  # params.yaml names its encoders
    if set(outs) != set(predictor.targets):
        raise DataError(f"{model} answers {', '.join(predictor.targets)}, not {', '.join(outs)}; train again")
    sources = shards(posts)
    fold_of = folds_of_posts(sources, predictor.trained.fold_of)
    learnt = set() if fold_of else _learnt(split)
    stem = hashlib.sha256(
        " ".join(
            [folder_digest(model), _digest(split), _digest(manifest), str(max_pixels), reach_digest(__file__)]
        ).encode()
    ).hexdigest()
    waiting = home() / "inference"
    waiting.mkdir(exist_ok=True)
    _forget_old(waiting)
    finished = [{task: waiting / f"{_key(stem + task, source)}.parquet" for task in outs} for source in sources]
    durable.sweep(waiting)
    whole = [all(durable.is_whole(path, pq.read_table) for path in paths.values()) for paths in finished]
    resumed = sum(whole)
    if resumed:
        say(f"infer: {resumed} of {len(sources)} shards were finished before and are kept")
    rows = [pq.read_metadata(source).num_rows for source in sources]
    total = sum(rows)
    log = RunLog()
    with progress(what="infer", total=total) as bar:
        for source, paths, is_done, count in zip(sources, finished, whole, rows, strict=True):
            if not is_done:
                for task, scored in _score_shard(predictor, source, root, learnt, fold_of, batch_size).items():
                    write_table(scored, paths[task])
                    durable.sign(paths[task])
                log.add(scored["status"].to_pylist())
            bar.update(count)
    log.end()
    status: Counter[str] = Counter()
    for task, out in outs.items():
        out.mkdir(parents=True, exist_ok=True)
        status = Counter()
        for number, paths in enumerate(finished):
            status.update(pq.read_table(paths[task], columns=["status"])["status"].to_pylist())
            shutil.copyfile(paths[task], out / f"part-{number:05d}.parquet")
        if sum(status.values()) != total:
            raise DataError(f"{total} posts but {sum(status.values())} predictions; please report this")
    figures = {
        "posts": total,
        "scored": total - status["failed"],
        "status": {name: status[name] for name in ("ok", "text_only", "image_only", "failed")},
        "in_train": len(learnt),
        "out_of_fold": len(fold_of),
        "shards": len(sources),
    }
    return figures, log


def folds_of_posts(sources: list[Path], labelled: dict[str, int]) -> dict[str, int]:
    """The fold of each post of a corpus, by id, where a student of cross-fitting must not have seen it.

    That is the fold of a labelled post itself, and of those by its author or with its very content: of the students
    that learnt from their twin, none is to speak of them.
    """
    if not labelled:
        return {}
    columns = ["post_id", "author", "duplicate_of"]
    read = pa.concat_tables(pq.read_table(source, columns=columns) for source in sources)
    posts = list(zip(*(read[name].to_pylist() for name in columns), strict=True))
    by_author: dict[str, int] = {}
    by_content: dict[str, int] = {}
    for post_id, author, first in posts:
        if (fold := labelled.get(post_id)) is not None:
            by_content.setdefault(first or post_id, fold)
            if author is not None:
                by_author.setdefault(author, fold)
    found = {
        post_id: labelled.get(post_id, by_content.get(first or post_id, by_author.get(author)))
        for post_id, author, first in posts
    }
    return {post_id: fold for post_id, fold in found.items() if fold is not None}


def _learnt(split: Path) -> set[str]:
    table = pq.read_table(split, columns=["post_id", "split"])
    return {i for i, s in zip(*(table[c].to_pylist() for c in ("post_id", "split")), strict=True) if s == "train"}


def _score_shard(
    predictor: Predictor, source: Path, root: Path, learnt: set[str], fold_of: dict[str, int], batch_size: int
) -> dict[str, pa.Table]:
    rows: dict[str, list[dict[str, Any]]] = {task: [] for task in predictor.targets}
    for batch in _batches(source, batch_size):
        loaded = [images.load(root, row["images"], limit=predictor.max_images) for row in batch]
        inputs = [
            PostInputs(row["text"], [(images.content_hash(data), data) for data in found.data])
            for row, found in zip(batch, loaded, strict=True)
        ]
        unread = ["; ".join(f"{code}: {detail}" for code, detail in found.lost) for found in loaded]
        ids = [row["post_id"] for row in batch]
        folds = [fold_of.get(post_id) for post_id in ids]
        for task, predictions in predictor.score(inputs, folds).items():
            for post_id, fold, lost, prediction in zip(ids, folds, unread, predictions, strict=True):
                rows[task].append(table_row(post_id, prediction, lost, in_train=post_id in learnt, fold=fold))
    return {
        task: pa.Table.from_pylist(found, schema=prediction_schema(predictor.targets[task]))
        for task, found in rows.items()
    }


def _batches(source: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    for batch in pq.ParquetFile(source).iter_batches(batch_size=size, columns=["post_id", "text", "images"]):
        yield batch.to_pylist()


def _forget_old(waiting: Path) -> None:
    for path in waiting.glob("*.parquet"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEEP_S:
                durable.remove(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _key(stem: str, source: Path) -> str:
    return hashlib.sha256(f"{stem} {_digest(source)}".encode()).hexdigest()[:40]
