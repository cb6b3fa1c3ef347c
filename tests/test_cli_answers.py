"""assay answers, as a user calls it: plan, export, import, in a folder with a drawn sample."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from assay.cli import main
from tests.conftest import ROOT, picture
from tests.test_quality import exported
from tests.test_teacher import write_sample


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "rubrics", tmp_path / "rubrics")
    posts = [(f"p{i}", f"caption {i} by @jane{i}", [picture()] if i % 2 else []) for i in range(6)]
    write_sample(tmp_path / "data" / "sample" / "gender_bias", posts)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `assay answers …`."""
    monkeypatch.setattr(sys, "argv", ["assay", "answers", *words])
    status = 0
    try:
        main()
    except SystemExit as exit:
        status = int(exit.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_plan_pilot_export_and_import(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(*words: str) -> tuple[int, str, str]:
        return call(monkeypatch, capsys, *words)

    _, out, _ = answers("plan", "--task", "gender_bias")
    assert "6 posts, 6 questions, 0 answered, 6 new" in out
    assert "US dollars: unknown; set usd_per_million_input" in out
    _, out, _ = answers("plan", "--task", "gender_bias", "--pilot", "2", "--json")
    assert json.loads(out.splitlines()[-1])["new_questions"] == 4
    assert json.loads(answers()[1])["answers"] == 2

    status, _, _ = answers("export", "--task", "gender_bias", "--for", "label-studio", "--count", "3")
    folder = project / "data" / "human" / "gender_bias"
    tasks = json.loads((folder / "tasks.json").read_text())
    assert (status, len(tasks)) == (0, 3)
    assert {task["data"]["people_p"] for task in tasks} == {0.5}
    answers("export", "--task", "gender_bias", "--for", "label-studio", "--count", "4")
    more = {task["data"]["post_id"] for task in json.loads((folder / "tasks.json").read_text())}
    assert len(more) == 4
    assert {task["data"]["post_id"] for task in tasks} < more  # a larger lot keeps the smaller one
    assert "jane" not in json.dumps(tasks)
    (project / "export.json").write_text(json.dumps(exported({"p0": {1: 4.0}, "p1": {1: 99.0, 2: 3.0}}, p=0.5)))
    _, _, said = answers("import", "export.json", "--task", "gender_bias")
    assert "2 labels of 2 posts written" in said
    assert "outside 0 to 10" in said
    assert (project / "human" / "gender_bias.csv").read_text().splitlines()[1:] == ["p0,1,4,0.5", "p1,2,3,0.5"]
    (project / "export.json").write_text(json.dumps(exported({"p0": {2: 5.0}})))
    answers("import", "export.json", "--task", "gender_bias")
    assert len((project / "human" / "gender_bias.csv").read_text().splitlines()) == 4  # the earlier ones stay


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "--task", "nope"), "no such task; allowed: gender_bias, sentiment, hateful"),
        (("plan", "--task", "sentiment"), "run `dvc repro sample@sentiment`"),
        (("import", "none.json", "--task", "gender_bias"), "export the project from Label Studio as JSON"),
        (
            ("export", "--task", "gender_bias", "--for", "label-studio", "--split", "test"),
            "run `dvc repro split@gender_bias`",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: tuple[str, ...],
    said: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = call(monkeypatch, capsys, *words)
    assert status == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_labels_are_asked_for_by_hand_and_all_figures_stand_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage as a user may call it, with neither a place for people's codes nor one for this machine's figures."""
    write_sample(tmp_path / "sample", [("a", "good day", []), ("b", "bad day", [])])
    monkeypatch.chdir(ROOT)
    words = {"sample": tmp_path / "sample", "rubrics": "rubrics", "humans": tmp_path, "out": tmp_path / "labels"}
    given = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    command = ["annotate.py", "--task", "sentiment", *given, "--metrics", str(tmp_path / "annotate.json")]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.syspath_prepend(str(ROOT / "stages"))
    runpy.run_path(str(ROOT / "stages" / "annotate.py"), run_name="__main__")
    figures = json.loads((tmp_path / "annotate.json").read_text())
    assert figures["posts"] == figures["asked"] == 2
    assert figures["from_store"] == 0


@pytest.mark.parametrize("module", ["assay", "assay.cli"])
def test_the_command_line_is_a_module_too(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["assay", "--version"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a module that is there already
        runpy.run_module(module, run_name="__main__")
    assert capsys.readouterr().out.startswith("assay ")
