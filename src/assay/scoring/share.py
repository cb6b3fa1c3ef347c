"""What machines without a common disk have in common: posts go to object storage, finished shards come back from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from assay.buckets import Bucket
from assay.durable import file_digest
from assay.posts import shards as files_of
from assay.progress import progress
from assay.scoring.shards import Place, Shard


class Part(NamedTuple):
    """A file of the posts, and which of their rows it holds."""

    name: str
    start: int
    stop: int


class Share:
    """A folder of object storage; what lies in it is named by its content, and never changed."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def send(self, posts: Path) -> list[Part]:
        """Put the posts there, file by file, where they are not; returns which holds what."""
        files = files_of(posts)
        digests = " ".join(map(file_digest, files))
        folder = f"posts/{hashlib.sha256(digests.encode()).hexdigest()[:32]}"
        parts: list[Part] = []
        for path in progress(files, what="infer: send", total=len(files), unit="file"):
            name, start = f"{folder}/{path.name}", parts[-1].stop if parts else 0
            if not self.bucket.has(name):
                self.bucket.write(name, path.read_bytes())
            parts.append(Part(name, start, start + pq.read_metadata(path).num_rows))
        return parts

    def fetch(self, place: Place, shard: Shard, parts: Sequence[Part]) -> tuple[Place, Shard]:
        """Place and shard as they are on the machine that asks, once it has the files that hold the shard."""
        own = [part for part in parts if part.start < shard.stop and part.stop > shard.start]
        folder = self.bucket.fetched([part.name for part in own])
        first = own[0].start if own else 0
        return replace(place, posts=folder), replace(shard, start=shard.start - first, stop=shard.stop - first)

    def keep(self, shard: Shard, scored: dict[str, pa.Table]) -> None:
        """Put a finished shard there; the last file of several says that it is whole."""
        for task, table in scored.items():
            self.bucket.write(_name(shard, task), as_bytes(table))

    def finished(self, shard: Shard, tasks: Sequence[str]) -> dict[str, pa.Table] | None:
        """The predictions of a shard by task; None where it is not finished."""
        try:
            found = {task: self.bucket.read(_name(shard, task)) for task in reversed(tasks)}
        except FileNotFoundError:
            return None
        return {task: as_table(found[task]) for task in tasks}


def as_bytes(table: pa.Table) -> bytes:
    """A table as it travels between machines."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def as_table(data: bytes) -> pa.Table:
    """The table of such bytes."""
    return pa.ipc.open_stream(data).read_all()


def _name(shard: Shard, task: str) -> str:
    return f"predictions/{hashlib.sha256(f'{shard.key} {task}'.encode()).hexdigest()[:40]}.arrow"
