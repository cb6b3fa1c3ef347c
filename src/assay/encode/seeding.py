"""Random numbers and threads of torch, set on purpose."""

from __future__ import annotations

import torch

from assay.progress import cores


def seed_everything(seed: int) -> None:
    """Make torch repeatable on this machine, and use all cores."""
    torch.manual_seed(seed)
    torch.set_num_threads(cores())


def one_thread() -> None:
    """For a thread beside which others compute: torch uses one core in it, where it works on a CPU."""
    torch.set_num_threads(1)
