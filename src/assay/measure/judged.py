"""What evaluation looks at: the posts that are judged by, and what all say of them; kept for later comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import DataError
from assay.targets import NAME, NAMES, NUMBER, Target


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


# ------------------------------------------------------------------------------------------ kept, read

SEED = "predicted_seed_"  # and the seed: the column of what the same student says from another seed


def as_columns(test: Judged) -> dict[str, pa.Array]:
    """Truth, predictions, thresholds, weights and leakage groups a post, as columns of a table.

    `truth` and `predicted` are lists: of one score, of a class number and K probabilities, or of L labels.
    """
    found = {
        "group": pa.array(np.asarray(test.group, np.int64)),
        "weight": pa.array(np.asarray(test.weights, float)),
        "truth": _lists(test.y),
        "predicted": _lists(test.student),
        "threshold": _cuts(test.thresholds.get("student"), len(test.y)),
    }
    for seed, predicted in test.seeds.items():
        found[f"{SEED}{seed}"] = _lists(predicted)
        found[f"threshold_seed_{seed}"] = _cuts(test.seed_thresholds.get(seed), len(test.y))
    return found


def read_judged(path: Path, target: Target) -> tuple[list[str], Judged]:
    """The ids of the posts that a student was judged by, and what it said of them, from what evaluate wrote.

    DataError where an earlier version wrote the file, or another kind of target.
    """
    table = pq.read_table(path)
    lacking = {"group", "weight", "truth", "predicted", "threshold"} - set(table.column_names)
    if lacking:
        raise DataError(f"{path.name} has no column {sorted(lacking)[0]}: an earlier version wrote it; evaluate again")
    truth, width = _array(table["truth"]), len(target.groups)
    wide = {NUMBER: (1, 1), NAME: (1, width), NAMES: (width, width)}[target.shape]
    student = _array(table["predicted"])
    if (truth.shape[1], student.shape[1]) != wide:
        raise DataError(f"{path.name} is of another target than {target.words()}; evaluate again")
    test = Judged(
        _as_truth(truth, target), table["weight"].to_numpy(), table["group"].to_numpy(), _as_said(student, target), {}
    )
    if (cuts := _read_cuts(table["threshold"])) is not None:
        test.thresholds["student"] = cuts
    for name in table.column_names:
        if name.startswith(SEED):
            seed = int(name.removeprefix(SEED))
            test.seeds[seed] = _as_said(_array(table[name]), target)
            if (cuts := _read_cuts(table[f"threshold_seed_{seed}"])) is not None:
                test.seed_thresholds[seed] = cuts
    return table["post_id"].to_pylist(), test


def _as_truth(truth: np.ndarray, target: Target) -> np.ndarray:
    if target.shape == NAMES:
        return truth
    return truth[:, 0] if target.shape == NUMBER else truth[:, 0].astype(np.int64)


def _as_said(said: np.ndarray, target: Target) -> np.ndarray:
    return said[:, 0] if target.shape == NUMBER else said


def _lists(values: np.ndarray) -> pa.Array:
    rows = np.asarray(values, float).reshape(len(values), -1)
    return pa.array(list(rows), pa.list_(pa.float64()))


def _cuts(thresholds: np.ndarray | None, n: int) -> pa.Array:
    if thresholds is None:
        return pa.nulls(n, pa.list_(pa.float64()))
    return _lists(np.broadcast_to(thresholds, (n, thresholds.shape[-1])))


def _array(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks()
    return np.asarray(flat.flatten(), dtype=float).reshape(len(flat), -1)


def _read_cuts(column: pa.ChunkedArray) -> np.ndarray | None:
    return None if column.null_count else _array(column)
