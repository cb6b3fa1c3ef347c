"""Posts that come one after another, from a pipe, a table or a folder, scored as they come, in their order."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

from assay import images
from assay.buckets import Bucket
from assay.durable import complete_lines
from assay.errors import DataError, ImageProblem
from assay.parallel import in_order
from assay.progress import cores
from assay.scoring.predict import Predictor
from assay.scoring.prediction import STATUSES

ANSWER = b'{"id": "'  # how an answer on disk begins
BATCH = 64  # posts, of those that wait, that are scored together
AHEAD = 4 * BATCH  # posts that are read before a batch is free: beyond them the source has to wait
LOOK_S = 0.2  # how often the end of a run is looked for while the source is silent


class Stored(NamedTuple):
    """An image in object storage."""

    root: Bucket
    relative: str


@dataclass
class Post:
    """A post of a stream."""

    post_id: str
    text: str = ""
    files: list[Path | bytes | Stored] = field(default_factory=list)
    fault: str | None = None  # why it is no post: it is answered, as failed
    lasting: bool = True  # whether the id will be the same when the source is read again

    def __post_init__(self) -> None:
        self.post_id = self.post_id.encode("utf-8", "replace").decode()  # odd file names, lone surrogates


def answers(
    predictor: Predictor, posts: Iterable[Post], *, task: str | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """A row for each post, in their order: `id` and what Prediction.as_row says, without what is None.

    What waits becomes a batch, so that a slow source is answered post by post and a fast one at full rate; `stop` ends
    the run after the batches that are in work.
    """
    predictor.check_task(task)
    yield from (
        row
        for rows in in_order(lambda batch: _score(predictor, batch, task), _batches(posts, stop), workers=cores() + 1)
        for row in rows
    )


def _batches(posts: Iterable[Post], stop: Callable[[], bool]) -> Iterator[list[Post] | None]:
    """Posts by batches of those that are there; None where nothing is, for now."""
    waiting: Queue[Post | BaseException | None] = Queue(AHEAD)
    ended = threading.Event()
    threading.Thread(target=_read, args=(posts, waiting, ended), daemon=True).start()  # it may wait for a pipe for ever
    try:
        while True:
            batch: list[Post] = []
            end: BaseException | bool = False
            while len(batch) < BATCH and not end:
                try:
                    one = waiting.get(not batch, LOOK_S)
                except Empty:
                    break
                if isinstance(one, Post):
                    batch.append(one)
                else:
                    end = one or True
            yield batch or None
            if isinstance(end, BaseException):
                raise end
            if end or stop():
                return
    finally:
        ended.set()


def _read(posts: Iterable[Post], waiting: Queue[Any], ended: threading.Event) -> None:
    """Fill the queue, and end it with None or with what went wrong."""

    def put(one: Any) -> bool:
        while not ended.is_set():
            try:
                waiting.put(one, timeout=LOOK_S)
                return True
            except Full:
                continue
        return False

    try:
        for post in posts:
            if not put(post):
                return
    except BaseException as error:  # told where it is waited for
        put(error)
    else:
        put(None)


def _score(predictor: Predictor, posts: list[Post], task: str | None) -> list[dict[str, Any]]:
    inputs: list[tuple[str, list[bytes]]] = []
    unread: list[list[str]] = []
    with predictor.clock.doing("read"):
        for post in posts:
            data, lost = [], []
            for one in post.files[: predictor.max_images]:
                try:
                    data.append(_bytes_of(one))
                except ImageProblem as problem:
                    lost.append(str(problem))
            inputs.append((post.text, data))
            unread.append(lost)
    rows = []
    for post, lost, said in zip(posts, unread, predictor.predict_many(inputs, task=task), strict=True):
        row = {name: value for name, value in said.as_row().items() if value is not None}
        if post.fault:
            row = {"status": "failed", "reason": post.fault}
        elif lost:
            row["reason"] = "; ".join([*lost, *([said.reason] if said.reason else [])])
        rows.append(({"id": post.post_id} if post.post_id else {}) | row)
    return rows


def _bytes_of(file: Path | bytes | Stored) -> bytes:
    if isinstance(file, bytes):
        return file
    return images.read_file(file) if isinstance(file, Path) else images.read_bytes(*file)


class Written:
    """A JSONL file of answers that a later run goes on with: what stands in it is not scored again."""

    def __init__(self, path: Path) -> None:
        """DataError where the file holds anything but answers; a last one that a kill cut off is taken away."""
        self.path = path
        self.skipped = 0
        self._ids: set[str] = set()
        end = 0
        if path.exists():
            end = complete_lines(path)
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    if file.tell() > end:
                        self._check_cut(line, number)
                    else:
                        self._ids.add(self._id(line, number))
            with open(path, "ab") as file:
                file.truncate(end)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close

    def _id(self, line: bytes, number: int) -> str:
        try:
            row = json.loads(line)
            if row["status"] not in STATUSES:
                raise ValueError(row["status"])
            return str(row["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._other(number, type(error).__name__) from error

    def _check_cut(self, line: bytes, number: int) -> None:
        """DataError unless what stands behind the last whole line is the beginning of an answer."""
        with contextlib.suppress(ValueError):
            json.loads(line)
            raise self._other(number, "no end of line")
        if not (line.startswith(ANSWER) or ANSWER.startswith(line)):
            raise self._other(number, "not as answers begin")

    def _other(self, number: int, why: str) -> DataError:
        return DataError(f"{self.path}:{number}: no answer of assay predict ({why}); name another --out")

    def new(self, posts: Iterable[Post]) -> Iterator[Post]:
        """The posts whose id had no answer there when it was opened; the others are counted."""
        for post in posts:
            if post.lasting and post.post_id in self._ids:
                self.skipped += 1
            else:
                yield post

    def write(self, line: str) -> None:
        """Add an answer, whole."""
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
