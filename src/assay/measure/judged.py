"""What evaluation looks at: the test posts, and what everybody says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Judged:
    """The test posts: truth, weights, leakage groups, and everybody's predictions."""

    y: np.ndarray  # scores float [n], class numbers int [n], or labels 0/1 [n, L]
    weights: np.ndarray  # inverse inclusion probabilities [n]
    group: np.ndarray  # [n]
    student: np.ndarray  # scores [n] or probabilities [n, K] or [n, L]
    baselines: dict[str, np.ndarray]
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)  # of labels [L]: of student and baselines
    uncalibrated: np.ndarray | None = None  # the student's probabilities before temperature scaling
    seeds: dict[int, np.ndarray] = field(default_factory=dict)  # predictions of the same student, other seeds
    seed_thresholds: dict[int, np.ndarray] = field(default_factory=dict)
    slices: dict[str, list[Any]] = field(default_factory=dict)  # column -> a value, or a list of values, a post
