"""Files that may be damaged, and model folders that may come from anybody."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay import durable
from assay.encode.encoders import hub, hub_is_allowed
from assay.errors import AssayError, EncoderError, ModelError
from assay.posts import write_table
from assay.scoring.predict import Predictor
from assay.student.resume import Checkpoint, State
from assay.student.trained import load_trained
from tests import warm
from tests.serving import MOODS, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("elsewhere") / "moods", MOODS, {"set_q90": 0.8})


def changed(model: Path, out: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    shutil.copytree(model, out)
    config = json.loads((out / "config.json").read_text())
    found = change(config)
    (out / "config.json").write_text(json.dumps(config if found is None else found))
    return out


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Set the last of these at the place that the others name."""
    *keys, last, value = path

    def change(config: dict[str, Any]) -> None:
        here: Any = config
        for key in keys:
            here = here[key]
        here[last] = value

    return change


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "identity out of the folder": put("encoders", "image", "identity", "../../../../tmp/owned"),
    "identity with a slash": put("encoders", "text", "identity", "a/b"),
    "identity empty": put("encoders", "text", "identity", ""),
    "vectors of 10^13": put("encoders", "image", "dim", 10**13),
    "vectors of a million": put("encoders", "image", "dim", 1_000_000),
    "vectors of -5": put("encoders", "image", "dim", -5),
    "vectors of text": put("encoders", "image", "dim", "512"),
    "layers of 10^13": put("student", "head", "hidden", [10**13, 10**13]),
    "layers of -1": put("student", "head", "hidden", [-1]),
    "n-grams of 10^12": put("student", "text", "max_tokens", 10**12),
    "no preprocessing": lambda c: {k: v for k, v in c.items() if k != "preprocessing"},
    "pictures of text": put("preprocessing", "image_px", "256"),
    "pictures of 10^9": put("preprocessing", "image_px", 10**9),
    "calibration of text": put("calibration", "moods", "set_q90", "0.8"),
    "calibration of NaN": put("calibration", "moods", "set_q90", float("nan")),
    "calibration of nobody": put("calibration", "nobody", {}),
    "targets of nothing": put("targets", {}),
    "a target named as a path": put("targets", {"../x": MOODS.model_dump()}),
    "a target of another size": put("targets", "moods", "names", ["a", "b"]),
    "a student without its encoder": put("student", "image", None),
    "more fields": put("run", "rm -rf"),
    "a list": lambda c: [c],
    "deep": lambda c: json.loads("[" * 400 + "]" * 400),
    "name of a path": put("name", "../x"),
    "versions of numbers": put("versions", {"torch": 2}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_one_line_and_writes_nothing(name: str, model: Path, tmp_path: Path, home: Path) -> None:
    folder = changed(model, tmp_path / "hostile", HOSTILE[name])
    with pytest.raises(ModelError) as told:
        load_trained(folder)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600
    assert not home.exists() or not list(home.rglob("*"))


def test_the_command_line_says_so_too(model: Path, tmp_path: Path) -> None:
    folder = changed(model, tmp_path / "hostile", HOSTILE["layers of 10^13"])
    command = [str(warm.folder() / "assay"), "predict", "--model", str(folder), "--text", "x"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("assay: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_from_elsewhere_asks_the_hub_for_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    seen: list[bool] = []

    def load(*_: Any, **options: Any) -> Any:
        seen.append(constants.HF_HUB_OFFLINE)
        assert options["trust_remote_code"] is False
        assert options["revision"] == "abc123"
        raise OSError("not here")

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", load)
    before = constants.HF_HUB_OFFLINE
    there = {"encoder": "transformers/some/model", "revision": "abc123"}
    folder = changed(model, tmp_path / "named", lambda c: c["student"]["text"].update(there))
    monkeypatch.delenv("ASSAY_HUB", raising=False)
    with pytest.raises(EncoderError, match="ASSAY_HUB=1"):
        Predictor.load(folder, cached=False).predict(text="x")
    monkeypatch.setenv("ASSAY_HUB", "1")
    assert hub_is_allowed()
    with pytest.raises(EncoderError):
        Predictor.load(folder, cached=False).predict(text="x")
    assert seen == [True, before]
    with hub(allowed=False):
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


# ------------------------------------------------------------------------------- damaged leftovers


def test_signed_files_are_checked_and_damaged_ones_put_aside(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    assert not durable.is_whole(path, pq.read_table)
    write_table(pa.table({"x": list(range(1000))}), path)
    durable.sign(path)
    assert durable.is_whole(path, pq.read_table)
    data = path.read_bytes()
    for damaged in (data[:-20], data[:100] + b"\0" * 50 + data[150:], b""):
        path.write_bytes(damaged)
        assert not durable.is_whole(path, pq.read_table)
        assert not path.exists()
        assert (tmp_path / "a.parquet.damaged").read_bytes() == damaged
        path.write_bytes(data)
        durable.sign(path)
    (tmp_path / "a.parquet.sha256").unlink()  # killed before it was signed: the file itself decides
    assert durable.is_whole(path, pq.read_table)
    path.write_bytes(data[:-20])
    assert not durable.is_whole(path, pq.read_table)
    path.write_bytes(data)
    durable.sign(path)
    durable.remove(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet.damaged"]


def test_unfinished_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    import os

    for name in (f"run.pt.{2**22 + 9}.tmp", f"run.pt.{os.getpid()}.tmp", "other.tmp", "run.pt"):
        (tmp_path / name).write_bytes(b"x" * 100)
    durable.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f"run.pt.{os.getpid()}.tmp", "other.tmp", "run.pt"}


def test_a_cut_checkpoint_is_not_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = torch.nn.Linear(3, 2)
    kept = Checkpoint(tmp_path / "c" / "run.pt", {"model": layer})
    kept.keep(State(epoch=3), {"w": torch.ones(2)})
    found = kept.load()
    assert found is not None
    assert found[0].epoch == 3
    path = tmp_path / "c" / "run.pt"
    path.write_bytes(path.read_bytes()[:-30])
    assert kept.load() is None
    assert "kept as run.pt.damaged" in capsys.readouterr().err
    assert np.isfinite(layer.weight.detach().numpy()).all()
    kept.keep(State(epoch=1), {})
    kept.remove()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["run.pt.damaged"]


def test_errors_never_speak_to_the_terminal() -> None:
    assert str(AssayError("a\x1b[31mb\u202ec\x00")) == "a\ufffd[31mb\ufffdc\ufffd"
