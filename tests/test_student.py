"""Students: learning under every loss, missing modalities, resuming, inner folds, saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.config import ClassesTarget, Fusion, Head, LabelsTarget, LexicalBranch, ScoreTarget, Student, Train
from assay.encode.features import Features
from assay.errors import DataError, ModelError
from assay.student.fit import Fitted, fit
from assay.student.folds import fit_with_folds
from assay.student.model import StudentModel
from assay.student.parts import Part
from assay.student.trained import Trained, load_trained
from tests.test_encoders import PACKAGED

SCORE = ScoreTarget(kind="score")
CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])
LABELS = LabelsTarget(kind="labels", names=["x", "y", "z"])
SMALL = Student(image=PACKAGED.image, text=PACKAGED.text, head=Head(hidden=[16], dropout=0.1))


def part(n: int, target: Any, seed: int = 0) -> Part:
    """Features in which text and image each carry half of the answer; some posts lack one."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, n), rng.integers(0, 2, n)
    image = (rng.normal(0, 0.3, (n, 6)) + a[:, None]).astype(np.float32)
    text = (rng.normal(0, 0.3, (n, 5)) + b[:, None]).astype(np.float32)
    has_image, has_text = rng.random(n) < 0.95, rng.random(n) < 0.95
    image[~has_image], text[~has_text] = 0, 0
    words = [f"{'fine' if one else 'dull'} word{k % 7}" for k, one in enumerate(b)]
    if target.kind == "labels":
        values = np.stack([a, b, a * b], axis=1).astype(np.float32)
    else:
        values = (a + b).astype(np.int64) if target.kind == "classes" else (a + b).astype(np.float32) * 4
    return made(Features(image, text, has_image, has_text, words), values)


def made(features: Features, values: np.ndarray) -> Part:
    """A part of one task, every post a group of its own."""
    return Part(features, {"t": values}, np.ones(len(values)), np.arange(len(values)))


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (SCORE, Train(lr=0.01, epochs=30, metric="mae")),
        (SCORE, Train(lr=0.01, epochs=30, loss="huber", schedule="cosine_restarts", metric="r2", grad_accumulation=2)),
        (CLASSES, Train(lr=0.01, epochs=30, metric="f1_weighted", class_weights="balanced", label_smoothing=0.05)),
        (CLASSES, Train(lr=0.01, epochs=30, schedule="constant", warmup=0.0, clip_norm=0.0)),
        (SCORE, Train(lr=0.01, epochs=30, loss="ordinal", metric="spearman", sampler="weighted")),
        (CLASSES, Train(lr=0.01, epochs=30, loss="focal", ema=0.9, metric="auroc")),
        (LABELS, Train(lr=0.01, epochs=30, metric="f1_macro")),
        (LABELS, Train(lr=0.01, epochs=30, class_weights="balanced", sampler="weighted")),
        (LABELS, Train(lr=0.01, epochs=30, loss="focal", uncertainty_weights=True, metric="average_precision")),
        (LABELS, Train(lr=0.01, epochs=40, loss="asymmetric", modality_dropout=0.2, metric="auroc_macro")),
        (LABELS, Train(lr=0.01, epochs=30, precision="bf16", compile=False, inner_folds=0)),
    ],
    ids=[
        "mse",
        "huber, restarts, accumulation",
        "classes weighted",
        "constant rate",
        "ordinal, weighted sampler",
        "focal, averaged",
        "labels",
        "labels, pos_weight",
        "labels, focal, uncertainty",
        "labels, asymmetric",
        "bf16",
    ],
)
def test_it_learns(target: Any, settings: Train) -> None:
    fitted = fit(part(300, target), part(80, target, 1), student=SMALL, targets={"t": target}, settings=settings)
    test = part(200, target, 2)
    predicted = fitted.model.predict(test.features)["t"]
    if target.kind == "labels":
        assert ((predicted >= 0.5) == test.values["t"]).mean() > 0.85
    elif target.kind == "classes":
        assert np.allclose(predicted.sum(1), 1, atol=1e-4)
        assert (predicted.argmax(1) == test.values["t"]).mean() > 0.85
    else:
        assert predicted.min() >= 0
        assert predicted.max() <= 10
        assert np.abs(predicted - test.values["t"]).mean() < 1.0
    assert fitted.curves[0]["train_loss"] > fitted.curves[-1]["train_loss"]


