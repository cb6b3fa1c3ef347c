"""The noise ceiling: a teacher judged by its own second answers, as a student is judged by its first ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.measure import metrics
from assay.targets import Target, Value


def noise_ceiling(
    first: Sequence[Value], second: Sequence[Value], weights: np.ndarray, target: Target
) -> dict[str, Any]:
    """How well a teacher's second answers predict its first ones, by the figures that a student is judged by.

    A student that learnt from the first answers can hardly do better than the teacher itself. 95 % bootstrap
    intervals over posts; `weights` are inverse inclusion probabilities.
    """
    y, p = target.numbers(first), target.as_predicted(target.numbers(second))
    ranking = {metric.name for metric in target.metrics if metric.ranking}  # which a plain answer has not
    draws = metrics.replicate_weights(weights, np.arange(len(weights)))
    found = {name: metrics.interval(v).rounded() for name, v in metrics.bootstrap(y, p, draws, target).items()}
    return {"posts": len(y), **{name: figure for name, figure in found.items() if name not in ranking}}
