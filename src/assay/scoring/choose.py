"""Which posts a diverse or active sample takes: features of a pool, labels of a first batch, the choice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.buckets import Root
from assay.config import Student, Task
from assay.encode import features as feature_files
from assay.encode.extract import embed
from assay.posts import shards, write_table
from assay.progress import say
from assay.sampling import frame, permanent_number, random_draw, write_choice, write_sample
from assay.scoring.designs import Chosen, active, compress, diverse


def choose(
    posts: Path,
    root: Root,
    out: Path,
    *,
    task: Task,
    student: Student,
    max_pixels: int,
    ask: Callable[[Path, Path], object],
) -> None:
    """Write which posts the sample takes, with inclusion probabilities.

    `ask(sample, labels)` has the first batch of an active sample labelled, as the task's `annotate` would: its
    answers are in the store then, and none of them is paid again.
    """
    settings = task.sample
    ids, _ = frame(posts, None)
    pool = random_draw(ids, settings.pool, settings.seed)
    with tempfile.TemporaryDirectory(prefix="assay-choose-") as folder:
        work = Path(folder)
        write_sample(posts, root, work / "pool", settings=settings, max_pixels=max_pixels, drawn=pool)
        embed(
            work / "pool",
            work / "features",
            student=student,
            image_px=settings.image_px,
            max_images=settings.max_images,
        )
        pool_ids, found, _ = feature_files.load(work / "features")
        features = compress(np.hstack([found.image, found.text]))
        numbers = np.array([permanent_number(settings.seed + 1, post) for post in pool_ids], dtype=np.uint64) / 2.0**64

        def label(rows: np.ndarray) -> np.ndarray:
            say(f"choose: labels for a first batch of {len(rows)} posts")
            taken = pc.field("post_id").isin(pa.array([pool_ids[i] for i in rows]))
            batch = [pq.read_table(path, filters=taken) for path in shards(work / "pool")]
            write_table(pa.concat_tables(batch), work / "first" / "part-00000.parquet")
            ask(work / "first", work / "labels.parquet")
            table = pq.read_table(work / "labels.parquet", columns=["post_id", "value"]).to_pylist()
            values = {row["post_id"]: row["value"] for row in table}
            return task.target.encode([values.get(pool_ids[i]) for i in rows])

        chosen: Chosen
        if settings.design == "diverse":
            chosen = diverse(features, numbers, settings.posts)
        else:
            chosen = active(features, numbers, settings.posts, first=settings.first, label=label, target=task.target)
    within = len(pool_ids) / len(ids)
    write_choice({pool_ids[i]: float(p) * within for i, p in zip(chosen.rows, chosen.p, strict=True)}, out)
    say(f"choose: {len(chosen.rows)} of {len(ids)} posts, {settings.design}, from a pool of {len(pool_ids)}")
