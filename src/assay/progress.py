"""Progress with rate and time left: bars on a terminal, now and then a line in a log, and a file beside a stage."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

EVERY_S = 30.0  # between two lines of log
FILE_S = 1.0  # between two states of the file
_file: Path | None = None
_stage = ""
_hushed = False


def report_to(path: Path | None, stage: str) -> None:
    """Keep a JSON file of how far this process is, until it ends; a killed one leaves it behind.

    It has `stage`, `what`, `done`, `total` (null: not known), `unit`, `per_s` (mean), `seconds` so far,
    `seconds_left` (null: not known), `pid` and `at` (UTC).
    """
    global _file, _stage
    _file, _stage = path, stage
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atexit.register(_forget, path, os.getpid())


def hush() -> None:
    """No bars in this process: another one tells how far its work is."""
    global _hushed
    _hushed = True


def _forget(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a forked worker
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar that also keeps the file."""

    _written = 0.0

    def __init__(self, *args: Any, **given: Any) -> None:
        """Its own counts: of a bar that the environment turns off (TQDM_DISABLE) tqdm keeps none."""
        self._done, self._begun = 0.0, time.monotonic()
        self._what, self._unit = str(given["desc"]), str(given["unit"])
        super().__init__(*args, **given)

    def __enter__(self) -> Self:
        self._write()
        return self

    def __iter__(self) -> Iterator[Any]:
        self._write()
        with contextlib.closing(self):
            for item in self.iterable:
                yield item
                self.update()

    def update(self, n: float | None = 1) -> bool | None:
        self._done += n or 0
        shown = super().update(n)
        if time.monotonic() - self._written >= FILE_S:
            self._write()
        return shown

    def _write(self) -> None:
        if _file is None:
            return
        self._written = time.monotonic()
        elapsed, done, total = self._written - self._begun, int(self._done), self.total
        rate = done / elapsed if elapsed > 0 and done else None
        found = {
            "stage": _stage,
            "what": self._what,
            "done": done,
            "total": total,
            "unit": self._unit,
            "per_s": round(rate, 3) if rate else None,
            "seconds": round(elapsed, 1),
            "seconds_left": round((total - done) / rate, 1) if rate and total is not None else None,
            "pid": os.getpid(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        partial = _file.with_name(f".{_file.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # a full disk stops what writes results, not this
            partial.write_text(json.dumps(found) + "\n")
            partial.replace(_file)


def progress(
    items: Iterable[Any] | None = None, *, what: str, total: int | None = None, unit: str = "post"
) -> tqdm[Any]:
    """A tqdm bar over `items` (or a bare one to `update`); where nobody watches a terminal a line every 30 s.

    What is done within 30 s says nothing there.
    """
    if sys.stderr.isatty():
        return _Bar(items, desc=what, total=total, unit=unit, leave=False, dynamic_ncols=True, disable=_hushed)
    return _Bar(
        items,
        desc=what,
        total=total,
        unit=unit,
        leave=False,
        ncols=0,  # figures without a bar
        delay=EVERY_S,
        mininterval=EVERY_S,
        maxinterval=EVERY_S,
        miniters=1,
        file=_Lines(),
        disable=_hushed,
    )


class _Lines(io.TextIOBase):
    """What a bar would draw over itself, as lines of a log."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        return len(text)


def say(message: str) -> None:
    """One line of log on stderr, above any bar."""
    tqdm.write(message, file=sys.stderr)


def cores() -> int:
    """How many worker processes or threads to use: ASSAY_WORKERS, else the cores we may run on."""
    wanted = os.environ.get("ASSAY_WORKERS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
