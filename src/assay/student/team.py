"""Several processes that train one student, a GPU each, as `accelerate launch` starts them; usually there is one.

    accelerate launch --num_processes 4 stages/train.py …

Every process draws the same batches and takes its share of each, so that a run of four is the run of one
with the same batch size; gradients are averaged. Only the first process writes files.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import SettingsError
from assay.places import with_extra


class Team:
    """This process and how many there are."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self._accelerator: Any = None

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0

    def prepare(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module as it is called in training: itself, or wrapped so that gradients are averaged."""
        if self.size == 1:
            return module
        if self._accelerator is None:
            try:
                from accelerate import Accelerator, DistributedDataParallelKwargs
            except ImportError as error:
                raise SettingsError(f"several processes need the package accelerate: {with_extra('tune')}") from error
            unused = DistributedDataParallelKwargs(find_unused_parameters=True)
            self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[unused], mixed_precision="no")
        prepared: nn.Module = self._accelerator.prepare(module)
        return prepared

    def device(self, chosen: torch.device) -> torch.device:
        """The GPU of this process where a GPU was chosen."""
        if chosen.type == "cuda" and self.size > 1:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return chosen

    def share(self, rows: Tensor) -> Tensor:
        """This process' part of a batch; never empty."""
        if self.size == 1:
            return rows
        if len(rows) < self.size:
            rows = rows.repeat(self.size)
        return rows[self.rank :: self.size]

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
