"""Work that several threads do at once, its results in order, with a bound on what waits."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
Taken = ParamSpec("Taken")


if sys.platform != "win32":
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    class _Process(ForkServerProcess):
        """A worker that does not run the user's script again: what it needs, it imports."""

        @staticmethod
        def _Popen(process_obj: BaseProcess) -> Any:
            main = vars(sys.modules["__main__"])
            hidden: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
            main["__spec__"] = None
            try:
                return ForkServerProcess._Popen(process_obj)
            finally:
                main.pop("__spec__")
                main.update(hidden)

    class _Context(ForkServerContext):
        Process = _Process


def processes() -> BaseContext:
    """How worker processes begin: from a server that is forked while there are no threads; on Windows, by themselves.

    Elsewhere a script without `if __name__ == "__main__"` may start them too.
    """
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    return _Context()


def without_loop(work: Callable[Taken, Made]) -> Callable[Taken, Made]:
    """A function that runs an asyncio loop of its own, made fit for where one runs already, as in a notebook."""

    @wraps(work)
    def fit(*args: Taken.args, **named: Taken.kwargs) -> Made:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return work(*args, **named)
        with ThreadPoolExecutor(1, thread_name_prefix="apart") as apart:
            waiting = apart.submit(work, *args, **named)
            try:
                return waiting.result()
            except KeyboardInterrupt:  # what works elsewhere is told, and ends as it would have here
                interrupt = ctypes.py_object(KeyboardInterrupt)
                for thread in apart._threads:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), interrupt)
                raise

    return fit


def in_order(
    work: Callable[[Given], Made],
    items: Iterable[Given | None],
    *,
    workers: int,
) -> Iterator[Made]:
    """`work` of each item, in their order, by `workers` threads; at most one item a worker waits beyond those in work.

    An item's own error is raised where its result would stand, one of `items` after the results of those before it.
    `items` is read in the caller's thread; a None among them says that there is nothing to do for now, and what is in
    work is waited for.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="work") as pool:
        ahead: deque[Future[Made]] = deque()
        failed: Exception | None = None
        source = iter(items)
        try:
            while True:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as error:
                    failed = error
                    break
                if item is not None:
                    ahead.append(pool.submit(work, item))
                while ahead and (item is None or len(ahead) >= 2 * workers or ahead[0].done()):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
            if failed:
                raise failed
        finally:
            for one in ahead:
                one.cancel()


class Clock:
    """Where the time of many threads goes, in seconds by what they do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, float] = {}

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Count the time within as spent on `what`."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add({what: perf_counter() - began})

    def add(self, spent: Mapping[str, float]) -> None:
        """Count what others spent, too."""
        with self._lock:
            for what, took in spent.items():
                self._spent[what] = self._spent.get(what, 0.0) + took

    def spent(self) -> dict[str, float]:
        """Seconds of all threads together, by what was done."""
        with self._lock:
            return dict(self._spent)

    def __deepcopy__(self, _: object) -> Clock:
        """The same: a copy of what is timed is timed with it."""
        return self


class Turns:
    """Threads take turns within it; a copy of what holds it takes turns with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __deepcopy__(self, _: object) -> Turns:
        return self
