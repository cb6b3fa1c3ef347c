"""Exactly one of several named classes that have an order, such as none < mild < strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from assay.targets.base import Array, Label, Metric, Reading, Value
from assay.targets.classes import ClassesTarget


class RanksTarget(ClassesTarget):
    """Exactly one of the named ranks, lowest first; decisions are the median of a post's probabilities."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("kappa_quadratic", is_share=False),
        Metric("rank_error", higher=False, is_share=False),
        Metric("accuracy"),
        Metric("f1_macro"),
        Metric("f1_weighted", stops=False),
        Metric("auroc", ranking=True, stops=False),
    )
    agreement_level: ClassVar[str] = "ordinal"
    group: ClassVar[str] = "rank"

    kind: Literal["ranks"]  # type: ignore[assignment]

    def form(self) -> str:
        return f"{super().form()[:-1]}, from lowest to highest>"

    def joint(self, values: Sequence[Value]) -> Value:
        """The median; of two middle ones the lower."""
        return self.names[int(np.sort(self.numbers(values))[(len(values) - 1) // 2])]

    def _label(self, shares: Sequence[float], how: str) -> Label:
        """The median of the shares."""
        middle = int(self.chosen(np.array([shares]))[0])
        return Label(self.names[middle], how, [round(p, 6) for p in shares], round(1 - shares[middle], 6))

    def chosen(self, p: Array) -> Array:
        """The first rank up to which half of the probability lies."""
        return np.asarray((np.cumsum(p, axis=1) >= 0.5 - 1e-9).argmax(1))

    def span(self, metric: str) -> float:
        return len(self.names) - 1.0 if metric == "rank_error" else 1.0

    def figures(self, y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
        """Quadratic weighted kappa (Cohen, 1968), the mean distance in ranks, and the figures of classes."""
        y = y.astype(int)
        said, size = self.chosen(p), len(self.names)
        squares = (np.arange(size)[:, None] - np.arange(size)) ** 2
        truth, answer = w @ np.eye(size)[y], w @ np.eye(size)[said]
        by_chance = np.einsum("bi,ij,bj->b", truth, squares, answer) / w.sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = np.where(by_chance > 1e-12, 1 - w @ (y - said) ** 2 / by_chance, np.nan)
        return {
            "kappa_quadratic": kappa,
            "rank_error": w @ np.abs(y - said) / w.sum(1),
            **super().figures(y, p, w, thresholds),
        }

    def errors(self, y: Array, p: Array) -> Array:
        """The expected distance in ranks, as a share of the largest."""
        distance = np.abs(np.arange(len(self.names))[None, :] - y[:, None])
        return np.asarray((p * distance).sum(1) / (len(self.names) - 1))

    def read(self, row: Any, calibrated: Mapping[str, Any], thresholds: Array | None) -> Reading:
        """The prediction set has no gaps."""
        found = super().read(row, calibrated, thresholds)
        if found.prediction_set is None:
            return found
        places = [self.names.index(name) for name in found.prediction_set]
        return found._replace(prediction_set=self.names[min(places) : max(places) + 1])

    def words(self) -> str:
        return f"one of the ranks {' < '.join(self.names)}"
