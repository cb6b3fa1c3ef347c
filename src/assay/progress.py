"""Progress with rate and time left: bars on a terminal, now and then a line in a log."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

EVERY_S = 30.0  # between two lines of log


def progress(
    items: Iterable[Any] | None = None, *, what: str, total: int | None = None, unit: str = "post"
) -> tqdm[Any]:
    """A tqdm bar over `items` (or a bare one to `update`); where nobody watches a terminal a line every 30 s.

    What is done within 30 s says nothing there.
    """
    if sys.stderr.isatty():
        return tqdm(items, desc=what, total=total, unit=unit, leave=False, dynamic_ncols=True)
    return tqdm(
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
