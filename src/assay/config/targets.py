"""What a task asks for: a score, one of several classes, or any of several labels."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.config.base import Section


class ScoreTarget(Section):
    """A bounded score; `bands` are the inner edges between the named bands, low to high."""

    kind: Literal["score"]
    min: float = 0.0
    max: float = 10.0
    bands: list[float] = []
    band_names: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        edges = [self.min, *self.bands, self.max]
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"bands {self.bands} must rise, between {self.min} and {self.max}")
        if self.band_names and len(self.band_names) != len(self.bands) + 1:
            raise ValueError(f"band_names needs {len(self.bands) + 1} names for {len(self.bands)} edges")
        return self

    def names_of_bands(self) -> list[str]:
        """The bands' names, low to high; their ranges where params give none."""
        edges = itertools.pairwise([self.min, *self.bands, self.max])
        return self.band_names or [f"{low:g} to {high:g}" for low, high in edges]


class _Named(Section):
    """A target with names, each of them a heading of the rubric."""

    names: list[str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {self.names} repeat")
        return self


class ClassesTarget(_Named):
    """Exactly one of the named classes."""

    kind: Literal["classes"]
    names: Annotated[list[str], Field(min_length=2)]


class LabelsTarget(_Named):
    """Any number of the named labels, also none."""

    kind: Literal["labels"]
    names: Annotated[list[str], Field(min_length=1)]


Target = Annotated[ScoreTarget | ClassesTarget | LabelsTarget, Field(discriminator="kind")]
