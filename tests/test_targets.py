"""Every kind of target fulfils the contract: from the teacher's answer to findings, and what students learn by."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from assay.config import Train
from assay.encode.features import Features
from assay.errors import RowError, SettingsError
from assay.measure import metrics
from assay.measure.agreement import agreement
from assay.measure.evaluate import evaluate
from assay.measure.findings import brand_table, findings
from assay.measure.judged import Judged
from assay.measure.tables import plot_tables
from assay.student.fit import fit
from assay.student.outputs import build_output, loss_of, losses_of
from assay.targets import KINDS, NAMES, NUMBER, Target
from assay.targets.ranks import RanksTarget
from assay.targets.tokens import Token
from tests.estimators import estimator, posts_of, predictions_of
from tests.test_student import SMALL, made

ORDER = ["none", "mild", "strong"]
EXAMPLES: dict[str, dict[str, Any]] = {
    "score": {"bands": [3.5, 6.5], "band_names": ["low", "moderate", "high"]},
    "classes": {"names": ["positive", "neutral", "negative"]},
    "labels": {"names": ["racist", "sexist", "other"]},
    "ranks": {"names": ORDER},
}
EVERY = pytest.mark.parametrize("target", [KINDS[kind](kind=kind, **EXAMPLES[kind]) for kind in KINDS], ids=list(KINDS))


def values_of(target: Target, n: int = 60, seed: int = 1) -> list[Any]:
    """Values of n posts, all of them legal, all groups among them."""
    rng = np.random.default_rng(seed)
    if target.shape == NUMBER:
        return [float(v) for v in rng.integers(0, 21, n) / 2]
    if target.shape == NAMES:
        return [[name for name in target.groups if rng.random() < 0.4] for _ in range(n)]
    return [target.groups[i % len(target.groups)] for i in range(n)]


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)


@EVERY
def test_answers_schema_and_parser_agree(target: Target) -> None:
    for value in values_of(target, 12):
        answer = {target.answer_key: value}
        jsonschema.validate(value, target.answer_schema())
        assert target.parse(value, json.dumps(answer)) == value
        assert target.gold(json.dumps(value) if isinstance(value, list) else str(value)) == value
        assert target.joint([value, value, value]) == value
        assert target.of_votes([value, value]).value == value
    assert f'"{target.answer_key}"' in target.form()
    for wrong in ("nobody", None, 99.0, ["nobody"], True):
        with pytest.raises(RowError, match="invalid_answer"):
            target.parse(wrong, json.dumps(wrong))
    with pytest.raises(RowError, match="label_outside_target"):
        target.gold("nobody")
    assert set(target.headings()) <= set(target.groups)


@EVERY
def test_a_sure_token_is_a_sure_label(target: Target) -> None:
    for value in values_of(target, 6):
        text = json.dumps(value)
        label = target.of_tokens([Token(text, {text: 1.0}), Token("}", {"}": 1.0})], {target.answer_key: value})
        if label is not None:  # a list in one token says nothing of its places
            assert label.value == value
            assert sum(label.distribution or [1]) == pytest.approx(1) or target.shape == NAMES


@EVERY
def test_values_become_numbers_and_strata(target: Target) -> None:
    values = values_of(target)
    assert pa.array([*values, None], target.arrow).to_pylist() == [*values, None]
    y, numbers = target.encode(values), target.numbers(values)
    assert len(y) == len(numbers) == 60
    assert np.allclose(y, numbers)
    strata = target.strata(y)
    assert strata.shape == (60,)
    assert np.issubdtype(strata.dtype, np.integer)
    assert len(np.unique(strata)) > 1
    gap = target.encode([None, values[0]])
    assert not np.isfinite(gap[0]).any() or (gap[0] == -1).all()
    assert np.allclose(gap[1], y[0])


@EVERY
def test_figures_know_right_from_wrong(target: Target) -> None:
    values = values_of(target)
    y = target.encode(values)
    right, nothing = target.as_predicted(y), target.constant(y, np.ones(60), 60)
    at = target.thresholds(y, right, np.ones(60))
    best = metrics.point(y, right, np.ones(60), target, at)
    assert set(best) == {metric.name for metric in target.metrics}
    worse = metrics.point(y, nothing, np.ones(60), target, target.thresholds(y, nothing, np.ones(60)))
    sign = 1 if target.is_higher_better(target.headline) else -1
    assert sign * best[target.headline] > sign * worse[target.headline]
    assert target.errors(y, right).max() == pytest.approx(0)
    assert 0 < target.errors(y, nothing).max() <= target.largest_error
    found = agreement(values, values, target)
    assert found["alpha"]["value"] == 1
    with pytest.raises(KeyError):
        target.is_higher_better("beauty")


@EVERY
def test_evaluation_and_its_tables(target: Target) -> None:
    values = values_of(target)
    y = target.encode(values)
    p = 0.7 * target.as_predicted(y) + 0.3 * target.constant(y, np.ones(60), 60)
    test = Judged(y, np.ones(60), np.arange(60), np.asarray(p, float), {})
    found = evaluate(test, target, replicates=50)
    assert found[target.headline]["low"] <= found[target.headline]["value"] <= found[target.headline]["high"]
    assert set(found.get("classes", {})) in (set(), set(target.groups))
    tables = plot_tables(test, target)
    assert set(tables) == {"predicted", "errors", "calibration", "confusion", "roc", "precision_recall"}
    assert all(tables.values())
    assert sum(row["share"] for row in tables["errors"]) == pytest.approx(1, abs=1e-3)
    truth, said = target.said(y, test.student, None)
    assert len(truth) == len(said) == 60


@EVERY
def test_findings_brands_and_words(target: Target) -> None:
    values = values_of(target, 200)
    labels = [v if i < 100 else None for i, v in enumerate(values)]
    brands = [["A"] if i % 2 else ["B"] for i in range(200)]
    est = estimator(values, labels, target, p=0.5, brands=brands)
    for one in target.all_estimands:
        figure = est.of_groups(one).figure(0)
        low, high = (0.0, 1.0) if target.is_share(one) else target.bounds
        assert low <= figure.low <= figure.value <= figure.high <= high
        assert figure.value == pytest.approx(np.mean(target.observed(values, one)), abs=1e-6)  # no error to correct
    rows, rankings = brand_table(est, posts_of(200, brands=brands), min_posts=10)
    found = findings(est, predictions_of(values, target), rows, rankings, min_posts=10)
    assert found["scored"] == 200
    for one in target.estimands:
        assert {target.column(one), f"{target.column(one)}_low", f"{target.column(one)}_uncorrected"} <= set(rows[0])
    assert sum(n for _, n in target.histogram(values)) == sum(1 if target.shape != NAMES else len(v) for v in values)
    assert all(set(target.groups_of(value)) <= set(target.groups) for value in values)
    assert target.groups_of(None) == []
    assert target.words()
    assert target.group


@EVERY
def test_every_loss_learns_and_answers_can_be_read(target: Target) -> None:
    """A student of few posts, on features that say the value; every loss brings it below where it began."""
    values = values_of(target, 240)
    y = target.encode(values)
    plain = target.as_predicted(y)
    told = (plain if plain.ndim == 2 else plain[:, None]).astype(np.float32)
    told = (told + np.random.default_rng(0).normal(0, 0.1, told.shape)).astype(np.float32)
    everyone = np.ones(240, bool)
    whole = made(Features(told, told, everyone, everyone, [""] * 240), y)
    parts = [whole.take(rows) for rows in (np.arange(180), np.arange(180, 240))]
    for loss in losses_of(target.kind):
        settings = Train(lr=0.02, epochs=25, patience=25, loss=loss)
        fitted = fit(*parts, student=SMALL, targets={"t": target}, settings=settings)
        assert fitted.curves[-1]["train_loss"] < 0.9 * fitted.curves[0]["train_loss"], loss
        p = fitted.model.predict(parts[1].features)["t"].astype(float)
        figures = fitted.model.output("t").calibrate(target, y[180:], p, np.ones(60))
        at = fitted.model.thresholds("t")
        reading = target.read(p[0], figures, at)
        assert pa.array([reading.value], target.arrow).to_pylist() == [reading.value]
        assert reading.interval is not None or reading.prediction_set is not None
        said = [target.read(row, figures, at).value for row in p]
        right = np.mean([one == value for one, value in zip(said, values[180:], strict=True)])
        assert right > 0.7 or target.shape == NUMBER, loss


def test_an_unknown_loss_is_told_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"loss best does not fit target kind ranks; allowed: auto, cumulative"):
        loss_of("ranks", "best")


# --------------------------------------------------------------------------------------------- ranks


RANKS = RanksTarget(kind="ranks", names=ORDER)


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, p, w = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), 300), rng.random(300) + 0.1
    found = metrics.point(y, p, w, RANKS)
    said = RANKS.chosen(p)
    assert found["kappa_quadratic"] == pytest.approx(cohen_kappa_score(y, said, weights="quadratic", sample_weight=w))
    assert found["rank_error"] == pytest.approx(np.average(np.abs(y - said), weights=w))


@pytest.mark.parametrize(
    ("shares", "said"),
    [([0.4, 0.2, 0.4], "mild"), ([0.5, 0.3, 0.2], "none"), ([0.1, 0.3, 0.6], "strong")],
    ids=["the middle of two camps", "half is enough", "the likeliest"],
)
def test_a_rank_is_the_median_of_its_probabilities(shares: list[float], said: str) -> None:
    assert RANKS.read(np.array(shares), {}, None).value == said
    assert RANKS.of_typed({"label": {"probabilities": dict(zip(ORDER, shares, strict=True))}}).value == said


def test_sets_of_ranks_have_no_gaps() -> None:
    found = RANKS.read(np.array([0.45, 0.09, 0.46]), {"set_q90": 0.6}, None)
    assert found.prediction_set == ORDER


def test_cuts_between_ranks_never_cross() -> None:
    import torch

    output = build_output(RANKS)
    output.start(torch.tensor([0, 0, 0, 1, 2, 2]))
    p = output(torch.linspace(-9, 9, 41)[:, None]).detach()
    assert torch.allclose(p.sum(1), torch.ones(41), atol=1e-5)
    assert (p >= 0).all()
    rank = (p * torch.arange(3)).sum(1)
    assert (rank[1:] >= rank[:-1]).all()
    start = output.uncalibrated(torch.zeros(1, 1)).detach()[0, 0]
    assert float(start) == pytest.approx(4 / 9, abs=1e-4)  # of counts 3, 1, 2 with one more each
