"""Random numbers and threads of torch, set on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from assay.progress import cores


def seed_everything(seed: int) -> None:
    """Make torch repeatable on this machine, and use all cores."""
    torch.manual_seed(seed)
    torch.set_num_threads(cores())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it torch computes with so many threads; small steps are quicker on one than on two that wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> None:
    """For a thread beside which others compute: torch uses one core in it, where it works on a CPU."""
    torch.set_num_threads(1)
