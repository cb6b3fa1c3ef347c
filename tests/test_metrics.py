"""Metrics: hand-worked cases, agreement with scikit-learn and scipy under weights, honest intervals."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget
from assay.measure import metrics
from assay.measure.baselines import Learning, Views, predict_all
from assay.measure.calibrate import expected_calibration_error, label_scaling, residual_quantile, temperature
from assay.measure.csvfile import read_csv, write_csv
from assay.measure.evaluate import evaluate
from assay.measure.findings import brand_table, findings
from assay.measure.judged import Judged
from assay.measure.slices import by_slice
from assay.measure.tables import plot_tables
from assay.targets.label_metrics import GRID, decide, fit_thresholds, label_metrics, per_label
from assay.targets.weighted import pearson
from tests.estimators import estimator, posts_of, predictions_of

FOUR = ScoreTarget(kind="score", bands=[2.5, 5.5, 8.5])  # of whole numbers: 0-2, 3-5, 6-8, 9-10
SCORE = ScoreTarget(kind="score", bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])


def test_scores_by_hand() -> None:
    """Errors 0, 1, -2, 0.5; MAE 3.5/4; RMSE sqrt(5.25/4); y has mean 4 and squares about it of 20."""
    y, p = np.array([1.0, 3, 5, 7]), np.array([1.0, 4, 3, 7.5])
    found = metrics.point(y, p, np.ones(4), SCORE)
    assert found["mae"] == pytest.approx(0.875)
    assert found["rmse"] == pytest.approx((5.25 / 4) ** 0.5)
    assert found["r2"] == pytest.approx(1 - 5.25 / 20)
    assert found["spearman"] == pytest.approx(0.8)
    assert (found["within_0_5"], found["within_1"], found["within_2"]) == (0.5, 0.75, 1.0)


def test_always_the_median_reaches_a_high_share_within_one() -> None:
    """The seed's claim of 68 % within 1.0 says little: on such labels a constant does better."""
    y = np.array([5.0] * 60 + [4.5] * 10 + [6.0] * 6 + [2.0] * 12 + [8.0] * 12)
    assert metrics.point(y, np.full(100, 5.0), np.ones(100), SCORE)["within_1"] == pytest.approx(0.76)


def test_weights_act_like_repetition() -> None:
    rng = np.random.default_rng(0)
    y, p, times = rng.integers(0, 5, 60).astype(float), rng.integers(0, 5, 60).astype(float), rng.integers(1, 4, 60)
    weighted = metrics.point(y, p, times, SCORE)
    repeated = metrics.point(np.repeat(y, times), np.repeat(p, times), np.ones(times.sum()), SCORE)
    assert weighted == pytest.approx(repeated)
    k, q = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60).round(1)
    weighted = metrics.point(k, q, times, CLASSES)
    repeated = metrics.point(np.repeat(k, times), np.repeat(q, times, axis=0), np.ones(times.sum()), CLASSES)
    assert weighted == pytest.approx(repeated)


def test_agreement_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y, p, w = rng.random(200) * 10, rng.random(200) * 10, rng.random(200) + 0.2
    found = metrics.point(y, p, w, SCORE)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, p, sample_weight=w))
    assert found["rmse"] == pytest.approx(mean_squared_error(y, p, sample_weight=w) ** 0.5)
    assert found["r2"] == pytest.approx(r2_score(y, p, sample_weight=w))
    plain = metrics.point(y.round(), p.round(), np.ones(200), SCORE)
    assert plain["spearman"] == pytest.approx(spearmanr(y.round(), p.round()).statistic)
    k, q = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), 200)
    found = metrics.point(k, q, w, CLASSES)
    said = q.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(k, said, sample_weight=w))
    assert found["f1_macro"] == pytest.approx(f1_score(k, said, average="macro", sample_weight=w))
    assert found["f1_weighted"] == pytest.approx(f1_score(k, said, average="weighted", sample_weight=w))
    areas = [roc_auc_score(k == c, q[:, c], sample_weight=w) for c in range(3)]
    assert found["auroc"] == pytest.approx(np.mean(areas))
    each = CLASSES.per_name(k, q, w[None, :], None)
    wanted = precision_recall_fscore_support(k, said, sample_weight=w)
    for name, values in zip(("precision", "recall", "f1"), wanted, strict=False):
        assert [each[one][name][0] for one in CLASSES.names] == pytest.approx(values)


