"""What a teacher's own noise allows: second answers as predictions of first ones, and the least error there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.measure import metrics
from assay.targets import NUMBER, Target, Value


def noise_ceiling(
    first: Sequence[Value], second: Sequence[Value], weights: np.ndarray, target: Target
) -> dict[str, Any]:
    """How well a teacher's second answers predict its first ones, by the figures that a student is judged by.

    A student may do better: it predicts what the teacher says on average, while a second answer is as noisy as the
    first. With noise of variance s^2 in each answer, the second misses the first by a mean square of 2 s^2, and the
    best there is by s^2: `floor_rmse` of scores is the root of half the mean squared difference. 95 % bootstrap
    intervals over posts; `weights` are inverse inclusion probabilities.
    """
    y, other = target.numbers(first), target.numbers(second)
    p = target.as_predicted(other)
    ranking = {metric.name for metric in target.metrics if metric.ranking}  # which a plain answer has not
    draws = metrics.replicate_weights(weights, np.arange(len(weights)))
    found = {name: metrics.interval(v).rounded() for name, v in metrics.bootstrap(y, p, draws, target).items()}
    kept = {name: figure for name, figure in found.items() if name not in ranking}
    if target.shape == NUMBER:
        squares = draws @ (y - other) ** 2 / draws.sum(1)
        kept["floor_rmse"] = metrics.interval(np.sqrt(squares / 2)).rounded()
    return {"posts": len(y), **kept}
