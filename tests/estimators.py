"""An Estimator from lists, for tests that need findings of posts that they make up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.measure.estimate import Of
from assay.measure.estimator import DESIGN, Estimator
from assay.posts import schema
from assay.targets import NUMBER, Target


def predictions_of(values: Sequence[Any], target: Target) -> pa.Table:
    """A table of predictions that are as sure as can be; None: failed."""
    columns: dict[str, Any] = {
        "post_id": [str(i) for i in range(len(values))],
        "status": ["failed" if value is None else "ok" for value in values],
        "value": pa.array(list(values), target.arrow),
        "in_train": [False] * len(values),
    }
    if target.shape != NUMBER:
        told = [None if v is None else target.as_predicted(target.encode([v]))[0].tolist() for v in values]
        columns["probabilities"] = pa.array(told, pa.list_(pa.float32()))
    return pa.table(columns)


def posts_of(n: int, **columns: Sequence[Any]) -> pa.Table:
    """A post table of n posts with some columns, also ones of their own, the others empty."""
    lists = {field.name for field in schema() if pa.types.is_list(field.type)}
    rows = [
        {field.name: [] if field.name in lists else None for field in schema()}
        | {"post_id": str(i), "text": ""}
        | {name: values[i] for name, values in columns.items()}
        for i in range(n)
    ]
    table = pa.Table.from_pylist(rows, schema=schema())
    for name in [name for name in columns if name not in table.column_names]:
        table = table.append_column(name, pa.array(list(columns[name])))
    return table


def estimator(
    predicted: Sequence[Any],
    labels: Sequence[Any],
    task: Target,
    *,
    p: Sequence[float] | float = 1.0,
    stratum: Sequence[str] | None = None,
    group: Sequence[int] | None = None,
    learnt: Sequence[bool] | None = None,
    held_out_p: float | None = None,
    target: Of = "these_posts",
    **columns: Sequence[Any],
) -> Estimator:
    """Posts `0`, `1`, … with predictions, labels (None: not sampled), inclusion probabilities and columns."""
    n = len(predicted)
    chance = np.broadcast_to(np.asarray(p, float), n)
    known = [i for i in range(n) if labels[i] is not None]
    table = pa.table(
        {
            "post_id": [str(i) for i in known],
            "status": ["ok"] * len(known),
            "value": pa.array([labels[i] for i in known], task.arrow),
            "inclusion_p": [float(chance[i]) for i in known],
        }
    )
    rows = [
        {
            "post_id": str(i),
            "stratum": stratum[i] if stratum else "all",
            "group": group[i] if group else i,
            "held_out_p": held_out_p,
            "learnt": bool(learnt[i]) if learnt else False,
        }
        for i in known
    ]
    design = pa.Table.from_pylist(rows, schema=DESIGN)
    return Estimator(posts_of(n, **columns), predictions_of(predicted, task), table, design, task=task, target=target)