def test_figures_that_are_not_defined_are_null() -> None:
    found = evaluate(
        Judged(np.array([1.0, 2, 3, 4]), np.ones(4), np.arange(4), np.full(4, 2.0), {}), SCORE, replicates=50
    )
    assert found["spearman"] == {"value": None, "low": None, "high": None}
    assert found["gap"]["against"] is None
    one_class = np.eye(3)[[0, 0, 0]]
    found = evaluate(Judged(np.zeros(3, int), np.ones(3), np.arange(3), one_class, {}), CLASSES, replicates=50)
    assert found["accuracy"]["value"] == 1.0
    assert found["auroc"]["value"] is None
    assert found["confusion"]["a"] == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_confusion_is_weighted() -> None:
    """Class a: weights 3 right, 1 said b."""
    said = np.eye(3)[[0, 1, 2]]
    found = evaluate(Judged(np.array([0, 0, 2]), np.array([3.0, 1, 1]), np.arange(3), said, {}), CLASSES, replicates=20)
    assert found["confusion"]["a"] == {"a": 0.75, "b": 0.25, "c": 0.0}


def test_intervals_hold_what_they_promise() -> None:
    """Of 200 samples of clustered errors about 95 % have an interval that holds the true mean error."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(200):
        group = np.repeat(np.arange(60), 4)
        shared = np.repeat(rng.normal(0, 0.3, 60), 4)
        y = np.full(240, 5.0)
        p = y + 1 + shared + rng.normal(0, 0.2, 240)
        w = metrics.replicate_weights(np.ones(240), group, replicates=300, seed=int(rng.integers(1e6)))
        figure = metrics.interval(metrics.bootstrap(y, p, w, SCORE)["mae"])
        hits += figure.low <= 1 <= figure.high
    assert 0.90 <= hits / 200 <= 0.99


def test_gap_is_paired_and_positive_where_the_student_is_better() -> None:
    rng = np.random.default_rng(3)
    y = rng.random(300) * 10
    noise = rng.normal(0, 2, 300)
    test = Judged(
        y,
        np.ones(300),
        np.arange(300),
        y + noise,
        {
            "constant": np.full(300, 5.0),
            "text": y + noise * 1.1,
            "tfidf": y + noise * 0.9,
        },
    )
    found = evaluate(test, SCORE, replicates=200)
    assert found["gap"]["against"] == "tfidf"
    assert found["gap"]["high"] < 0
    assert found["gap_probe"]["against"] == "text"
    assert found["gap_probe"]["low"] > 0
    assert set(found["baselines"]) == {"constant", "text", "tfidf"}
    assert found["gap"]["value"] == pytest.approx(
        found["baselines"]["tfidf"]["mae"]["value"] - found["mae"]["value"], abs=2e-4
    )
    tables = plot_tables(test, SCORE)
    assert set(tables) == {"predicted", "errors", "calibration", "confusion", "roc", "precision_recall"}
    assert sum(row["share"] for row in tables["errors"]) == pytest.approx(1, abs=1e-3)
    assert {row["actual"] for row in tables["confusion"]} == {"low", "moderate", "high"}


def test_constant_is_the_weighted_median_or_majority() -> None:
    y, w = np.array([0.0, 1, 2, 10]), np.array([1.0, 1, 1, 5])
    assert SCORE.constant(y, w, 2).tolist() == [10.0, 10.0]
    assert CLASSES.constant(np.array([0, 1, 1]), np.array([5.0, 1, 1]), 1).argmax() == 0


@pytest.mark.parametrize("target", [SCORE, CLASSES], ids=["score", "classes"])
def test_baselines_find_the_signal_where_it_is(target: ScoreTarget | ClassesTarget) -> None:
    """Text features and words carry it, the picture does not."""
    rng = np.random.default_rng(4)
    k = rng.integers(0, 3, 240)
    text = (np.eye(3)[k] + rng.normal(0, 0.4, (240, 3))).astype(np.float32)
    inputs = Views(
        rng.normal(0, 1, (240, 4)).astype(np.float32), text, [f"{['red', 'green', 'blue'][c]} words here" for c in k]
    )
    y = k if target.kind == "classes" else k.astype(float) * 3
    rows = np.arange(240)
    data = Learning(inputs.take(rows[:150]), y[:150], np.ones(150), inputs.take(rows[150:180]), y[150:180])
    found = predict_all(data, inputs.take(rows[180:]), target)
    main = target.headline
    sign = 1 if target.is_higher_better(main) else -1
    value = {n: sign * metrics.point(y[180:], p, np.ones(60), target)[main] for n, p in found.items()}
    assert set(value) == {"constant", "text", "image", "both", "tfidf"}
    assert value["tfidf"] > value["text"] > value["image"]
    assert value["text"] > value["constant"]


def test_temperature_mends_overconfidence() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1, (4000, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = np.array([rng.choice(3, p=row) for row in true])
    bold = np.exp(3 * logits) / np.exp(3 * logits).sum(1, keepdims=True)
    found = temperature(y, bold)
    assert found == pytest.approx(3, rel=0.1)
    assert (
        expected_calibration_error(y, true, np.ones(4000)) < 0.03 < expected_calibration_error(y, bold, np.ones(4000))
    )
    assert temperature(np.array([], int), np.zeros((0, 3))) == 1.0


def test_residual_quantile_covers() -> None:
    assert residual_quantile(np.arange(3.0), np.arange(3.0)) is None
    rng, inside = np.random.default_rng(6), []
    for _ in range(300):
        e = rng.normal(0, 1, 101)
        half = residual_quantile(e[:100], np.zeros(100))
        assert half is not None
        inside.append(abs(e[100]) <= half)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)


def test_bands_without_names_are_called_by_their_ranges() -> None:
    scores = [0.0, 2.4, 2.5, 5.0, 6.0, 8.4, 9.0, 10.0, None]
    found = findings(estimator(scores, [None] * 9, FOUR), predictions_of(scores, FOUR), [], {}, min_posts=1)
    assert found["bands"] == {"0 to 2.5": 0.25, "2.5 to 5.5": 0.25, "5.5 to 8.5": 0.25, "8.5 to 10": 0.25}


def test_findings_and_brands_by_hand() -> None:
    values, brands = [1.0, 5.0, 9.0, None], [["A"], ["A", "B"], ["B"], ["B"]]
    est = estimator(values, [None] * 4, SCORE, brands=brands)
    posts = posts_of(4, brands=brands)
    table, rankings = brand_table(est, posts, min_posts=2)
    found = findings(est, predictions_of(values, SCORE), table, rankings, min_posts=2)
    assert (found["posts"], found["scored"], found["mean"]) == (4, 3, 5.0)
    assert found["bands"] == {"low": 0.3333, "moderate": 0.3333, "high": 0.3333}
    assert found["brands"] == {"named": 2, "shown": 2, "min_posts": 2}
    assert found["corrected"] == {"mean": {"value": None, "low": None, "high": None}}  # no labels, no interval
    assert found["answers"][0] == "The mean score is not known (too few labels)."
    rows, _ = brand_table(est, posts, min_posts=3)
    edges = [f"mean{part}" for part in ("", "_low", "_high", "_joint_low", "_joint_high", "_rank_low", "_rank_high")]
    edges += [f"mean_borrowed{part}" for part in ("", "_low", "_high", "_own")]
    figures = dict.fromkeys([*edges, "mean_uncorrected", "sd"])
    assert rows[0] == {"brand": "A", "posts": 2, "scored": 2, "too_few": True, "labels": 0, **figures}
    assert table[1]["mean_uncorrected"] == 7.0
    assert (table[1]["posts"], table[1]["scored"]) == (3, 2)
    assert CLASSES.histogram(["a", "a", "c"]) == [("a", 2), ("b", 0), ("c", 1)]


def test_prediction_sets_cover() -> None:
    """The label of nine in ten posts stands in the set, though probabilities are far too sure."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 4000)
    logits = rng.normal(size=(4000, 3)) + 1.5 * np.eye(3)[y]
    p = np.exp(4 * logits) / np.exp(4 * logits).sum(1, keepdims=True)
    apart = residual_quantile(np.ones(2000), p[:2000][np.arange(2000), y[:2000]])
    assert apart is not None
    assert np.mean(p[2000:][np.arange(2000), y[2000:]] >= 1 - apart) == pytest.approx(0.9, abs=0.02)


