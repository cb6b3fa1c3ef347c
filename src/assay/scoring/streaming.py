"""Posts that come one after another, from a pipe, a table or a folder, scored as they come, in their order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

from assay import images
from assay.durable import complete_lines
from assay.errors import DataError, ImageProblem
from assay.parallel import in_order
from assay.progress import cores
from assay.scoring.predict import Predictor

BATCH = 64  # posts, of those that wait, that are scored together
AHEAD = 4 * BATCH  # posts that are read before a batch is free: beyond them the source has to wait
LOOK_S = 0.2  # how often the end of a run is looked for while the source is silent


@dataclass
class Post:
    """A post of a stream."""

    post_id: str
    text: str = ""
    files: list[Path | bytes] = field(default_factory=list)
    fault: str | None = None  # why it is no post: it is answered, as failed


def answers(
    predictor: Predictor, posts: Iterable[Post], *, task: str | None = None, stop: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """A row for each post, in their order: `id` and what Prediction.as_row says, without what is None.

    What waits becomes a batch, so that a slow source is answered post by post and a fast one at full rate; `stop` ends
    the run after the posts that have been read.
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
                    data.append(one if isinstance(one, bytes) else images.read_file(one))
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


class Written:
    """A JSONL file of answers that a later run goes on with: what stands in it is not scored again."""

    def __init__(self, path: Path) -> None:
        """DataError where the file is there and holds no answers. A last line that a kill cut off is taken away."""
        self.path = path
        self.ids: set[str] = set()
        self.skipped = 0
        if path.exists():
            end = complete_lines(path)
            with open(path, "rb") as file:
                for number, line in enumerate(file.read(end).splitlines(), 1):
                    try:
                        self.ids.add(str(json.loads(line)["id"]))
                    except (ValueError, TypeError, KeyError) as error:
                        raise DataError(
                            f"{path}:{number}: no answer of assay predict ({type(error).__name__}); name another --out"
                        ) from error
            with open(path, "ab") as file:
                file.truncate(end)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close

    def new(self, posts: Iterable[Post]) -> Iterator[Post]:
        """The posts whose id has no answer there yet; the others are counted."""
        for post in posts:
            if post.post_id in self.ids:
                self.skipped += 1
            else:
                self.ids.add(post.post_id)
                yield post

    def write(self, line: str) -> None:
        """Add an answer, whole."""
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