@pytest.mark.parametrize(
    "head", [Head(hidden=[]), Head(hidden=[8], batch_norm=True), Head(hidden=[8], linear_skip=True, input_dropout=0.2)]
)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_heads_and_single_modalities(head: Head, modality: str) -> None:
    student = Student(**{modality: getattr(PACKAGED, modality), "head": head})
    features, nothing = part(97, CLASSES).features, np.zeros((97, 0), np.float32)
    absent = np.zeros(97, bool)
    if modality == "image":
        features = Features(features.image, nothing, features.has_image, absent, [""] * 97)
    else:
        features = Features(nothing, features.text, absent, features.has_text, features.words)
    data = made(features, part(97, CLASSES).values["t"])
    fitted = fit(data, data, student=student, targets={"t": CLASSES}, settings=Train(lr=0.01, epochs=3, batch_size=32))
    assert np.isfinite(fitted.model.predict(features)["t"]).all()


def test_absence_is_an_input_of_its_own() -> None:
    """A post without a picture is not a post with a black picture."""
    model = fit(
        part(200, SCORE), part(50, SCORE), student=SMALL, targets={"t": SCORE}, settings=Train(lr=0.01, epochs=5)
    ).model
    one = part(1, SCORE).features
    absent = Features(np.zeros_like(one.image), one.text, np.array([False]), one.has_text, one.words)
    black = Features(np.zeros_like(one.image), one.text, np.array([True]), one.has_text, one.words)
    junk = Features(np.full_like(one.image, 99), one.text, np.array([False]), one.has_text, one.words)
    assert model.predict(absent)["t"] != pytest.approx(model.predict(black)["t"])
    assert model.predict(absent)["t"] == pytest.approx(model.predict(junk)["t"])


class Killed(Exception):
    pass


def test_a_resumed_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.student.resume.OVERHEAD", 0)  # kept after every epoch, however quick
    train, val, settings = part(200, CLASSES), part(60, CLASSES, 1), Train(lr=0.005, epochs=12, patience=20)
    whole = fit(train, val, student=SMALL, targets={"t": CLASSES}, settings=settings)
    path = tmp_path / "run.pt"

    def kill(curve: dict[str, float]) -> None:
        if curve["epoch"] == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(train, val, student=SMALL, targets={"t": CLASSES}, settings=settings, checkpoint=path, on_epoch=kill)
    seen: list[float] = []
    resumed = fit(
        train,
        val,
        student=SMALL,
        targets={"t": CLASSES},
        settings=settings,
        checkpoint=path,
        on_epoch=lambda c: seen.append(c["epoch"]),
    )
    assert resumed.resumed_at == 5
    assert seen == list(range(12))
    assert resumed.curves == whole.curves
    assert np.array_equal(resumed.model.predict(val.features)["t"], whole.model.predict(val.features)["t"])
    assert not path.exists()


def test_patience_and_the_best_epoch() -> None:
    rng = np.random.default_rng(0)
    noise = made(part(60, CLASSES).features, rng.integers(0, 3, 60))
    fitted = fit(
        part(60, CLASSES), noise, student=SMALL, targets={"t": CLASSES}, settings=Train(lr=0.05, epochs=60, patience=3)
    )
    assert fitted.stopped == "patience"
    assert len(fitted.curves) == fitted.best_epoch + 4
    losses = [c["val_loss"] for c in fitted.curves]
    assert losses.index(min(losses)) == fitted.best_epoch