# ------------------------------------------------------------------------------------------- labels

LABELS = LabelsTarget(kind="labels", names=["x", "y", "z"])


def test_labels_agree_with_scikit_learn_under_weights() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random((300, 3)) < [0.5, 0.2, 0.05]).astype(float)
    p = np.clip(0.3 * y + 0.7 * rng.random((300, 3)), 0, 1).round(2)
    w, at = rng.random(300) + 0.2, np.array([0.5, 0.4, 0.3])
    found = metrics.point(y, p, w, LABELS, at)
    chosen = p >= at
    assert found["f1_macro"] == pytest.approx(f1_score(y, chosen, average="macro", sample_weight=w))
    assert found["f1_micro"] == pytest.approx(f1_score(y, chosen, average="micro", sample_weight=w))
    assert found["f1_macro_at_half"] == pytest.approx(f1_score(y, p >= 0.5, average="macro", sample_weight=w))
    assert found["auroc_macro"] == pytest.approx(roc_auc_score(y, p, average="macro", sample_weight=w))
    assert found["average_precision"] == pytest.approx(average_precision_score(y, p, average="macro", sample_weight=w))
    assert found["exact_match"] == pytest.approx(accuracy_score(y, chosen, sample_weight=w))
    per = per_label(y, p, w[None, :], at)
    wanted = precision_recall_fscore_support(y, chosen, sample_weight=w)
    for name, values in zip(("precision", "recall", "f1"), wanted, strict=False):
        assert per[name][0] == pytest.approx(values)


