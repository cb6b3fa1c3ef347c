"""assay check on the world: what params.yaml names is there, or all that is not is said at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay import cli, config
from assay.cli import world
from assay.cli.world import online
from assay.errors import SettingsError
from tests.conftest import ROOT, StubTeacher


def project(root: Path, **corpus: Any) -> dict[str, Any]:
    """Settings of a task on a table of one's own, with the rubrics and activities that come with assay."""
    shutil.copytree(ROOT / "rubrics", root / "rubrics")
    shutil.copytree(ROOT / "data/audits", root / "data/audits")
    (root / "posts.csv").write_text("id;caption;who\n1;so happy today;a\n")
    raw: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    told = {"kind": "table", "path": str(root / "posts.csv"), "columns": {"id": "id", "text": "caption", "image": None}}
    raw["corpora"]["mine"] = told | corpus
    raw["scan"] = ["mine"]
    return raw


def check(root: Path, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setattr("sys.argv", ["assay", "check", "--params", str(root / "params.yaml")])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_all_that_is_wrong_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = project(tmp_path, columns={"id": "id", "text": "captoin"})
    (tmp_path / "rubrics/hateful.md").unlink()
    raw["tasks"]["sentiment"]["target"]["names"] = ["positive", "neutral", "mixed"]
    raw["tasks"]["gender_bias"]["student"] = "own"
    raw["students"]["own"] = {"text": {"encoder": str(tmp_path / "no-such-encoder")}}
    raw["corpora"]["other"] = {"kind": "mvsa", "path": str(tmp_path / "no-such-corpus")}
    raw["scan"].append("other")
    raw["audits"]["age"]["activities"] = "nothing.csv"
    assert check(tmp_path, raw, monkeypatch) == 1
    said = capsys.readouterr().err
    for wanted in (
        "tasks.hateful: ",
        "no heading for 'mixed'",
        "no-such-encoder: no such folder",
        "audits.age.activities: nothing.csv is not there",
        "no-such-corpus: not there",
        "captoin",
        "6 thing(s)",
    ):
        assert wanted in said, said
    assert "Traceback" not in said


def test_packages_that_settings_want_are_asked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = project(tmp_path)
    raw["students"]["packaged"]["text"]["ocr"] = True
    raw["deploy"] = ["hateful"]
    assert check(tmp_path, raw, monkeypatch) == 0
    monkeypatch.setattr(world, "find_spec", lambda name: None)
    assert check(tmp_path, raw, monkeypatch) == 1
    said = capsys.readouterr().err
    assert "students.packaged.text.ocr needs rapidocr: pip install -e" in said
    assert "deploy: hateful needs openvino: pip install -e" in said


def test_what_is_in_order_passes_and_keys_are_asked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = project(tmp_path)
    teacher = raw["tasks"]["gender_bias"]["annotate"]["teacher"]
    teacher |= {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_KEY"}
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert check(tmp_path, raw, monkeypatch) == 0
    assert "tasks.gender_bias: NO_SUCH_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("NO_SUCH_KEY", "secret-of-mine")
    assert check(tmp_path, raw, monkeypatch) == 0
    said = capsys.readouterr().err
    assert "in order" in said
    assert "NO_SUCH_KEY" not in said
    assert "secret-of-mine" not in said


def test_assay_alone_prints_its_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["assay"])
    cli.main()
    assert "Usage: assay" in capsys.readouterr().out


def test_a_server_of_no_model_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["assay", "serve", "--model", str(tmp_path / "nosuch")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    said = capsys.readouterr().err.strip()
    assert "no readable config.json" in said
    assert len(said.splitlines()) == 1


class Models:
    """A server that says which models it has, to whoever has the key."""

    def __init__(self, stub: StubTeacher) -> None:
        class Handler(stub.server.RequestHandlerClass):  # type: ignore[misc, name-defined]
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != "Bearer right":
                    self.answer(401, {"error": {"message": f"no such key: {self.headers.get('Authorization')}"}})
                else:
                    self.answer(200, {"data": [{"id": "qwen2.5vl:7b"}, {"id": "llava"}]} if "/v1/" in self.path else {})

        stub.server.RequestHandlerClass = Handler


def test_online_it_asks_the_teachers_which_models_they_have(
    stub: StubTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Models(stub)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())

    def told(**teacher: Any) -> list[str]:
        raw["tasks"]["sentiment"]["annotate"]["teacher"] = {"base_url": stub.url, "model": "llava"} | teacher
        return list(online(config.Params.model_validate(raw)))

    monkeypatch.setenv("TEACHER_KEY", "right")
    assert told(api_key_env="TEACHER_KEY") == []
    (line,) = told(api_key_env="TEACHER_KEY", model="qwen2.5vl")
    assert line == "tasks.sentiment.annotate.teacher.model: qwen2.5vl is not there; it has qwen2.5vl:7b, …"
    monkeypatch.setenv("TEACHER_KEY", "a-secret-that-is-wrong")
    (line,) = told(api_key_env="TEACHER_KEY")
    assert line.endswith("refuses the key of TEACHER_KEY (401)")
    assert "a-secret-that-is-wrong" not in line
    monkeypatch.delenv("TEACHER_KEY")
    (line,) = told(api_key_env="TEACHER_KEY")
    assert "cannot be asked: annotate.teacher.api_key_env: TEACHER_KEY is not set" in line
    (line,) = told(base_url="http://127.0.0.1:9/v1")
    assert (
        line == "tasks.sentiment.annotate.teacher: http://127.0.0.1:9/v1 does not answer (ConnectError); is it running?"
    )


def test_all_that_is_wrong_with_the_settings_is_said_at_once(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("train: {lr: 0.0001, metric: mae,", "train: {lr: -1, metricc: mae,", 1)
    (tmp_path / "params.yaml").write_text(text.replace("demo: {posts: 1500, seed: 7}", "demo: {posts: many, seed: 7}"))
    with pytest.raises(SettingsError) as error:
        config.load(tmp_path / "params.yaml")
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "demo.posts", "tasks.gender_bias.train.lr", "tasks.gender_bias.train.metricc",
    ]  # fmt: skip
    assert all(line.startswith(f"{tmp_path / 'params.yaml'}: ") for line in lines)
