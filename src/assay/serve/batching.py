"""Posts of all clients become batches: what comes while the model works is its next batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from assay.errors import AssayError
from assay.serve.refusal import Refusal
from assay.student.features import PostInputs

Score = Callable[[Sequence[PostInputs]], dict[str, list[Any]]]


@dataclass
class _Waiting:
    """The posts of one request and whoever waits for them."""

    posts: Sequence[PostInputs]
    future: asyncio.Future[list[dict[str, Any]]]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """One queue and one thread of work for one model; made inside a running event loop."""

    def __init__(
        self, score: Score, *, batch: int, queue: int, wait_s: float, most_wait_s: float = float("inf")
    ) -> None:
        """`queue`: the most posts that wait; `wait_s`: how long the first of a batch waits for others.

        `most_wait_s`: the longest wait, at the pace of late, at which a request is still taken.
        """
        self.score, self.batch, self.queue, self.wait_s = score, batch, queue, wait_s
        self.most_wait_s = most_wait_s
        self.waiting = 0
        self.batches = self.posts = 0
        self._requests: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._spent = 0.02  # seconds a post, of late
        self._closing = False
        self._task = asyncio.create_task(self._run())

    async def submit(self, posts: Sequence[PostInputs], timeout_s: float) -> list[dict[str, Any]]:
        """The predictions of a request's posts, by task; Refusal 503 where too many wait or time is up."""
        if self._closing:
            raise Refusal(503, "shutting_down", "the server is shutting down", retry_after_s=5)
        wait = self.waiting * self._spent
        if self.waiting + len(posts) > self.queue or (self.waiting > self.batch and wait > self.most_wait_s):
            raise Refusal(503, "too_busy", f"{self.waiting} posts are waiting already", retry_after_s=wait)
        waiting = _Waiting(posts, asyncio.get_running_loop().create_future())
        self.waiting += len(posts)
        self._requests.append(waiting)
        self._news.set()
        try:
            return await asyncio.wait_for(waiting.future, timeout_s)
        except TimeoutError:
            message = f"no answer within {timeout_s:g} s"
            raise Refusal(503, "timeout", message, retry_after_s=self.waiting * self._spent) from None

    async def close(self) -> None:
        """Finish what was taken, then stop."""
        self._closing = True
        self._news.set()
        await self._task
        self._worker.shutdown()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            if not self._requests:
                if self._closing:
                    return
                self._news.clear()
                continue
            taken = await self._collect()
            if taken:
                await self._work(taken)

    async def _collect(self) -> list[_Waiting]:
        """The requests of the next batch; those that nobody waits for any more are dropped."""
        until = self._requests[0].since + self.wait_s
        while (
            not self._closing
            and sum(len(one.posts) for one in self._requests) < self.batch
            and (left := until - time.monotonic()) > 0
        ):
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                break
        self._news.set()
        taken: list[_Waiting] = []
        size = 0
        while self._requests and (not taken or size + len(self._requests[0].posts) <= self.batch):
            one = self._requests.popleft()
            if one.future.done():
                self.waiting -= len(one.posts)
                continue
            taken.append(one)
            size += len(one.posts)
        return taken

    async def _work(self, taken: list[_Waiting]) -> None:
        posts = [post for one in taken for post in one.posts]
        started = time.monotonic()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._worker, self.score, posts)
        except Exception as error:  # the batch fails, the server lives
            said = str(error) if isinstance(error, AssayError) else type(error).__name__
            for one in taken:
                if not one.future.done():
                    one.future.set_exception(Refusal(500, "model_failed", f"the model failed: {said}"))
        else:
            at = 0
            for one in taken:
                part = slice(at, at + len(one.posts))
                at += len(one.posts)
                if not one.future.done():
                    by_task = {task: values[part] for task, values in found.items()}
                    rows = [{task: values[i] for task, values in by_task.items()} for i in range(len(one.posts))]
                    one.future.set_result(rows)
        finally:
            self.waiting -= len(posts)
            self.batches += 1
            self.posts += len(posts)
            self._spent += 0.2 * ((time.monotonic() - started) / len(posts) - self._spent)