def test_a_label_that_nobody_has_is_no_figure_and_no_crash() -> None:
    y, p = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), np.array([[0.9, 0.1], [0.2, 0.1], [0.8, 0.3]])
    found = label_metrics(y, p, np.ones((1, 3)))
    assert found["f1_macro"] == found["auroc_macro"] == found["average_precision"] == pytest.approx(1.0)
    assert np.isnan(per_label(y, p, np.ones((1, 3)))["f1"][0, 1])


def test_thresholds_find_the_best_f1_on_the_grid() -> None:
    y = np.array([[1.0], [1.0], [0.0], [0.0], [0.0]])
    p = np.array([[0.42], [0.31], [0.22], [0.1], [0.05]])
    found = fit_thresholds(y, p, np.ones(5))
    assert 0.22 < found[0] <= 0.31
    assert decide(p, found).ravel().tolist() == [True, True, False, False, False]
    assert fit_thresholds(np.zeros((5, 1)), p, np.ones(5)).tolist() == [0.5]


def test_thresholds_of_rare_labels_leave_little_to_chance() -> None:
    rng = np.random.default_rng(0)
    reached: dict[str, list[float]] = {"fitted": [], "best in the sample": []}
    for _ in range(60):
        p = rng.beta(0.6, 6, (4000, 1))  # calibrated: a label holds as often as it says
        y = (rng.random(p.shape) < p).astype(float)
        few, many, w = slice(0, 120), slice(120, None), np.ones((1, 3880))
        sample = [float(label_metrics(y[few], p[few], np.ones((1, 120)), np.array([at]))["f1_macro"][0]) for at in GRID]
        chosen = {
            "fitted": fit_thresholds(y[few], p[few], np.ones(120)),
            "best in the sample": GRID[[np.argmax(sample)]],
        }
        for name, at in chosen.items():
            reached[name].append(float(label_metrics(y[many], p[many], w, at)["f1_macro"][0]))
    assert np.mean(reached["fitted"]) > np.mean(reached["best in the sample"]) + 0.01