def test_bad_training_input_is_one_line() -> None:
    empty = part(10, CLASSES)
    empty = empty.take(np.array([], int))
    with pytest.raises(DataError, match="no labelled posts"):
        fit(part(10, CLASSES), empty, student=SMALL, targets={"t": CLASSES}, settings=Train())
    same = made(part(40, CLASSES).features, np.zeros(40, np.int64))
    with pytest.raises(DataError, match=r"train.metric auroc is undefined on the val split \(40 posts"):
        fit(part(90, CLASSES), same, student=SMALL, targets={"t": CLASSES}, settings=Train(metric="auroc"))
    with pytest.raises(DataError, match=r"lower train\.lr"):
        fit(
            part(100, SCORE),
            part(20, SCORE),
            student=SMALL,
            targets={"t": SCORE},
            settings=Train(lr=1e30, clip_norm=0.0),
        )


def test_a_model_folder_comes_back_whole_and_without_pickle(tmp_path: Path) -> None:
    model = StudentModel(SMALL, {"t": CLASSES}, 6, 5)
    facts: Any = {"image": {"identity": "i", "dim": 6}, "text": {"identity": "t", "dim": 5}}
    Trained(model, "t", SMALL, {"t": CLASSES}, facts, {"image_px": 256, "max_images": 4}, {}, {}, {}).save(
        tmp_path / "m", "# card"
    )
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = load_trained(tmp_path / "m")
    features = part(20, CLASSES).features
    assert np.array_equal(loaded.model.predict(features)["t"], model.predict(features)["t"])
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"encoders": {"text": facts["text"]}}))
    with pytest.raises(ModelError, match="do not fit together"):
        load_trained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        load_trained(tmp_path / "m")
    with pytest.raises(ModelError, match="dvc repro train@"):
        load_trained(tmp_path / "none")
    assert torch.get_num_threads() >= 1


# ------------------------------------------------------------------------- fusions, branches, folds


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [Fusion(kind="gated", dim=16), Fusion(kind="cross_attention", dim=16, heads=2)])
@pytest.mark.parametrize("head", [Head(hidden=[16]), Head(kind="multitask", hidden=[16], task_hidden=8, members=2)])
def test_fusions_and_heads_learn_what_needs_both(fusion: Fusion, head: Head) -> None:
    """Label z holds where both modalities say so."""
    student = SMALL.model_copy(update={"fusion": fusion, "head": head})
    settings = Train(lr=0.005, epochs=40, patience=10)
    fitted = fit(part(400, LABELS), part(80, LABELS, 1), student=student, targets={"t": LABELS}, settings=settings)
    test = part(200, LABELS, 2)
    right = ((fitted.model.predict(test.features)["t"] >= 0.5) == test.values["t"]).mean(0)
    assert right.min() > 0.85


def test_the_gate_sees_what_is_missing() -> None:
    """A missing modality changes the answer even where its vector would have been the mean."""
    student = SMALL.model_copy(update={"fusion": Fusion(kind="gated", dim=16)})
    model = StudentModel(student, {"t": SCORE}, 6, 5)
    one = part(1, SCORE).features
    there = Features(np.zeros((1, 6), np.float32), one.text, np.array([True]), np.array([True]), one.words)
    gone = Features(np.zeros((1, 6), np.float32), one.text, np.array([False]), np.array([True]), one.words)
    assert model.predict(there)["t"] != pytest.approx(model.predict(gone)["t"])


def test_n_grams_are_learnt_and_survive_saving(tmp_path: Path) -> None:
    """Text vectors that say nothing: only the words tell."""
    student = SMALL.model_copy(update={"lexical": LexicalBranch(buckets=1024, words=1, chars=[])})

    def blind(n: int, seed: int) -> Part:
        found = part(n, LABELS, seed)
        found.features.text[:] = 0
        return found

    settings = Train(lr=0.003, lr_lexical=0.05, epochs=40, patience=40)
    fitted = fit(blind(400, 0), blind(80, 1), student=student, targets={"t": LABELS}, settings=settings)
    test = blind(200, 2)
    held = fitted.model.predict(test.features)["t"][:, 1] >= 0.5
    has = test.features.has_text
    assert (held == test.values["t"][:, 1])[has].mean() > 0.9
    facts: Any = {"image": {"identity": "i", "dim": 6}, "text": {"identity": "t", "dim": 5}}
    trained = Trained(fitted.model, "t", student, {"t": LABELS}, facts, {"image_px": 9, "max_images": 1}, {}, {}, {})
    trained.save(tmp_path / "m", "card")
    again = load_trained(tmp_path / "m").model.predict(test.features)["t"]
    assert np.array_equal(again, fitted.model.predict(test.features)["t"])


