"""Few labels: a student that starts from another task's student, from training to its folder, graphs and settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from assay import config
from assay.cli import main
from assay.config import Train
from assay.encode.features import EncoderFacts
from assay.errors import DataError, ModelError
from assay.places import start_folder
from assay.scoring.export import _Head
from assay.student.crossfit import crossfit
from assay.student.learn import Lesson
from assay.student.model import Inputs, Start
from assay.student.parts import Part
from assay.student.start import kept_start
from assay.student.trained import Trained, load_trained, start_of
from assay.targets.ranks import RanksTarget
from tests.test_pipeline import ROOT
from tests.test_student import CLASSES, LABELS, SMALL, part

FACTS: dict[str, EncoderFacts] = {"image": {"identity": "a", "dim": 6}, "text": {"identity": "b", "dim": 5}}
SETTINGS = Train(lr=0.01, epochs=8)


def noisy(n: int, target: Any, seed: int) -> Part:
    """Posts whose features say little each: many posts are needed to learn what these say."""
    found = part(n, target, seed)
    rng = np.random.default_rng(seed + 100)
    found.features.image[:] += rng.normal(0, 0.8, found.features.image.shape)
    found.features.text[:] += rng.normal(0, 0.8, found.features.text.shape)
    found.features.words[:] = [""] * n
    return found


def trained(pool: Part, target: Any, name: str = "rich", start: Start | None = None) -> Trained:
    """A cross-fitted student as `learn` would save it."""
    settings = {"student": SMALL, "targets": {"t": target}, "settings": SETTINGS, "folds": 3, "checkpoint": None}
    found = crossfit(pool, start=start, **settings)  # type: ignore[arg-type]
    told = {"settings": SETTINGS.model_dump(), "weighed": found.weighed}
    sizes = {"image_px": 32, "max_images": 1}
    return Trained(
        found.model,
        name,
        SMALL,
        {"t": target},
        FACTS,
        sizes,
        found.calibration,
        {},
        told,
        folds=found.of_folds,
        start=start,
    )


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a student of many labels, kept by the command."""
    folder = tmp_path_factory.mktemp("rich")
    trained(noisy(1500, LABELS, 1), LABELS).save(folder / "models" / "rich", "card")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["assay", "keep", "--task", "rich"])
        main()
    return folder


def test_what_is_kept_is_small_and_says_what_the_student_says(rich: Path) -> None:
    assert sorted(path.name for path in (rich / "starts/rich").iterdir()) == ["config.json", "start.safetensors"]
    kept, model = kept_start(rich / "starts/rich", FACTS), load_trained(rich / "models/rich").model
    assert not any("grams" in name or "lexical" in name for name in kept.state_dict())
    test = noisy(300, LABELS, 2)
    with torch.inference_mode():
        said = kept(Inputs(test.features, kept[0]).rows(torch.arange(300)))  # type: ignore[arg-type]
    for k in range(3):  # without n-grams, which these posts have not
        assert np.corrcoef(said[:, k].numpy(), model.predict(test.features)["t"][:, k])[0, 1] > 0.9


def test_few_labels_with_a_start_beat_few_labels_from_nothing(rich: Path) -> None:
    start, test = kept_start(rich / "starts/rich", FACTS), noisy(1500, CLASSES, 2)
    hits: dict[bool, list[float]] = {False: [], True: []}
    for seed in (3, 4, 5):
        few = noisy(40, CLASSES, seed)
        for has in hits:
            model = trained(few, CLASSES, start=start if has else None).model
            hits[has].append(float((model.predict(test.features)["t"].argmax(1) == test.values["t"]).mean()))
    assert np.mean(hits[True]) > np.mean(hits[False]) + 0.03


def test_it_travels_with_its_start_and_its_graph_says_the_same(rich: Path, tmp_path: Path) -> None:
    start, test = kept_start(rich / "starts/rich", FACTS), noisy(50, CLASSES, 2)
    made = trained(noisy(60, CLASSES, 3), CLASSES, "few", start)
    for member in made.model.members:
        member.share.fill_(0.5)
    made.save(tmp_path / "few", "card")
    assert (tmp_path / "few/start.safetensors").stat().st_size < 200_000  # once, not once a student
    again = load_trained(tmp_path / "few")
    assert again.start is not None
    assert again.start.name == "rich"
    wanted = made.model.predict(test.features)["t"]
    assert np.array_equal(again.model.predict(test.features)["t"], wanted)
    blind = again.model.members[0]
    assert blind.start is not None
    blind.start.scale.zero_()
    assert not np.allclose(again.model.predict(test.features)["t"], wanted)
    inputs = Inputs(test.features, *made.model.members)
    batch = inputs.rows(torch.arange(50))
    grams = torch.from_numpy(inputs.table.toarray()) if inputs.table is not None else None
    graph = torch.export.export(_Head(made.model.members).eval(), (*batch[:4], grams))
    with torch.inference_mode():
        found = graph.module()(*batch[:4], grams)[0]
    assert np.allclose(found.numpy(), wanted, atol=1e-4)
    with pytest.raises(ModelError, match="few started from rich itself"):
        start_of(again)