def test_thresholds_are_those_of_the_weighted_share_whatever_probabilities_say_together() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(0.6, 3, (4000, 1))
    y = (rng.random(p.shape) < p).astype(float)
    right = fit_thresholds(y, p, np.ones(4000))
    off = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + 2)))  # the same order, and far too sure
    f1 = [
        float(label_metrics(y, one, np.ones((1, 4000)), at)["f1_macro"][0])
        for one, at in ((p, right), (off, fit_thresholds(y, off, np.ones(4000))))
    ]
    assert f1[1] > f1[0] - 0.01
    assert fit_thresholds(np.ones((5, 1)), np.full((5, 1), 0.4), np.ones(5))[0] <= 0.4


def test_label_scaling_undoes_what_is_known_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, (4000, 2))
    y = (rng.random((4000, 2)) < 1 / (1 + np.exp(-logits))).astype(float)
    sharp = 1 / (1 + np.exp(-3 * logits))
    scale, shift = label_scaling(y, sharp)  # one temperature for both does it
    assert scale.tolist() == pytest.approx([1 / 3] * 2, rel=0.1)
    assert shift.tolist() == [0, 0]
    assert label_scaling(y, 1 / (1 + np.exp(-logits)))[0].tolist() == [1, 1]  # nothing to mend
    apart = 1 / (1 + np.exp(-(logits * [2, 0.5] + [1, -2])))  # each label otherwise
    scale, shift = label_scaling(y, apart)
    assert scale.tolist() == pytest.approx([0.5, 2], rel=0.1)
    assert shift.tolist() == pytest.approx([-0.5, 4], rel=0.15)
    none = np.column_stack([y[:, 0], np.zeros(4000)])  # a label that nobody has stays as it is
    scale, shift = label_scaling(none, apart)
    assert (scale[1], shift[1]) == (1, 0)
    assert label_scaling(y[:15], apart[:15])[0].tolist() == [1, 1]  # too few posts
    weights = np.ones(4000)
    cooled = 1 / (1 + np.exp(-logits))
    assert expected_calibration_error(y, cooled, weights) < 0.03 < expected_calibration_error(y, sharp, weights)


def test_evaluation_of_labels_seeds_and_slices() -> None:
    rng = np.random.default_rng(1)
    n = 400
    y = (rng.random((n, 3)) < 0.3).astype(float)
    good = np.clip(0.5 * y + 0.5 * rng.random((n, 3)), 0, 1)
    bad = rng.random((n, 3))
    brand = [["A"] if i % 4 == 0 else ["A", "B"] if i % 4 == 1 else [] for i in range(n)]
    spoiled = np.array(["B" in names for names in brand])
    good[spoiled] = bad[spoiled]  # the student is no good where B is named
    test = Judged(
        y,
        np.ones(n),
        np.arange(n),
        good,
        {"constant": np.full((n, 3), 0.3), "text": bad},
        thresholds={"student": np.full(3, 0.5)},
        uncalibrated=good,
        seeds={1: good, 2: np.clip(good + 0.01, 0, 1)},
        slices={"brand": brand, "language": ["en" if i else "xx" for i in range(n)]},
    )
    found = evaluate(test, LABELS, replicates=200)
    assert set(found["classes"]) == {"x", "y", "z"}
    assert found["gaps"]["text"]["f1_macro"]["low"] > 0
    assert found["seeds"]["seeds"] == [1, 2]
    assert found["seeds"]["f1_macro"]["sd"] >= 0
    by = found["slices"]["by"]["brand"]
    assert (by["A"]["n"], by["B"]["n"], by["none"]["n"]) == (200, 100, 200)
    assert by["B"]["value"] < by["none"]["low"]
    assert found["slices"]["worst"]["slice"] == "B"
    assert found["slices"]["by"]["language"]["(too few)"] == {"n": 1}
    tables = plot_tables(test, LABELS)
    assert {row["actual"] for row in tables["confusion"]} == {"x", "y", "z", "none"}
    assert sum(row["posts"] for row in tables["calibration"]) == 3 * n


