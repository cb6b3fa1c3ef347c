"""Resume files of a training run: written whole after an epoch, in places.home()."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay import durable

Curve = dict[str, float]
OVERHEAD = 20  # so many times as long as writing took passes before the next; an epoch may take no longer than that


@dataclass
class State:
    """Where a run stands."""

    epoch: int = 0
    best: float = inf
    best_epoch: int = 0
    waited: int = 0
    curves: list[Curve] = field(default_factory=list)


class Checkpoint:
    """One file; `parts` are the objects whose state a resumed run needs, by name."""

    def __init__(self, path: Path | None, parts: dict[str, Any], *, writes: bool = True) -> None:
        self.path, self.parts, self.writes = path, parts, writes
        self._written, self._took = 0.0, 0.0

    def keep(self, state: State, best: dict[str, Tensor]) -> None:
        """Write all states, unless they were written a moment ago (OVERHEAD); there is never half a file."""
        if self.path is None or not self.writes or monotonic() - self._written < OVERHEAD * self._took:
            return
        began = monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        states = {name: _plain(part.state_dict()) for name, part in self.parts.items()}
        torch.save({**states, "best": best, "state": vars(state)}, partial)
        durable.put_in_place(partial, self.path)
        durable.sign(self.path)
        self._written = monotonic()
        self._took = self._written - began

    def load(self) -> tuple[State, dict[str, Tensor]] | None:
        """Put all states back; None where there is nothing to go on from."""
        if self.path is None:
            return None
        durable.sweep(self.path.parent)
        try:
            if not durable.is_whole(self.path, _loaded):
                return None
            kept = _loaded(self.path)
        except FileNotFoundError:  # a twin of this run has just ended
            return None
        for name, part in self.parts.items():
            found = kept[name]
            if isinstance(part, torch.optim.lr_scheduler.LambdaLR):
                found = found | {"lr_lambdas": [None] * len(part.lr_lambdas)}
            part.load_state_dict(found)
        return State(**kept["state"]), kept["best"]

    def remove(self) -> None:
        """The run has ended."""
        if self.path is not None and self.writes:
            durable.remove(self.path)


def _loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return found


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "lr_lambdas"}


def digest_of(*parts: Any) -> str:
    """A name for a run's resume files: a digest of all that it learns from."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]
