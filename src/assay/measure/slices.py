"""The student's figure by slice of the test split, with counts and intervals, and the slice where it is worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame

from assay.measure import metrics
from assay.measure.judged import Judged, rows_of
from assay.targets import Target

UNKNOWN = "(unknown)"


def by_slice(test: Judged, target: Target, w: np.ndarray, *, smallest: int) -> dict[str, Any]:
    """For each column of `test.slices`: the headline figure of every value with at least `smallest` posts.

    `w` holds weights and bootstrap replicates [1 + B, n]. A post with several values (brands) counts
    for each. `worst` names the slice whose figure is worst of all, among those whose interval is known.
    """
    main = target.headline
    found: dict[str, Any] = {"figure": main, "by": {}}
    thresholds = test.thresholds.get("student")

    def figure(rows: Any, _: Any) -> metrics.Figure:
        at = np.asarray(rows)
        return metrics.interval(target.figures(test.y[at], test.student[at], w[:, at], rows_of(thresholds, at))[main])

    for column, values in test.slices.items():
        pairs = [(i, name) for i, value in enumerate(values) for name in _names(value)]
        counts = pd.Series([name for _, name in pairs], dtype=object).value_counts()
        shown = set(counts[counts >= smallest].index)
        kept = [pair for pair in pairs if pair[1] in shown]
        if not kept:
            continue
        rows = [i for i, _ in kept]
        frame = MetricFrame(
            metrics={"figure": figure},
            y_true=rows,
            y_pred=rows,
            sensitive_features=pd.DataFrame({column: [name for _, name in kept]}),
        )
        by = frame.by_group["figure"]
        found["by"][column] = {str(name): {"n": int(counts[name]), **by[name].rounded()} for name in sorted(shown)}
        found["by"][column] |= {"(too few)": {"n": int(n)}} if (n := counts[counts < smallest].sum()) else {}
    found["worst"] = _worst(found["by"], higher=target.is_higher_better(main))
    return found


def _names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value] or ["none"]
    return [UNKNOWN if value is None or value == "" else str(value)]


def _worst(by: dict[str, Any], *, higher: bool) -> dict[str, Any] | None:
    sign = 1 if higher else -1
    known = [
        {"column": column, "slice": name, **figures}
        for column, rows in by.items()
        if len([1 for figures in rows.values() if figures.get("low") is not None]) > 1
        for name, figures in rows.items()
        if figures.get("low") is not None
    ]
    return min(known, key=lambda row: sign * row["value"], default=None)