def test_the_weights_of_a_start_are_checked_as_the_models_own(rich: Path, tmp_path: Path) -> None:
    start = kept_start(rich / "starts/rich", FACTS)
    trained(noisy(60, CLASSES, 3), CLASSES, "few", start).save(tmp_path / "few", "card")
    whole = (tmp_path / "few/start.safetensors").read_bytes()
    (tmp_path / "few/start.safetensors").write_bytes(whole[:300])
    with pytest.raises(ModelError, match=r"start\.safetensors"):
        load_trained(tmp_path / "few")
    (tmp_path / "few/start.safetensors").write_bytes(whole)
    raw = json.loads((tmp_path / "few/config.json").read_text())
    for broken in ({"members": 10**6}, {"members": 2}, {"name": "../x"}):
        (tmp_path / "few/config.json").write_text(json.dumps(raw | {"start": raw["start"] | broken}))
        with pytest.raises(ModelError):
            load_trained(tmp_path / "few")


def lesson(rich: Path, start: str, target: Any = CLASSES) -> Lesson:
    none = rich / "none"
    return Lesson("few", {"few": target}, SMALL, SETTINGS, none, {"t": none}, none, start=rich / "starts" / start)


def test_a_start_that_does_not_fit_is_one_line(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.student.learn import _start

    made: Any = {"encoders": FACTS, "image_px": 32, "max_images": 1}
    with pytest.raises(DataError, match=r"starts/absent is not there; `assay keep --task TASK`"):
        _start(lesson(rich, "absent"), made)
    other: Any = made | {"encoders": FACTS | {"text": {"identity": "c", "dim": 5}}}
    with pytest.raises(DataError, match="reads another text encoder"):
        _start(lesson(rich, "rich"), other)
    with pytest.raises(DataError, match="has learnt t itself, also from the posts"):
        _start(replace(lesson(rich, "rich"), targets={"t": CLASSES}), made)
    with pytest.raises(DataError, match="kind ranks have no linear model"):
        _start(lesson(rich, "rich", RanksTarget(kind="ranks", names=["a", "b", "c"])), made)
    (rich / "starts/broken").mkdir(exist_ok=True)
    (rich / "starts/broken/config.json").write_text('{"format": 2}')
    with pytest.raises(ModelError, match="keep it again"):
        _start(lesson(rich, "broken"), made)
    monkeypatch.chdir(rich)
    for wrong in (["--task", "absent"], ["--task", "rich", "--name", "../x"]):
        monkeypatch.setattr("sys.argv", ["assay", "keep", *wrong])
        with pytest.raises(SystemExit):
            main()


def test_settings_know_the_start_by_its_content(rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`settings` writes its digest where train depends on it; a task without one stays as it was."""
    import importlib.util

    text = (ROOT / "params.yaml").read_text()
    old = "train: {lr: 0.0001, metric: mae,"
    assert old in text
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text.replace(old, "train: {start_from: rich, lr: 0.0001, metric: mae,"))
    monkeypatch.syspath_prepend(ROOT / "stages")
    spec = importlib.util.spec_from_file_location("stage_settings", ROOT / "stages/settings.py")
    assert spec is not None
    assert spec.loader is not None
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    found = []
    for content in (None, "a", "b"):
        if content:
            start_folder("rich").mkdir(parents=True, exist_ok=True)
            (start_folder("rich") / "config.json").write_text(content)
        monkeypatch.setattr("sys.argv", ["settings.py", "--out", "out"])
        stage.main()
        found.append(json.loads(Path("out/tasks/gender_bias/start.json").read_text())["rich"])
        assert json.loads(Path("out/tasks/sentiment/start.json").read_text()) == {}
    assert found[0] is None
    assert len(set(found)) == 3


def test_a_student_without_a_linear_model_refuses_it() -> None:
    text = (ROOT / "params.yaml").read_text()
    broken = text.replace("train: {lr: 0.0001, metric: mae,", "train: {start_from: rich, lr: 0.0001, metric: mae,")
    broken = broken.replace("head: {hidden: [128], input_dropout: 0.5}", "head: {kind: mlp, hidden: [128]}")
    with pytest.raises(ValueError, match=r"train\.start_from: student packaged has no linear model"):
        config.Params.model_validate(yaml.safe_load(broken))
