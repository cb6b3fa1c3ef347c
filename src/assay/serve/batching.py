"""Posts of all clients become batches: what comes while the model works is its next batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from assay.encode.extract import PostInputs
from assay.errors import AssayError, Refusal

Score = Callable[[Sequence[PostInputs]], dict[str, list[Any]]]


@dataclass
class _Waiting:
    """The posts of one request and whoever waits for them."""

    posts: Sequence[PostInputs]
    future: asyncio.Future[list[dict[str, Any]]]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """One queue for one model, and a thread of work for each copy of it; made inside a running event loop."""

    def __init__(
        self,
        scores: Sequence[Score],
        *,
        batch: int,
        queue: int,
        wait_s: float,
        most_wait_s: float = float("inf"),
        threads: int | None = None,
    ) -> None:
        """`queue`: the most posts that wait; `wait_s`: how long the first of a batch waits for others.

        `most_wait_s`: the longest wait, at the pace of late, at which a request is still taken; `threads`: how many
        threads torch may use for each copy.
        """
        self.batch, self.queue, self.wait_s, self.most_wait_s = batch, queue, wait_s, most_wait_s
        self._free = deque(scores)
        self._copies = len(scores)
        self._idle = asyncio.Semaphore(len(scores))
        self._working: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.batches = self.posts = 0
        self._requests: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._worker = ThreadPoolExecutor(len(scores), "model", initializer=partial(_limit_threads, threads))
        self._spent = 0.02  # seconds a post, of late
        self._closing = False
        self._task = asyncio.create_task(self._run())

    def admit(self, count: int, also: int = 0) -> None:
        """Refusal 503 where so many posts more, beside `also` others, would wait for too long."""
        if self._closing:
            raise Refusal(503, "shutting_down", "the server is shutting down", retry_after_s=5)
        there = self.waiting + also
        wait = there * self._spent
        if there + count > self.queue or (there > self.batch and wait > self.most_wait_s):
            raise Refusal(503, "too_busy", f"{there} posts are waiting already", retry_after_s=wait)

    async def submit(self, posts: Sequence[PostInputs], timeout_s: float) -> list[dict[str, Any]]:
        """The predictions of a request's posts, by task; Refusal 503 where too many wait or time is up."""
        self.admit(len(posts))
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
        if self._working:
            await asyncio.wait(self._working)
        self._worker.shutdown()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            if not self._requests:
                if self._closing:
                    return
                self._news.clear()
                continue
            await self._idle.acquire()  # what comes while all copies work is collected when one is free
            taken = await self._collect()
            if not taken:
                self._idle.release()
                continue
            task = asyncio.create_task(self._work(taken, self._free.popleft()))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

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

    async def _work(self, taken: list[_Waiting], score: Score) -> None:
        posts = [post for one in taken for post in one.posts]
        started = time.monotonic()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._worker, score, posts)
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
            self._free.append(score)
            self._idle.release()
            self.waiting -= len(posts)
            self.batches += 1
            self.posts += len(posts)
            pace = (time.monotonic() - started) / len(posts) / self._copies
            self._spent += 0.2 * (pace - self._spent)


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
