"""Progress bars with rate and time left, silent where nobody watches a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    items: Iterable[Any] | None = None, *, what: str, total: int | None = None, unit: str = "post"
) -> tqdm[Any]:
    """A tqdm bar over `items` (or a bare one to `update`), disabled when stderr is not a terminal."""
    return tqdm(
        items,
        desc=what,
        total=total,
        unit=unit,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )


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