def with_folds(pool: Part, settings: Train) -> Fitted:
    """A student of classes with inner folds, nothing kept."""
    return fit_with_folds(
        pool,
        student=SMALL,
        targets={"t": CLASSES},
        settings=settings,
        checkpoint=None,
        on_epoch=None,
        new_towers=lambda: None,
    )


def test_inner_folds_use_val_too_and_never_show_a_post_to_its_judge() -> None:
    pool = part(240, CLASSES)
    pool.group = np.arange(240) // 2
    settings = Train(lr=0.01, epochs=30, inner_folds=4, self_distil=0.5)
    fitted = with_folds(pool, settings)
    assert fitted.inner["t"].shape == (240, 3)
    assert np.allclose(fitted.inner["t"].sum(1), 1, atol=1e-4)
    assert (fitted.inner["t"].argmax(1) == pool.values["t"]).mean() > 0.8
    assert "val_loss" in fitted.curves[0]
    test = part(200, CLASSES, 3)
    assert (fitted.model.predict(test.features)["t"].argmax(1) == test.values["t"]).mean() > 0.85


def test_a_killed_run_of_inner_folds_goes_on(tmp_path: Path) -> None:
    pool, path = part(160, CLASSES), tmp_path / "run.pt"
    settings = Train(lr=0.01, epochs=8, inner_folds=3)
    common: Any = {"student": SMALL, "targets": {"t": CLASSES}, "settings": settings, "new_towers": lambda: None}
    whole = fit_with_folds(pool, checkpoint=None, on_epoch=None, **common)

    def kill(curve: dict[str, float]) -> None:
        if curve["epoch"] == 1:
            raise Killed

    with pytest.raises(Killed):
        fit_with_folds(pool, checkpoint=path, on_epoch=kill, **common)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    resumed = fit_with_folds(pool, checkpoint=path, on_epoch=None, **common)
    assert np.array_equal(resumed.model.predict(pool.features)["t"], whole.model.predict(pool.features)["t"])
    assert list(tmp_path.iterdir()) == []


def test_soft_targets_move_the_student_to_the_distribution() -> None:
    """Hard labels say class 0 for all; distributions say 70 % class 1."""
    train = made(part(200, CLASSES).features, np.zeros(200, np.int64))
    train.soft = {"t": np.tile(np.array([0.2, 0.7, 0.1], np.float32), (200, 1))}
    settings = Train(lr=0.02, soft_targets=1.0)
    fitted = fit(train, None, student=SMALL, targets={"t": CLASSES}, settings=settings, epochs=30)
    mean = fitted.model.predict(train.features)["t"].mean(0)
    assert mean == pytest.approx([0.2, 0.7, 0.1], abs=0.06)


def test_two_tasks_learn_over_one_trunk_from_different_posts() -> None:
    """Task s has labels for half of the posts, task t for the other half."""
    train, test = part(400, CLASSES), part(200, CLASSES, 2)
    score = part(400, SCORE).values["t"]
    half = np.arange(400) % 2 == 0
    train.values = {"t": np.where(half, train.values["t"], -1), "s": np.where(half, np.nan, score).astype(np.float32)}
    targets: Any = {"t": CLASSES, "s": SCORE}
    settings = Train(lr=0.01, epochs=40, uncertainty_weights=True, patience=40)
    head = SMALL.model_copy(update={"head": Head(kind="multitask", hidden=[16], task_hidden=8)})
    found = fit(train, train, student=head, targets=targets, settings=settings).model.predict(test.features)
    assert (found["t"].argmax(1) == test.values["t"]).mean() > 0.8
    assert np.abs(found["s"] - part(200, SCORE, 2).values["t"]).mean() < 1.5
