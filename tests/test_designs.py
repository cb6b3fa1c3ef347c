"""Diverse and active samples: estimates from them are unbiased, and they do what they are for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from assay.config import Annotate, Params, Sample, ScoreTarget, load
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.sampling import read_choice
from assay.scoring.choose import choose
from assay.scoring.designs import active, capped, compress, diverse, k_centre, systematic, uncertainty
from tests.conftest import ROOT
from tests.test_teacher import CLASSES, LABELS, SCORE


def pool(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and a score that depends on the first of them, more noisy at one end."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 6))
    return x, 5 + 2 * x[:, 0] + random.normal(size=n) * (1 + (x[:, 0] > 0))


@pytest.mark.parametrize("design", ["diverse", "active"])
def test_weighted_means_are_unbiased(design: str) -> None:
    """Over many draws the Horvitz-Thompson total is the pool's: also where the first batch decides the second."""
    x, y = pool()
    found, plain = [], []
    for draw in range(600):
        numbers = np.random.default_rng(draw).random(len(y))
        if design == "diverse":
            chosen = diverse(x, numbers, 60)
        else:
            chosen = active(x, numbers, 60, first=0.5, label=lambda rows: y[rows], target=SCORE)
        assert len(np.unique(chosen.rows)) == len(chosen.rows)
        assert ((chosen.p > 0) & (chosen.p <= 1)).all()
        found.append((y[chosen.rows] / chosen.p).sum() / len(y))
        plain.append(y[np.argsort(numbers)[:60]].mean())
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - y.mean()) < 4 * error
    assert np.std(found) < 3 * np.std(plain)


def test_active_goes_where_students_disagree() -> None:
    x, y = pool(2000)
    ratios = []
    for draw in range(10):
        numbers = np.random.default_rng(draw).random(len(y))
        chosen = active(x, numbers, 200, first=0.5, label=lambda rows: y[rows], target=SCORE)
        assert 198 <= len(chosen.rows) <= 202
        first, second = chosen.rows[:100], chosen.rows[100:]
        unsure = uncertainty(x[first], y[first], x, SCORE)
        ratios.append(unsure[second].mean() / unsure[np.setdiff1d(np.arange(len(y)), first)].mean())
    assert np.mean(ratios) > 1.04


def test_diverse_takes_outliers() -> None:
    x, _ = pool()
    x[7] += 50
    chosen = diverse(x, np.random.default_rng(3).random(len(x)), 40)
    assert 7 in chosen.rows
    assert chosen.p[chosen.rows == 7] == 1
    assert len(chosen.rows) == 40


def test_k_centre_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    assert k_centre(line, 2, first=0).tolist() == [0, 0, 0, 1, 1]
    assert k_centre(np.zeros((4, 2)), 3, first=2).max() == 2  # copies of one post: each centre still has itself


def test_inclusion_probabilities_sum_to_the_size() -> None:
    pi = capped(np.array([1.0, 1, 1, 100, 100]), 2, most=0.8)
    assert pi.sum() == pytest.approx(2)
    assert pi.max() == pytest.approx(0.8)
    assert pi[:3] == pytest.approx([0.4 / 3] * 3)
    assert capped(np.ones(4), 4, most=0.5).tolist() == [0.5] * 4
    hits = np.zeros(5)
    for start in np.linspace(0, 1, 1000, endpoint=False):
        hits[systematic(pi, start)] += 1
    assert hits / 1000 == pytest.approx(pi, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        (np.array([0, 1, 2, -1] * 10), CLASSES),
        (np.tile([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], (20, 1)), LABELS),
        (np.array([np.nan, 3.0] * 20), SCORE),
        (np.full(40, np.nan), SCORE),
        (np.zeros(40, dtype=int), CLASSES),
    ],
)
def test_uncertainty_of_each_target_and_of_labels_that_are_missing(labels: np.ndarray, target: ScoreTarget) -> None:
    x, _ = pool(60)
    found = uncertainty(x[:40], labels, x[40:], target)
    assert found.shape == (20,)
    assert (found >= 0).all()
    assert np.isfinite(found).all()


def test_features_are_compressed() -> None:
    assert compress(np.random.default_rng(0).normal(size=(300, 500))).shape == (300, 128)
    assert compress(np.random.default_rng(0).normal(size=(20, 500))).shape == (20, 20)


def test_choose_on_the_drawn_corpus(drawn: Path, tmp_path: Path) -> None:
    """The first batch is asked once; annotate of the whole sample asks only the second."""
    params: Params = load(ROOT / "params.yaml")
    corpus = params.corpora["demo"].model_copy(update={"path": str(drawn)})
    posts = tmp_path / "posts"
    ingest(
        open_corpus(corpus, params.demo.model_copy(update={"posts": 300})),
        Rules("demo", b"key", "full", corpus.max_pixels, 100),
        posts=posts,
        problems=tmp_path / "problems.parquet",
    )
    settings = Sample(design="active", posts=40, pool=80, image_px=256)
    task = params.tasks["gender_bias"].model_copy(
        update={"sample": settings, "annotate": Annotate(**{"from": "teacher"})}
    )
    out = tmp_path / "chosen.parquet"
    from assay.sampling import write_sample
    from assay.teacher.annotate import annotate

    choose(
        posts,
        drawn,
        out,
        task=task,
        student=params.students["text_only"],
        max_pixels=corpus.max_pixels,
        ask=partial(
            annotate,
            settings=task.annotate,
            target=task.target,
            rubric=ROOT / "rubrics" / task.annotate.rubric_file("gender_bias"),
            task="t",
            committed=tmp_path / "none.parquet",
        ),
    )
    taken = read_choice(out, 300)
    assert taken is not None
    assert 36 <= len(taken.inclusion_p) <= 44
    write_sample(posts, drawn, tmp_path / "sample", settings=settings, max_pixels=corpus.max_pixels, drawn=taken)
    figures = annotate(
        tmp_path / "sample",
        tmp_path / "labels.parquet",
        settings=task.annotate,
        target=task.target,
        rubric=ROOT / "rubrics" / "gender_bias.md",
    )
    assert figures["from_store"] == 20
    assert figures["asked"] == len(taken.inclusion_p) - 20
