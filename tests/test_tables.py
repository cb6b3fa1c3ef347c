"""The rows of the plot files: curves of every kind of target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget
from assay.measure.charts import ranked
from assay.measure.judged import Judged
from assay.measure.tables import CURVE_POINTS, plot_tables

CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])
LABELS = LabelsTarget(kind="labels", names=["x", "y", "never"])
SCORE = ScoreTarget(kind="score", bands=[3.5, 6.5], band_names=["low", "middle", "high"])


def judged(target: Any, n: int = 400) -> Judged:
    rng = np.random.default_rng(1)
    weights, group = rng.uniform(0.5, 2, n), np.arange(n)
    if target is SCORE:
        y = rng.uniform(0, 10, n)
        return Judged(y, weights, group, (y + rng.normal(0, 2, n)).clip(0, 10), {})
    if target is CLASSES:
        y = rng.integers(0, 3, n)
        p = rng.dirichlet(np.ones(3), n) + 0.5 * np.eye(3)[y]
        return Judged(y, weights, group, p / p.sum(1, keepdims=True), {})
    y = (rng.random((n, 3)) < [0.5, 0.2, 0]).astype(float)
    return Judged(y, weights, group, (0.4 * y + 0.6 * rng.random((n, 3))).clip(0, 1), {})


@pytest.mark.parametrize(
    ("target", "names"),
    [(CLASSES, ["a", "b", "c"]), (LABELS, ["x", "y"]), (SCORE, ["at least 3.5", "at least 6.5"])],
    ids=["classes", "labels", "score"],
)
def test_curves_have_the_areas_of_the_figures(target: Any, names: list[str]) -> None:
    """Of every name that some posts have and some have not; areas within what thinning takes."""
    test = judged(target)
    found = plot_tables(test, target)
    for kind in ("roc", "precision_recall"):
        assert list(dict.fromkeys(row["name"] for row in found[kind])) == names
    y, p = test.y, test.student
    truths = {"a": y == 0, "b": y == 1, "c": y == 2, "at least 3.5": y >= 3.5, "at least 6.5": y >= 6.5}
    for k, name in enumerate(names):
        truth = y[:, k] > 0.5 if target is LABELS else truths[name]
        score = p if target is SCORE else p[:, k]
        own = [row for row in found["roc"] if row["name"] == name]
        assert len(own) <= CURVE_POINTS
        area = np.trapezoid([row["true_positive_rate"] for row in own], [row["false_positive_rate"] for row in own])
        assert area == pytest.approx(roc_auc_score(truth, score, sample_weight=test.weights), abs=0.01)
        own = [row for row in found["precision_recall"] if row["name"] == name]
        area = -np.trapezoid([row["precision"] for row in own], [row["recall"] for row in own])
        assert area == pytest.approx(average_precision_score(truth, score, sample_weight=test.weights), abs=0.02)


def test_nothing_to_tell_apart_has_no_curve_and_is_drawn_all_the_same() -> None:
    test = judged(CLASSES)
    test.y[:] = 1
    found = plot_tables(test, CLASSES)
    assert found["roc"] == []
    assert ranked([], "recall", "precision", title="none")["data"] == []
    rows = [{name: str(value) for name, value in row.items()} for row in plot_tables(judged(SCORE), SCORE)["roc"]]
    drawn = ranked(rows, "false_positive_rate", "true_positive_rate", title="ROC")["data"]
    assert [one.get("name") for one in drawn] == [None, "at least 3.5", "at least 6.5"]
