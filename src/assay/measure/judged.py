"""What evaluation looks at: the test posts, and what everybody says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Judged:
    """The posts that are judged by, of a test split or of all folds: truth, weights, leakage groups, predictions.

    Thresholds are [L], or [n, L] where those of a fold were fitted on the others.
    """

    y: np.ndarray  # scores float [n], class numbers int [n], or labels 0/1 [n, L]
    weights: np.ndarray  # inverse inclusion probabilities [n]
    group: np.ndarray  # [n]
    student: np.ndarray  # scores [n] or probabilities [n, K] or [n, L]
    baselines: dict[str, np.ndarray]
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)  # of student and baselines
    uncalibrated: np.ndarray | None = None  # the student's probabilities before temperature scaling
    seeds: dict[int, np.ndarray] = field(default_factory=dict)  # predictions of the same student, other seeds
    seed_thresholds: dict[int, np.ndarray] = field(default_factory=dict)
    slices: dict[str, list[Any]] = field(default_factory=dict)  # column -> a value, or a list of values, a post
    held: np.ndarray | None = None  # bool [n]: whether the post interval or set of each post holds its label
    folds: int = 0  # how many folds were predicted by students that did not see them; 0: a test split


def rows_of(thresholds: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """The thresholds of some posts."""
    return thresholds[rows] if thresholds is not None and thresholds.ndim == 2 else thresholds