def test_small_slices_hold_one_by_one_and_all_at_once() -> None:
    """Twelve slices of twenty posts, a student of the same accuracy (0.9) in each."""
    rng = np.random.default_rng(0)
    own, joint, held = [], [], []
    for _ in range(40):
        y = rng.integers(0, 3, 240)
        said = np.where(rng.random(240) < 0.9, y, (y + 1) % 3)
        test = Judged(y, np.ones(240), np.arange(240), np.eye(3)[said], {}, held=rng.random(240) < 0.9)
        test.slices = {"part": [f"s{i // 20}" for i in range(240)]}
        w = metrics.replicate_weights(test.weights, test.group, replicates=200)
        rows = by_slice(test, CLASSES, w, smallest=20)["by"]["part"].values()
        own += [row["low"] <= 0.9 <= row["high"] for row in rows]
        held += [row["held"]["low"] <= 0.9 <= row["held"]["high"] for row in rows]
        joint.append(all(row["joint_low"] <= 0.9 <= row["joint_high"] for row in rows))
    assert 0.93 <= np.mean(own) <= 0.98
    assert 0.93 <= np.mean(held) <= 0.99
    assert np.mean(joint) >= 0.92


def test_slices_of_hardly_any_leakage_groups_have_no_interval_rather_than_half_a_one() -> None:
    """Nearly all posts in one group: the error of a mean error is known by one degree of freedom or less."""
    rng = np.random.default_rng(0)
    y, group = rng.random(200) * 10, np.where(np.arange(200) < 190, 0, np.arange(200) // 100 + 1)
    test = Judged(y, np.ones(200), group, y + rng.normal(0, 1, 200), {})
    test.slices = {"part": ["a" if i % 2 else "b" for i in range(200)]}
    w = metrics.replicate_weights(test.weights, test.group, replicates=200)
    found = by_slice(test, SCORE, w, smallest=20)
    for row in found["by"]["part"].values():
        assert row["value"] == pytest.approx(0.8, abs=0.3)
        assert (row["low"] is None) == (row["high"] is None)
        assert (row["joint_low"] is None) == (row["joint_high"] is None)
        assert row["low"] is None
    assert found["worst"] is None


def test_a_figure_with_half_an_interval_is_shown_without_one() -> None:
    from assay.cli.compare import figured

    assert figured({"value": 1.0, "low": 0.0, "high": None}) == "1.000"


def test_baselines_of_labels() -> None:
    rng = np.random.default_rng(2)
    n = 200
    image, text = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(n, 4)).astype(np.float32)
    y = np.stack([image[:, 0] > 0, text[:, 0] > 0, np.zeros(n)], axis=1).astype(np.float32)
    words = [f"{'plus' if row[1] else 'minus'} word{i % 9}" for i, row in enumerate(y)]
    inputs = Views(image, text, words)
    guess = predict_all(Learning(inputs, y, np.ones(n), inputs, y), inputs, LABELS)
    assert set(guess) == {"constant", "text", "image", "both", "tfidf"}
    assert ((guess["both"][:, :2] >= 0.5) == (y[:, :2] > 0.5)).mean() > 0.9
    assert ((guess["tfidf"][:, 1] >= 0.5) == (y[:, 1] > 0.5)).mean() == 1.0
    assert not guess["both"][:, 2].any()  # never seen: never said


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "'=1", "''-x", "plain", "'quoted'", "", "a=b"])
def test_formulas_in_tables_for_people_are_harmless_and_come_back(text: str, tmp_path: Path) -> None:
    write_csv([{"brand": text, "mean": -1.5, "none": None}], tmp_path / "t.csv")
    (row,) = read_csv(tmp_path / "t.csv")
    assert row == {"brand": text, "mean": "-1.5", "none": ""}
    with open(tmp_path / "t.csv", newline="") as file:
        assert list(csv.reader(file))[1][0][:1] not in tuple("=+-@\t\r")


def test_pearson_is_that_of_numpy_and_weights_count() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(5, 2, 60)
    p = y + rng.normal(0, 1, 60)
    counts = rng.integers(1, 4, 60)
    found = pearson(y, p, np.stack([np.ones(60), counts]).astype(float))
    assert found[0] == pytest.approx(np.corrcoef(y, p)[0, 1])
    assert found[1] == pytest.approx(np.corrcoef(np.repeat(y, counts), np.repeat(p, counts))[0, 1])
    assert np.isnan(pearson(y, np.full(60, 3.0), np.ones((1, 60)))[0])
