"""Raw layouts -> post table: reader, parallel mapper, writer, with every source row accounted for."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from assay.authors import fingerprint
from assay.code import reach_digest
from assay.corpora.base import Layout, Row
from assay.corpora.leftovers import Files
from assay.corpora.mapper import STAGE, Mapped, Mapper, Rules
from assay.corpora.repeats import repeats
from assay.errors import AssayError, CorpusError, DataError
from assay.parallel import processes
from assay.posts import PROBLEM_SCHEMA, Problem, ShardWriter, problems_table, schema
from assay.progress import cores, progress, say

CHUNK = 512
SHOWN = 6  # kinds of what was not understood, in the line of log
UNDERSTOOD_NOT = ("unreadable_", "bad_", "cut_", "not_a_post", "stray_quote", "duplicate_column", "rounded_id")


def ingest(
    layout: Layout, rules: Rules, *, posts: Path, problems: Path, engine: Literal["local", "ray"] = "local"
) -> dict[str, Any]:
    """Write the post table and the problems table of a corpus; returns the accounting.

    Rows are mapped by processes of this machine, or on Ray, whose workers must reach the corpus by the same paths.

    The order of rows is the layout's, whatever the number of workers. Memory is bounded by the
    chunks in flight and one shard; which ids and contents were seen is kept on disk.
    """
    arrow = schema(layout.gold, {"corpus": rules.corpus, "author_key": fingerprint(rules.author_key)})
    writer = ShardWriter(posts, arrow, rules.shard_posts)
    tally, files = _Tally(), Files()
    problems.parent.mkdir(parents=True, exist_ok=True)
    partial = problems.with_name(f".{problems.name}.tmp")
    with (
        tempfile.TemporaryDirectory(prefix="assay-ingest-") as scratch,
        pq.ParquetWriter(partial, PROBLEM_SCHEMA, compression="zstd") as problem_writer,
        progress(what="ingest") as bar,
    ):
        seen = _Seen(Path(scratch) / "seen.sqlite")
        for mapped, size in (_map_on_ray if engine == "ray" else _map)(layout, rules):
            keep = _keep_new(mapped, seen)
            tally.add(mapped, size)
            if mapped.problems:
                problem_writer.write_table(problems_table(mapped.problems))
            table = pa.table(mapped.posts, schema=arrow)
            writer.write(table if all(keep) else table.filter(pa.array(keep, pa.bool_())))
            files.add(mapped.files)
            bar.update(size)
        writer.close()
        seen.close()
        left = list(files.unread(layout, STAGE))
        if left:
            problem_writer.write_table(problems_table(left))
        tally.add_unread(left)
    partial.replace(problems)
    found = tally.accounting(rules.corpus, writer.written, problems, layout.counts)
    return found | {"repeated": repeats(posts)}


class _Tally:
    """Counts of rows and problems, and what is worth a word to the user."""

    def __init__(self) -> None:
        self.rows = self.degraded = self.named = self.usable = 0
        self.by_code: Counter[tuple[str, str]] = Counter()
        self.first: Problem | None = None
        self.example: dict[tuple[str, str], Problem] = {}

    def add(self, mapped: Mapped, rows: int) -> None:
        """Count a chunk of `rows` source rows."""
        self.rows += rows
        self.by_code.update((problem.severity, problem.code) for problem in mapped.problems)
        for problem in mapped.problems:
            self.example.setdefault((problem.severity, problem.code), problem)
        self.degraded += len({problem.source for problem in mapped.problems if problem.severity == "degraded"})
        self.named += mapped.named
        self.usable += sum(len(images) for images in mapped.posts["images"])
        self.first = self.first or next(iter(mapped.problems), None)

    def add_unread(self, left: list[Problem]) -> None:
        """Count files that nothing was read from."""
        self.by_code.update((problem.severity, problem.code) for problem in left)
        for problem in left:
            self.example.setdefault((problem.severity, problem.code), problem)

    def not_understood(self) -> str:
        """What was not understood, by code, each with an example; "" where all was."""
        shown = [
            f"{n} {code} (such as {self.example[severity, code].source}: {self.example[severity, code].detail[:80]})"
            for (severity, code), n in self.by_code.most_common()
            if severity == "unread" or code.startswith(UNDERSTOOD_NOT)
        ]
        return "; ".join(shown[:SHOWN]) + (f"; {len(shown) - SHOWN} kinds more" if len(shown) > SHOWN else "")

    def accounting(self, corpus: str, posts: int, problems: Path, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
        """The figures of a corpus; CorpusError when it gave no post, DataError when rows went missing."""
        if self.rows == 0:
            raise CorpusError(f"corpus {corpus}: no source rows found; is this the right folder and kind?")
        example = f"{self.first.source}: {self.first.code} {self.first.detail}".strip() if self.first else ""
        if posts == 0:
            raise CorpusError(
                f"corpus {corpus}: none of {self.rows} rows is a usable post, such as {example}; see {problems}"
            )
        if self.named and not self.usable:
            say(f"ingest: none of {self.named} images of {corpus} can be used, such as {example}; check images_root")
        if self.not_understood():
            say(f"ingest: {corpus}: not understood: {self.not_understood()}; {problems} has all")
        dropped = sum(n for (severity, _), n in self.by_code.items() if severity == "dropped")
        if self.rows != posts + dropped:
            raise DataError(
                f"corpus {corpus}: {self.rows} source rows, but {posts} posts and {dropped} dropped: "
                "accounting is broken, please report this"
            )
        return {
            "source_rows": self.rows,
            "posts": posts,
            "dropped": {"total": dropped, **_of(self.by_code, "dropped")},
            "degraded": {"total": self.degraded, **_of(self.by_code, "degraded")},
            "unread": {"total": sum(_of(self.by_code, "unread").values()), **_of(self.by_code, "unread")},
        } | ({"files": counts} if counts else {})


def _of(by_code: Counter[tuple[str, str]], severity: str) -> dict[str, int]:
    return {code: n for (level, code), n in sorted(by_code.items()) if level == severity}


def _keep_new(mapped: Mapped, seen: _Seen) -> list[bool]:
    """Drop ids that came before, and fill in `duplicate_of`; problems of a dropped row go with it."""
    keep: list[bool] = []
    gone: dict[str, Problem] = {}
    for i, post_id in enumerate(mapped.posts["post_id"]):
        first = seen.add_id(post_id)
        keep.append(first)
        if first:
            mapped.posts["duplicate_of"][i] = seen.first_with(mapped.digests[i], post_id)
        else:
            source = mapped.sources[i]
            gone[source] = Problem(post_id, source, STAGE, "duplicate_id", "dropped", "an earlier row has this id")
    if gone:
        mapped.problems = [p for p in mapped.problems if p.source not in gone] + list(gone.values())
    return keep


class _Seen:
    """Which post ids and which contents were seen, on disk, so that memory stays bounded."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;"
            "CREATE TABLE ids(id BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE contents(digest BLOB PRIMARY KEY, post_id TEXT) WITHOUT ROWID; BEGIN;"
        )

    def add_id(self, post_id: str) -> bool:
        """True the first time that this id comes."""
        key = hashlib.blake2b(post_id.encode(), digest_size=16).digest()
        return self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (key,)).rowcount == 1

    def first_with(self, digest: bytes, post_id: str) -> str | None:
        """The earlier post with this content, or None if this one is the first."""
        if self._db.execute("INSERT OR IGNORE INTO contents VALUES (?, ?)", (digest, post_id)).rowcount == 1:
            return None
        row = self._db.execute("SELECT post_id FROM contents WHERE digest = ?", (digest,)).fetchone()
        return str(row[0])

    def close(self) -> None:
        self._db.close()


