"""What kinds of target with names share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from assay.targets.base import Array, Target, counted_names, share_of


class NamedTarget(Target):
    """A target with names, each of them a heading of the rubric."""

    names: list[str]
    """What may be answered; each is a heading of the rubric."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {self.names} repeat")
        return self

    def headings(self) -> list[str]:
        return self.names

    def soft(self, values: Sequence[list[float] | None]) -> Array:
        size = len(self.names)
        fit = [v if v is not None and len(v) == size and size > 1 else [np.nan] * size for v in values]
        return np.array(fit, dtype=np.float32).reshape(len(values), size)

    @property
    def estimands(self) -> list[str]:
        return list(self.names)

    def observed(self, values: Sequence[Any], estimand: str) -> Array:
        sets = ([value] if isinstance(value, str) else value for value in values)
        return np.array([np.nan if one is None else estimand in one for one in sets], dtype=float)

    def summary(self, values: Sequence[Any]) -> dict[str, Any]:
        counts = counted_names(values, self.names)
        return {"shares": {name: share_of(count, len(values)) for name, count in counts.items()}}

    def histogram(self, values: Sequence[Any]) -> list[tuple[str, int]]:
        return list(counted_names(values, self.names).items())

    @property
    def groups(self) -> list[str]:
        return list(self.names)
