"""assay tune: the search over a student's settings, its resumption, its honest judge, and its experiments."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from dvc.repo import Repo
from sklearn.metrics import log_loss, mean_squared_error

from assay import config
from assay.config import Student, Train
from assay.encode import features as feature_files
from assay.errors import DataError, SettingsError
from assay.scoring.trials import is_registered, register, with_values
from assay.scoring.tuning import search_of
from assay.student import tune as tuning
from assay.student.tune import Search, loss, tune
from tests.conftest import ROOT
from tests.test_student import CLASSES, LABELS, SCORE, SMALL, part

BAD = Train(lr=1e-6, epochs=4, batch_size=128)  # learns nothing in so few steps


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_WORKERS", "1")


def write_tables(root: Path, pool: Any) -> None:
    """Features, labels and split as the stages leave them, every fourth post in the test split."""
    made = {"encoders": {}, "image_px": 64, "max_images": 1}
    feature_files.save(root / "features/sentiment", pool.ids, pool.features, made)  # type: ignore[arg-type]
    names = ("positive", "neutral", "negative")
    rows = [
        {"post_id": one, "status": "ok", "value": names[int(y)], "distribution": None, "inclusion_p": 1.0}
        for one, y in zip(pool.ids, pool.values["t"], strict=True)
    ]
    schema = [("post_id", pa.string()), ("status", pa.string()), ("value", pa.string())]
    schema += [("distribution", pa.list_(pa.float32())), ("inclusion_p", pa.float64())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(schema)), root / "labels/sentiment.parquet")
    split = {
        "post_id": pool.ids,
        "split": ["train" if int(one) % 4 else "test" for one in pool.ids],
        "group": list(range(len(pool))),
        "held_out_p": [0.25] * len(pool),
    }
    pq.write_table(pa.table(split), root / "split/sentiment.parquet")


def search(**changes: Any) -> Search:
    pool = part(240, CLASSES)
    pool.group = np.arange(240) // 2
    told: dict[str, Any] = {"name": "t", "target": CLASSES, "student": SMALL, "settings": BAD, "pool": pool}
    return Search(**(told | changes))


def test_bad_settings_are_beaten_and_a_fifth_was_never_seen() -> None:
    mlp = SMALL.model_copy(update={"head": SMALL.head.model_copy(update={"kind": "mlp"})})
    task = search(student=mlp)
    found = tune(task, minutes=5, most=5)
    first = task.standing()
    assert found.first.values == first
    assert first["train.lr"] == 1e-6
    assert found.best.loss < 0.8 * found.first.loss
    assert found.best.loss == min(one.loss for one in found.trials)
    assert found.posts + found.kept_back == 240
    assert found.kept_back == pytest.approx(48, abs=4)
    back = task.kept_back()
    assert not set(task.pool.group[back]) & set(task.pool.group[~back])
    assert found.gap["low"] is not None
    assert found.gap["low"] > 0  # on posts that no trial saw
    assert found.then["value"] > found.now["value"]


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(search(), minutes=5, most=4).trials
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "other"))
    asked = 0

    def dies(*given: Any) -> float:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise KeyboardInterrupt
        return real(*given)

    real = tuning._loss_of
    monkeypatch.setattr(tuning, "_loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        tune(search(), minutes=5, most=4)
    monkeypatch.setattr(tuning, "_loss_of", real)
    seen: list[int] = []
    again = tune(search(), minutes=5, most=4, on_trial=lambda trial: seen.append(trial.number))
    assert seen == [2, 3]  # what was done is not done again
    assert again.trials == whole
    assert tune(search(), minutes=0, most=2).trials == whole  # nothing new, and nothing lost


def test_another_process_with_the_same_search_is_refused() -> None:
    import optuna

    with tuning._study(optuna, search()), pytest.raises(SettingsError, match="another search of t"):
        tune(search(), minutes=1, most=1)


def test_what_cannot_be_searched_is_one_line() -> None:
    tuned = Student.model_validate(SMALL.model_dump() | {"image": SMALL.image.model_dump() | {"frozen": False}})  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="image learn"):
        tune(search(student=tuned), minutes=1)
    few = part(9, CLASSES)
    with pytest.raises(DataError, match="9 leakage groups; a search needs 10"):
        tune(search(pool=few), minutes=1)


def test_losses_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    weights, p = rng.random(50), rng.dirichlet(np.ones(3), 50)
    y = rng.integers(0, 3, 50)
    assert loss(CLASSES, y, p, weights) == pytest.approx(log_loss(y, p, sample_weight=weights))
    score, said = rng.random(50) * 10, rng.random(50) * 10
    wanted = mean_squared_error(score, said, sample_weight=weights) / 100
    assert loss(SCORE, score, said, weights) == pytest.approx(wanted)
    many = rng.integers(0, 2, (50, 3)).astype(float)
    each = [log_loss(many[:, k], p[:, k], sample_weight=weights, labels=[0, 1]) for k in range(3)]
    assert loss(LABELS, many, p, weights) == pytest.approx(np.mean(each))


def test_proposals_become_settings_that_can_be_loaded(tmp_path: Path) -> None:
    """Comments stay, the shared student stays as it was, and the task has one of its own."""
    text = (ROOT / "params.yaml").read_text()
    values = {"train.lr": 0.00003, "head.hidden": [256, 128], "fusion.kind": "gated", "head.dropout": 0.25}
    changed = with_values(text, "sentiment", "packaged", values)
    (tmp_path / "params.yaml").write_text(changed)
    before, after = config.load(ROOT / "params.yaml"), config.load(tmp_path / "params.yaml")
    assert after.students["packaged"] == before.students["packaged"]
    own = after.students["packaged_for_sentiment"]
    assert after.tasks["sentiment"].student == "packaged_for_sentiment"
    assert own.head.hidden == [256, 128]
    assert own.image == before.students["packaged"].image
    assert after.tasks["sentiment"].train.lr == 0.00003
    assert after.tasks["hateful"] == before.tasks["hateful"]
    assert changed.count("#") >= text.count("#") - 3


def test_trials_are_experiments_and_the_workspace_is_left_alone(tmp_path: Path) -> None:
    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "params.yaml").write_text("lr: 1\n")
    (tmp_path / "dvc.yaml").write_text("metrics:\n  - metrics/machine\nparams:\n  - params.yaml\n")
    with pytest.raises(SettingsError, match="a repository with a commit"):
        register("tune-t-1", {"params.yaml": "lr: 2\n"}, tmp_path)
    Repo.init(str(tmp_path)).close()
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    (tmp_path / "params.yaml").write_text("lr: 7\n")  # not committed
    before = git("status", "--porcelain")
    register("tune-t-1", {"params.yaml": "lr: 2\n", "metrics/machine/tune/t.json": '{"loss": 0.5}\n'}, tmp_path)
    register("tune-t-2", {"params.yaml": "lr: 3\n", "metrics/machine/tune/t.json": '{"loss": 0.25}\n'}, tmp_path)
    assert git("status", "--porcelain") == before
    assert (tmp_path / "params.yaml").read_text() == "lr: 7\n"
    assert is_registered("tune-t-1", tmp_path)
    assert not is_registered("tune-t-3", tmp_path)
    with Repo(str(tmp_path)) as repo:
        names = {name for found in repo.experiments.ls().values() for name, _ in found}
        assert names == {"tune-t-1", "tune-t-2"}
        shown = repo.metrics.show(revs=["tune-t-2"])
        assert shown["tune-t-2"]["data"]["metrics/machine/tune/t.json"]["data"] == {"loss": 0.25}
    kept = git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    assert [yaml.safe_load(git("show", f"{ref}:params.yaml"))["lr"] for ref in sorted(kept)] == [2, 3]


def test_what_is_to_be_pasted_is_whole(tmp_path: Path) -> None:
    """A section in place of another: what was not searched for is there as well."""
    from assay.cli.tune import _to_paste

    text = (ROOT / "params.yaml").read_text()
    values = {"train.lr": 0.00003, "head.dropout": 0.25}
    told = _to_paste(text, "gender_bias", "packaged", values).splitlines()
    at = next(i for i, line in enumerate(told) if line.startswith("# in place"))
    students, task = (yaml.safe_load("\n".join(part)) for part in (told[2:at], told[at:]))
    raw = yaml.safe_load(text)
    wanted = raw["students"]["packaged"]
    wanted["head"]["dropout"] = 0.25
    assert students == {"packaged_for_gender_bias": wanted}
    assert task["train"] == raw["tasks"]["gender_bias"]["train"] | {"lr": 0.00003}
    assert task["student"] == "packaged_for_gender_bias"


@pytest.mark.slow
def test_a_trial_that_fails_is_passed_over_and_half_a_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = tuning._loss_of, []

    def fails_twice(told: Search, rest: Any, values: dict[str, Any]) -> float:
        tried.append(values)
        if len(tried) in (2, 3):
            raise DataError("diverged")
        return real(told, rest, values)

    monkeypatch.setattr(tuning, "_loss_of", fails_twice)
    task = search(seed=20_240_501, settings=BAD.model_copy(update={"weight_decay": 0.0, "lr": 0.0012345}))
    found = tune(task, minutes=5, most=2)
    assert len(found.trials) == 2
    assert found.first.values == task.standing()  # not rounded
    assert tried[1] != tried[2] != tried[3]
    path = next((Path(os.environ["ASSAY_HOME"]) / "tune").glob("*.log"))
    with open(path, "ab") as file:
        file.write(b'{"op_code": 4, "wor')
    assert tune(task, minutes=5, most=3).trials[:2] == found.trials
    monkeypatch.setattr(tuning, "_loss_of", lambda *_: 1 / 0)
    assert len(tune(task, minutes=0, most=3).trials) == 3


def test_posts_of_a_test_split_and_tables_of_other_settings_have_no_part(tmp_path: Path) -> None:
    params = config.load(ROOT / "params.yaml")
    with pytest.raises(DataError, match="run `dvc repro embed@sentiment"):
        search_of("sentiment", params, tmp_path, 1)
    place = tmp_path / "settings/students/packaged.json"
    place.parent.mkdir(parents=True)
    section = json.loads(json.dumps(params.sections()["students/packaged"]))
    section["students.packaged"]["image"]["views"] = ["crop"]
    place.write_text(json.dumps(section))
    for name in ("features/sentiment", "labels/sentiment.parquet", "split/sentiment.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"students\.packaged has changed"):
        search_of("sentiment", params, tmp_path, 1)
    place.unlink()
    (tmp_path / "features/sentiment").unlink()
    pool = part(40, CLASSES)
    pool.ids = [str(i) for i in range(40)]
    write_tables(tmp_path, pool)
    assert len(search_of("sentiment", params, tmp_path, 1).pool) == 40
    held = params.tasks["sentiment"].train.model_copy(update={"crossfit": 0})
    task = params.tasks["sentiment"].model_copy(update={"train": held})
    told = search_of("sentiment", params.model_copy(update={"tasks": params.tasks | {"sentiment": task}}), tmp_path, 1)
    assert sorted(told.pool.ids) == sorted(str(i) for i in range(40) if i % 4)


def test_pasted_numbers_are_numbers() -> None:
    from assay.cli.tune import _yaml

    told = _yaml({"lr": 0.00003, "hidden": [256, 128], "kind": "mlp", "batch_size": 32, "dropout": 0.0})
    assert yaml.safe_load(told) == {"lr": 0.00003, "hidden": [256, 128], "kind": "mlp", "batch_size": 32, "dropout": 0}
    assert json.loads(json.dumps(yaml.safe_load(told)))["lr"] == pytest.approx(3e-5)
