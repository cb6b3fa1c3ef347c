"""Prompts -> images, each once and for ever; the shards say of every image what it is or why there is none."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.audit.kept import ImageStore, Made, key_of
from assay.audit.prompts import Activity, Prompt, prompts, read_activities, take
from assay.audit.sources.base import ImageSource, Request
from assay.config import Audit, FolderSource, Generator
from assay.errors import DataError, PassingFailure
from assay.parallel import without_loop
from assay.plugins import brought
from assay.posts import ShardWriter
from assay.progress import progress, say

LEASE_S = 3600.0  # of a claim: one image may take long where there is no GPU
SHARD_IMAGES = 500
POLL_S = 1.0

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("activity", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("words", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("template", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("noise", pa.int64()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("image", pa.binary()),
        pa.field("image_hash", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("model", pa.string()),
        pa.field("model_hash", pa.string()),
        pa.field("scheduler", pa.string()),
        pa.field("steps", pa.int32()),
        pa.field("guidance", pa.float64()),
        pa.field("dtype", pa.string()),
        pa.field("negative_prompt", pa.string()),
        pa.field("seconds", pa.float64()),
    ]
)
"""A row of the manifest: one image, what it is of, and how it was made."""


@without_loop
def generate(audit: Audit, generator: Generator, activities: Path, out: Path) -> dict[str, Any]:
    """Make what is lacking and write the image shards to `out`; returns the counts of generate.json.

    DataError, after everything made is kept, when there is no image at all, or more than
    `images.max_failed_share` failed for passing reasons.
    """
    known = read_activities(activities)
    if isinstance(generator, FolderSource):
        return _write(_of_folder(audit, generator, known), out, generator, {})
    source = _source(generator, audit)
    wanted = [
        Request(key_of(prompt.text, noise, source.identity), prompt, seed, noise)
        for prompt in prompts(audit, take(known, audit.images.take, audit.images.take_seed))
        for seed in audit.images.seeds
        for noise in [noise_of(seed, prompt.activity, audit)]
    ]
    with ImageStore() as store:
        passing = _make_missing(source, wanted, store)
        if len(passing) > audit.images.max_failed_share * len(wanted):
            counts = Counter(reason.split(":")[0] for reason in passing.values()).most_common()
            raise DataError(
                f"{len(passing)} of {len(wanted)} images failed for passing reasons "
                f"({', '.join(f'{n} {code}' for code, n in counts)}), over images.max_failed_share "
                f"{audit.images.max_failed_share:g}; all images are kept, run again to make the rest"
            )
        return _write(_of_store(wanted, store, passing), out, generator, passing)


def noise_of(seed: int, activity: Activity, audit: Audit) -> int:
    """What random numbers start from: the same for all groups and templates of an activity.

    With `own_noise` another one for each activity: the quirks of one noise, seen in every activity, would else
    pass for findings.
    """
    if not audit.images.own_noise:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {activity.id}".encode()).digest()[:4], "big")


def _source(generator: Generator, audit: Audit) -> ImageSource:
    """What makes a generator's images: by the file of its kind in `sources`, or by a package's module."""
    point = brought("generators").get(generator.kind)
    module = point.load() if point else import_module(f"assay.audit.sources.{generator.kind}")
    source: ImageSource = module.open_source(generator, audit)
    return source


def _make_missing(source: ImageSource, wanted: Sequence[Request], store: ImageStore) -> dict[str, str]:
    """Make what is not kept yet, beside other processes that do; the passing failures by key."""
    missing = {one.key: one for one in wanted}
    for key in store.known(missing):
        del missing[key]
    total, passing = len(missing), dict[str, str]()
    say(f"generate: {len(wanted)} images, {len(wanted) - total} kept from before, {total} to make")
    with progress(what="generate", total=total, unit="image") as bar:

        def keep(request: Request, made: Made | PassingFailure) -> None:
            if isinstance(made, PassingFailure):
                passing[request.key] = made.reason
                store.release(request.key)
            else:
                store.put(request.key, made)
            missing.pop(request.key, None)
            bar.update(1)

        while missing:
            batch = _claimed(missing, store, source.batch)
            if batch:
                try:
                    source.make(batch, keep)
                finally:
                    for one in batch:
                        if one.key in missing:
                            store.release(one.key)
                continue
            for key in store.known(missing):  # another process made it
                del missing[key]
                bar.update(1)
            if missing:
                time.sleep(POLL_S)
    return passing


def _claimed(missing: dict[str, Request], store: ImageStore, size: int) -> list[Request]:
    batch: list[Request] = []
    for key, request in missing.items():
        if len(batch) == size:
            break
        if store.claim(key, LEASE_S):
            batch.append(request)
    return batch


def _of_store(wanted: Sequence[Request], store: ImageStore, passing: dict[str, str]) -> Iterator[tuple[Request, Made]]:
    for start in range(0, len(wanted), SHARD_IMAGES):
        part = wanted[start : start + SHARD_IMAGES]
        made = dict(store.get(one.key for one in part))
        for one in part:
            yield one, made.get(one.key) or Made("failed", passing.get(one.key, "not_made"), None, {})


def _of_folder(audit: Audit, settings: FolderSource, known: list[Activity]) -> Iterator[tuple[Request, Made]]:
    from assay.audit.sources.folder import mapped, read

    for file, request in progress(mapped(settings, audit, known), what="generate", unit="image"):
        yield request, read(settings, file, audit.images.max_pixels)


def _write(
    made: Iterator[tuple[Request, Made]], out: Path, generator: Generator, passing: dict[str, str]
) -> dict[str, Any]:
    """Write the shards; the counts of what they hold."""
    writer = ShardWriter(out, SCHEMA, SHARD_IMAGES)
    status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    first: str | None = None
    negative = getattr(generator, "negative_prompt", None)
    held: list[dict[str, Any]] = []
    for request, one in made:
        row = _row(request.prompt, request, one, negative)
        status[one.status] += 1
        if one.status != "ok":
            first = first or one.reason
            reasons[str(one.reason).split(":")[0]] += 1
        held.append(row)
        if len(held) == SHARD_IMAGES:
            writer.write(pa.Table.from_pylist(held, schema=SCHEMA))
            held = []
    if held:
        writer.write(pa.Table.from_pylist(held, schema=SCHEMA))
    writer.close()
    if not status["ok"]:
        raise DataError(f"no image could be made or read; the first reason: {first}")
    for code, count in sorted(reasons.items()):
        say(f"generate: {count} of {status.total()} images failed: {code}")
    failed = {"total": reasons.total(), **dict(sorted(reasons.items()))}
    return {"images": status.total(), "ok": status["ok"], "failed": failed, "failed_for_now": len(passing)}


def _id(request: Request) -> str:
    """One place of the audit has one id, also where two prompts are the same and share a picture."""
    prompt = request.prompt
    parts = [request.key, prompt.activity.id, prompt.group, prompt.template, request.seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _row(prompt: Prompt, request: Request, made: Made, negative: str | None) -> dict[str, Any]:
    facts = {name: made.facts.get(name) for name in SCHEMA.names if name in made.facts}
    return {
        "image_id": _id(request),
        "activity": prompt.activity.id,
        "category": prompt.activity.category,
        "words": prompt.activity.words,
        "group": prompt.group,
        "template": prompt.template,
        "seed": request.seed,
        "noise": request.noise if request.noise >= 0 else None,
        "prompt": prompt.text,
        "status": made.status,
        "reason": made.reason,
        "image": made.data,
        "image_hash": hashlib.sha256(made.data).hexdigest() if made.data else None,
        "negative_prompt": negative,
        **facts,
    }
