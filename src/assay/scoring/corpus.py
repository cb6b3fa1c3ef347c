"""Scores a whole corpus, shard by shard; finished shards outlive a kill and are never done twice.

A finished shard waits in places.home() under a key of model and posts; at the end all are copied into the output
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from assay import durable
from assay.buckets import Root
from assay.code import reach_digest
from assay.config import Infer
from assay.encode import cache
from assay.encode.graph import had
from assay.errors import DataError
from assay.places import home
from assay.posts import shards, write_table
from assay.progress import progress, say
from assay.scoring.exported import FACTS, FOLDER
from assay.scoring.predict import Predictor
from assay.scoring.run_log import RunLog
from assay.scoring.shards import Place, Shard, folds_of_posts, plan, score_shard
from assay.student.trained import model_digest

KEEP_S = 7 * 86_400
ROW_BYTES = 100  # of a prediction on disk, with room to spare
SAY_BYTES = 2**30  # features that take more than this are announced


def infer(
    model: Path,
    posts: Path,
    root: Root,
    split: Path,
    outs: dict[str, Path],
    *,
    settings: Infer,
    max_pixels: int,
) -> tuple[dict[str, Any], RunLog]:
    """Score every post of `posts`, images read below `root`; returns the figures of infer.json and the run's log.

    `outs` names the folder of each task's predictions; a joint student answers all in one pass. Finished shards stay
    for a week, so that another run with the same inputs has them.
    """
    most = None if settings.cache is None else int(settings.cache * 2**30)
    given: dict[str, Any] = {"max_pixels": max_pixels, "most_cached": most, "precision": settings.precision}
    predictor = Predictor.load(model, **given, hub=True)  # params names its encoders
    if set(outs) != set(predictor.targets):
        raise DataError(f"{model} answers {', '.join(predictor.targets)}, not {', '.join(outs)}; train again")
    fold_of = folds_of_posts(shards(posts), predictor.trained.fold_of)
    learnt = set() if fold_of else _learnt(split)
    graph = model / FOLDER / FACTS
    own = graph.read_text() if graph.exists() else ""
    stem = " ".join([model_digest(model), own, str(max_pixels), had(settings.precision), reach_digest(__file__)])
    place = Place(posts.resolve(), root.resolve() if isinstance(root, Path) else root, settings.batch_size, stem)
    most_images = predictor.max_images
    planned = list(
        plan(place, shard_posts=settings.shard_posts, learnt=learnt, fold_of=fold_of, most_images=most_images)
    )
    done = _Finished(home() / "inference", list(outs))
    waiting = [shard for shard in planned if not done.has(shard)]
    total = sum(shard.stop - shard.start for shard in planned)
    if resumed := len(planned) - len(waiting):
        say(f"infer: {resumed} of {len(planned)} shards were finished before and are kept")
    if had(settings.precision) != settings.precision and waiting:
        say(f"infer: graphs are not computed in {settings.precision} here, but in {had(settings.precision)}")
    _check_disk(waiting, predictor, most, len(outs))
    log = RunLog()
    with progress(what="infer", total=total) as bar:
        bar.update(total - sum(shard.stop - shard.start for shard in waiting))
        if settings.engine == "ray":
            from assay.scoring.cluster import score_on_ray

            found = score_on_ray(model, place, waiting, bar.update, tasks=list(outs), settings=settings, given=given)
        else:
            found = ((shard, score_shard(predictor, place, shard, bar.update), {}) for shard in waiting)
        for shard, scored, elsewhere in found:
            predictor.clock.add(elsewhere)
            with predictor.clock.doing("write"):
                done.keep(shard, scored)
            log.add(next(iter(scored.values()))["status"].to_pylist())
    log.end(predictor.clock.spent())
    status: Counter[str] = Counter()
    for task, out in outs.items():
        status = done.put(task, planned, out)
        if sum(status.values()) != total:
            raise DataError(f"{total} posts but {sum(status.values())} predictions; please report this")
    figures = {
        "posts": total,
        "scored": total - status["failed"],
        "status": {name: status[name] for name in ("ok", "text_only", "image_only", "failed")},
        "in_train": len(learnt),
        "out_of_fold": len(fold_of),
        "shards": len(planned),
    }
    return figures, log


@dataclass
class _Finished:
    """The shards that are finished, of this run and of earlier ones."""

    folder: Path
    tasks: list[str]

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        durable.sweep(self.folder)
        for path in self.folder.glob("*.parquet"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > KEEP_S:
                    durable.remove(path)

    def path(self, shard: Shard, task: str) -> Path:
        return self.folder / f"{hashlib.sha256(f'{shard.key} {task}'.encode()).hexdigest()[:40]}.parquet"

    def has(self, shard: Shard) -> bool:
        """Whether a shard is there for all tasks, as it was written."""
        whole = all(durable.is_whole(self.path(shard, task), pq.read_table) for task in self.tasks)
        for path in [self.path(shard, task) for task in self.tasks] if whole else []:
            if time.time() - path.stat().st_mtime > KEEP_S / 7:
                os.utime(path)  # it is in use: another run is not to forget it
        return whole

    def keep(self, shard: Shard, scored: dict[str, Any]) -> None:
        for task, table in scored.items():
            write_table(table, self.path(shard, task))
            durable.sign(self.path(shard, task))

    def put(self, task: str, planned: list[Shard], out: Path) -> Counter[str]:
        """Copy all shards of a task into the folder of its predictions; how many posts have each status."""
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob("part-*.parquet"):
            left.unlink()
        status: Counter[str] = Counter()
        for shard in planned:
            found = pq.read_table(self.path(shard, task), columns=["status"])["status"].value_counts()
            status.update({one["values"]: one["counts"] for one in found.to_pylist()})
            shutil.copyfile(self.path(shard, task), out / f"part-{shard.number:05d}.parquet")
        return status


def _check_disk(waiting: list[Shard], predictor: Predictor, most: int | None, tasks: int) -> None:
    """DataError where the disk has no room for what scoring will keep; large amounts of features are announced."""
    posts = sum(shard.stop - shard.start for shard in waiting)
    there, whole = predictor.cached_bytes(posts, sum(shard.pictures for shard in waiting))
    features = max(0, (whole if most is None else min(whole, most)) - there)
    needed, free = features + 2 * posts * tasks * ROW_BYTES, shutil.disk_usage(home()).free
    if features > SAY_BYTES:
        say(f"infer: features of {posts} posts are kept in {cache.folder()}, up to {features / 2**30:.1f} GiB")
    if needed > free:
        raise DataError(
            f"infer: features and predictions of {posts} posts take about {needed / 2**30:.1f} GiB, and {home()} has "
            f"{free / 2**30:.1f} GiB free; set infer.cache to fewer GiB (0: keep no more features), or ASSAY_HOME to "
            "another disk"
        )


def _learnt(split: Path) -> set[str]:
    table = pq.read_table(split, columns=["post_id", "split"])
    return {i for i, s in zip(*(table[c].to_pylist() for c in ("post_id", "split")), strict=True) if s == "train"}
