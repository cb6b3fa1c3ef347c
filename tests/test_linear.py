"""The linear model beside a student's hidden layers: what it learns, how it is weighed, and that it travels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from assay import config
from assay.config import Head, Student, Train
from assay.encode.features import Features
from assay.errors import DataError
from assay.student import at_once
from assay.student.blend import both, fit_linear, raw_of, weigh
from assay.student.card import write_card
from assay.student.crossfit import crossfit
from assay.student.fit import fit
from assay.student.model import Inputs, StudentModel
from assay.student.parts import Part
from assay.student.trained import Trained, load_trained
from assay.targets import Target
from assay.targets.ranks import RanksTarget
from tests.test_encoders import PACKAGED
from tests.test_student import CLASSES, LABELS, SCORE, SMALL, made, part, with_folds

RANKS = RanksTarget(kind="ranks", names=["a", "b", "c"])
BLIND = SMALL.model_copy(update={"head": Head(hidden=[8])})


def standing(student: Student, target: Target, learnt: Part) -> StudentModel:
    """A student whose hidden layers know nothing, with a linear model."""
    torch.manual_seed(1)
    model = StudentModel(student, {"t": target}, learnt.features.image.shape[1], learnt.features.text.shape[1])
    inputs = Inputs(learnt.features, model)
    model.image.fit(inputs.image[inputs.has_image])
    model.text.fit(inputs.text[inputs.has_text])
    fit_linear(model, learnt, {"t": target}, seed=1)
    return model.eval()


@pytest.mark.parametrize("target", [SCORE, CLASSES, LABELS])
def test_it_is_the_regularised_model_that_scikit_learn_fits(target: Target) -> None:
    """Fitted through inner products of posts, the same as on the features themselves, n-grams apart."""
    learnt, test = part(300, target), part(100, target, 1)
    for one in (learnt, test):
        one.features.words[:] = [""] * len(one)
    model = standing(BLIND, target, learnt)
    with torch.inference_mode():
        x, other = (model.standardised(Inputs(p.features, model).rows(torch.arange(len(p)))) for p in (learnt, test))
    x, other = x.numpy() / x.shape[1] ** 0.5, other.numpy() / x.shape[1] ** 0.5
    raw, y = raw_of(model, test.features)[1], learnt.values["t"]
    nearest = []
    for strength in (0.1, 0.3, 1, 3, 10) if target is SCORE else (3, 30, 300):
        if target is SCORE:
            found = Ridge(alpha=1 / strength).fit(x, y / 10).predict(other)
            nearest.append(np.abs(1 / (1 + np.exp(-raw[:, 0])) - found.clip(0.01, 0.99)).max())
        elif target is CLASSES:
            found = LogisticRegression(C=strength, max_iter=500).fit(x, y).predict_proba(other)
            nearest.append(np.abs(torch.softmax(torch.from_numpy(raw), 1).numpy() - found).max())
        else:
            models = [LogisticRegression(C=strength, max_iter=500).fit(x, y[:, k]) for k in range(3)]
            found = np.stack([one.predict_proba(other)[:, 1] for one in models], 1)
            nearest.append(np.abs(torch.sigmoid(torch.from_numpy(raw)).numpy() - found).max())
    assert min(nearest) < 0.03  # either is an iteration that stops; other strengths are ten times as far


def test_words_count_beside_dense_features() -> None:
    """Vectors that say nothing: only the n-grams of the linear model tell."""
    learnt, test = part(300, LABELS), part(100, LABELS, 1)
    for one in (learnt, test):
        one.features.text[:] = 0
    model = standing(BLIND, LABELS, learnt)
    model.share.fill_(1.0)
    assert ((model.predict(test.features)["t"][:, 1] >= 0.5) == test.values["t"][:, 1]).mean() > 0.9


@pytest.mark.parametrize(("target", "planted"), [(CLASSES, "linear"), (CLASSES, "layers"), (SCORE, "linear")])
def test_the_part_that_is_right_answers(target: Target, planted: str) -> None:
    learnt, held = part(300, target), part(200, target, 1)
    model = standing(BLIND, target, learnt)
    raw = raw_of(model, held.features)
    wrong, right = raw[0], raw[1]
    given = (wrong, right) if planted == "linear" else (right, wrong)
    told = weigh(model, given, held, {"t": target}, Train())["t"]
    assert told["share"] >= 0.75 if planted == "linear" else told["share"] <= 0.25
    assert told["both"] <= min(told["layers"], told["linear"])
    assert both(model, given) == pytest.approx(given[0] + told["share"] * (given[1] - given[0]))


def test_no_posts_to_weigh_by_leave_the_hidden_layers_and_rows_are_heeded() -> None:
    learnt, held = part(200, CLASSES), part(100, CLASSES, 1)
    model = standing(BLIND, CLASSES, learnt)
    raw = raw_of(model, held.features)
    assert weigh(model, raw, held, {"t": CLASSES}, Train(), np.zeros(100, bool))["t"]["share"] == 0
    half = np.arange(100) < 50
    spoilt = raw[0], np.where(half[:, None], raw[1], -raw[1])
    assert weigh(model, spoilt, held, {"t": CLASSES}, Train(), half)["t"]["share"] == 1
    assert weigh(model, spoilt, held, {"t": CLASSES}, Train(), ~half)["t"]["share"] == 0


def test_ranks_and_encoders_that_learn_have_no_linear_model() -> None:
    """Ranks have cuts that no linear model has; features of an encoder that learns move."""
    learnt = part(200, CLASSES)
    model = standing(BLIND, RANKS, learnt)
    assert weigh(model, raw_of(model, learnt.features), learnt, {"t": RANKS}, Train()) == {}
    assert not model.share.any()
    image = PACKAGED.image
    assert image is not None
    assert not Student(image=image.model_copy(update={"frozen": False})).linear
    assert not SMALL.model_copy(update={"head": Head(kind="mlp")}).linear


@pytest.mark.parametrize("target", [SCORE, CLASSES, LABELS])
@pytest.mark.parametrize("kind", ["auto", "linear"])
def test_cross_fitted_students_are_weighed_by_posts_they_never_saw(target: Target, kind: str, tmp_path: Path) -> None:
    """Where a linear model is the truth, students of 240 posts are no worse than it; the folder answers the same."""
    rng = np.random.default_rng(3)
    slope = rng.normal(size=(20, 3))

    def line(n: int, seed: int) -> Part:
        x = np.random.default_rng(seed).normal(size=(n, 20)).astype(np.float32)
        tall = x @ slope + np.random.default_rng(seed + 9).normal(0, 1, (n, 3))
        yes = np.ones(n, bool)
        features = Features(x[:, :10].copy(), x[:, 10:].copy(), yes, yes, [f"word{i % 5}" for i in range(n)])
        if target is SCORE:
            return made(features, (5 + tall[:, 0] / 2).clip(0, 10).astype(np.float32))
        return made(features, tall.argmax(1) if target is CLASSES else (tall > 0).astype(np.float32))

    student = SMALL.model_copy(update={"head": Head(kind=kind, hidden=[16])})
    found = crossfit(
        line(300, 1),
        student=student,
        targets={"t": target},
        settings=Train(lr=0.003, epochs=8, metric="mae" if target is SCORE else "loss"),
        folds=3,
        checkpoint=tmp_path / "run.pt",
        on_epoch=None,
    )
    told = found.weighed["t"]
    assert told["share"] >= (1 if kind == "linear" else 0.5)
    assert told["both"] < 0.9 * told["layers"]
    facts: Any = {"image": {"identity": "i", "dim": 10}, "text": {"identity": "t", "dim": 10}}
    training = {
        "posts": {"labelled": 300},
        "best_epoch": 1,
        "epochs": 2,
        "stopped": "patience",
        "weighed": found.weighed,
    }
    sizes, folds = {"image_px": 32, "max_images": 1}, found.of_folds
    trained = Trained(
        found.model, "t", student, {"t": target}, facts, sizes, found.calibration, {}, training, folds=folds
    )
    card = write_card(trained, {"t": config.load("params.yaml").tasks["sentiment"]})
    assert f"`t` {told['share']:.0%} (loss on held-out posts: hidden layers" in card
    trained.save(tmp_path / "m", card)
    test = line(200, 5).features
    again = load_trained(tmp_path / "m").model
    assert [one.share.tolist() for one in again.members] == [one.share.tolist() for one in found.model.members]
    assert np.array_equal(again.predict(test)["t"], found.model.predict(test)["t"])


def test_inner_folds_weigh_before_they_calibrate() -> None:
    pool, test = part(240, CLASSES), part(200, CLASSES, 3)
    settings = Train(lr=1e-6, epochs=2, inner_folds=4)  # hidden layers that have not learnt
    fitted = with_folds(pool, settings)
    assert fitted.weighed["t"]["share"] == 1
    assert (fitted.inner["t"].argmax(1) == pool.values["t"]).mean() > 0.8
    assert (fitted.model.predict(test.features)["t"].argmax(1) == test.values["t"]).mean() > 0.8


def test_hidden_layers_answer_alone_where_nobody_asked_for_more() -> None:
    student = SMALL.model_copy(update={"head": Head(kind="mlp", hidden=[16])})
    learnt = part(200, CLASSES)
    fitted = fit(learnt, learnt, student=student, targets={"t": CLASSES}, settings=Train(lr=0.01, epochs=3))
    assert fitted.model.linear is None
    assert fitted.weighed == {}


@pytest.mark.slow
def test_students_that_learn_at_once_are_those_that_learn_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, on any number of cores; the figures of the first one's epochs come either way."""
    pool = part(240, CLASSES)
    given: Any = {"student": SMALL, "targets": {"t": CLASSES}, "settings": Train(lr=0.01, epochs=6), "folds": 3}
    epochs: dict[int, list[float]] = {1: [], 2: []}
    found, pools = {}, []

    class Counted(at_once.ProcessPoolExecutor):
        def __init__(self, workers: int, *args: Any) -> None:
            pools.append(workers)
            super().__init__(workers, *args)

    monkeypatch.setattr(at_once, "ProcessPoolExecutor", Counted)
    for workers in (1, 2):
        monkeypatch.setattr("assay.student.at_once.WORTH", 0)
        monkeypatch.setenv("ASSAY_WORKERS", str(workers))
        path = tmp_path / str(workers) / "run.pt"
        path.parent.mkdir()
        found[workers] = crossfit(
            pool, checkpoint=path, on_epoch=lambda c, to=workers: epochs[to].append(c["train_loss"]), **given
        )
        assert list(path.parent.iterdir()) == []
    assert pools == [1]  # beside this process
    assert epochs[1] == epochs[2] != []
    one, other = (found[workers].model.state_dict() for workers in (1, 2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert found[1].weighed == found[2].weighed


def test_a_student_that_cannot_learn_ends_the_others_and_what_is_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second student diverges; the first is kept, and a run with other labels goes on from it."""
    pool = part(240, CLASSES)
    monkeypatch.setattr(at_once, "WORTH", 10**9)  # in turn
    learn = at_once.Job.learn

    def second_fails(job: at_once.Job, on_epoch: Any = None) -> Any:
        if job.number == 1:
            raise DataError("training diverged")
        return learn(job, on_epoch)

    monkeypatch.setattr(at_once.Job, "learn", second_fails)
    given: Any = {"student": SMALL, "targets": {"t": CLASSES}, "settings": Train(lr=0.01, epochs=3), "folds": 3}
    with pytest.raises(DataError, match="diverged"):
        crossfit(pool, checkpoint=tmp_path / "run.pt", on_epoch=None, **given)
    assert [path.name for path in tmp_path.iterdir()] == ["run.cross0.npz"]
    seen: list[int] = []

    def counted(job: at_once.Job, on_epoch: Any = None) -> Any:
        seen.append(job.number)
        return learn(job, on_epoch)

    monkeypatch.setattr(at_once.Job, "learn", counted)
    curves: list[float] = []
    crossfit(pool, checkpoint=tmp_path / "run.pt", on_epoch=lambda curve: curves.append(curve["epoch"]), **given)
    assert seen == [1, 2]
    assert curves == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_posts_that_are_all_alike_and_training_with_another_aim() -> None:
    alike = part(60, CLASSES)
    alike.features.image[:], alike.features.text[:] = 1, 1
    alike.features.words[:] = [""] * 60
    model = standing(BLIND, CLASSES, alike)
    assert np.isfinite(raw_of(model, alike.features)[1]).all()
    held = part(100, CLASSES, 1)
    for settings in (Train(class_weights="balanced"), Train(sampler="weighted"), Train(loss="focal")):
        other = standing(BLIND, CLASSES, part(200, CLASSES))
        assert weigh(other, raw_of(other, held.features), held, {"t": CLASSES}, settings) == {}
        assert not other.share.any()
    image = PACKAGED.image
    assert image is not None
    learning = image.model_copy(update={"frozen": False})
    with pytest.raises(ValueError, match=r"head\.kind linear: image learn"):
        Student(image=learning, head=Head(kind="linear"))