# -------------------------------------------------------------------------------- the workers


def _map(layout: Layout, rules: Rules) -> Iterator[tuple[Mapped, int]]:
    """Map chunks of rows in order, in worker processes when there is more than one chunk of work."""
    rows = layout.rows()
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    start = list(islice(chunks, 3))
    workers = cores()
    if workers == 1 or len(start) < 3:
        mapper = Mapper(layout, rules)
        for chunk in _chain(start, chunks):
            yield mapper(chunk), len(chunk)
        return
    with ProcessPoolExecutor(workers, processes(), _start_worker, (layout, rules)) as pool:
        for future, size in _ahead(lambda chunk: pool.submit(_work, chunk), _chain(start, chunks), 2 * workers + 2):
            yield future.result(), size


def _map_on_ray(layout: Layout, rules: Rules) -> Iterator[tuple[Mapped, int]]:
    """The same by tasks of a Ray cluster; one whose worker is lost is done again."""
    from assay.clusters import connected, told

    rows = layout.rows()
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    with connected("corpora.engine", 1) as ray:
        given = ray.put((layout, rules))
        work = ray.remote(num_cpus=1, max_retries=3)(_on_ray)
        seen = [(str(root), root.stat().st_mtime_ns) for root in layout.roots if isinstance(root, Path)]
        code, most = reach_digest(__file__), 2 * int(ray.cluster_resources().get("CPU", 1)) + 2
        try:
            for reference, size in _ahead(lambda chunk: work.remote(given, chunk, code, seen), chunks, most):
                yield ray.get(reference), size
        except ray.exceptions.RayError as error:
            raise told(error) from error


def _on_ray(given: tuple[Layout, Rules], chunk: list[Row], code: str, seen: list[tuple[str, int]]) -> Mapped:
    from assay.clusters import TOLD, check_version

    check_version(__file__, code)
    for root, time in seen:  # without the corpus every picture would be missing
        if not Path(root).exists() or Path(root).stat().st_mtime_ns != time:
            raise RuntimeError(f"{TOLD}{root} is not there on this worker, or another one; mount the same corpus")
    try:
        return Mapper(*given)(chunk)
    except AssayError as error:
        raise RuntimeError(f"{TOLD}{error}") from error


def _ahead(submit: Callable[[list[Row]], Any], chunks: Iterator[list[Row]], most: int) -> Iterator[tuple[Any, int]]:
    """What stands for the work on each chunk, in order, and its rows; `most` chunks are in work at once."""
    running: deque[tuple[Any, int]] = deque()
    for chunk in chunks:
        running.append((submit(chunk), len(chunk)))
        if len(running) > most:
            yield running.popleft()
    yield from running


def _chain(start: list[list[Row]], rest: Iterator[list[Row]]) -> Iterator[list[Row]]:
    yield from start
    yield from rest


_mapper: Mapper | None = None


def _start_worker(layout: Layout, rules: Rules) -> None:
    global _mapper
    _mapper = Mapper(layout, rules)


def _work(chunk: list[Row]) -> Mapped:
    if _mapper is None:
        raise RuntimeError("worker was not started")
    return _mapper(chunk)
