"""The package as a library: DataFrames in, DataFrames out, and no exception for a post."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import assay
from assay.columns import files_in, text_in
from assay.errors import CorpusError, RubricError, SettingsError, TeacherError
from tests.conftest import ROOT, StubTeacher, picture
from tests.serving import BIAS, MOODS, make_model

RUBRIC = "# Mood\n\n## yes\n\nIt is.\n\n## no\n\nIt is not.\n"
TARGET = {"kind": "classes", "names": ["yes", "no"]}


@pytest.fixture
def posts(tmp_path: Path) -> pd.DataFrame:
    """Rows with a picture, without one, with one that is not there, with bytes, with nothing; an index of its own."""
    (tmp_path / "a.jpg").write_bytes(picture())
    cells = ["a.jpg", None, "gone.jpg", picture((1, 2, 3)), float("nan"), ["a.jpg", "../out.jpg"]]
    bodies = ["one", "two", "three", "", None, "six"]
    return pd.DataFrame({"caption": bodies, "pic": cells}, index=[f"row{i}" for i in range(6)])


def test_rate_answers_row_by_row_and_pays_once(posts: pd.DataFrame, stub: StubTeacher, tmp_path: Path) -> None:
    given = {"text": "caption", "image": "pic", "images_root": tmp_path, "target": TARGET, "anchors": 0}
    told = {"base_url": stub.url, "model": "m", "usd_per_million_input": 1.0, "usd_per_million_output": 1.0}
    found = assay.rate(posts, rubric=RUBRIC, teacher=told, **given)  # type: ignore[arg-type]
    assert found.index.tolist() == posts.index.tolist()
    assert found["status"].tolist() == ["ok"] * 4 + ["failed", "ok"]
    assert set(found["value"].dropna()) <= {"yes", "no"}
    assert pd.isna(found["value"].iloc[4])
    assert found["reason"].iloc[4].startswith("no_content")
    assert found["cost_usd"].dropna().sum() == pytest.approx(5 * 110e-6)
    assert found.attrs["figures"]["asked"] == 5
    asked = sum(stub.asked.values())
    (tmp_path / "r.md").write_text(RUBRIC)
    again = assay.rate(posts[::-1], rubric=tmp_path / "r.md", teacher=told, **given)  # type: ignore[arg-type]
    assert again["value"].reindex(found.index).tolist()[:4] == found["value"].tolist()[:4]
    assert sum(stub.asked.values()) == asked
    sent = [one["messages"][-1]["content"] for one in stub.requests[-5:]]
    assert sorted(sum(part["type"] == "image_url" for part in one) for one in sent) == [0, 0, 1, 1, 1]


def test_rate_keeps_to_a_budget_over_calls(stub: StubTeacher) -> None:
    told = {"base_url": stub.url, "model": "m", "concurrency": 1}
    told |= {"usd_per_million_input": 100.0, "usd_per_million_output": 100.0}
    many = pd.DataFrame({"text": [f"post {i}" for i in range(60)]})
    with pytest.raises(TeacherError, match="budget"):
        assay.rate(many, rubric=RUBRIC, target=TARGET, teacher=told, budget_usd=0.05, anchors=0)
    with pytest.raises(TeacherError, match="budget"):  # another call of the same task
        assay.rate(many[50:], rubric=RUBRIC, target=TARGET, teacher=told, budget_usd=0.05, anchors=0)
    assert sum(stub.asked.values()) < 15


def test_what_does_not_fit_is_one_line(posts: pd.DataFrame) -> None:
    for wrong, why in (
        ({"text": "caption", "image": None, "target": {"kind": "clas"}}, r"target: kind: 'clas' is unknown; allowed"),
        ({"text": "nope", "image": None}, r"rate: no column 'nope' or None; it has caption, pic"),
        ({"text": "caption", "votez": 3}, r"annotate: votez: unknown key .*allowed: .*votes"),
        ({"text": "caption", "teacher": "ftp://x"}, r"annotate: teacher: base_url 'ftp://x' must be demo or begin"),
    ):
        with pytest.raises(SettingsError, match=why):
            assay.rate(posts, rubric=RUBRIC, **wrong)  # type: ignore[arg-type]
    with pytest.raises(RubricError, match=r"absent\.md: No such file"):
        assay.rate(posts, rubric="absent.md", text="caption", target=TARGET)
    with pytest.raises(RubricError, match="no heading for 'maybe'"):
        assay.rate(posts, rubric=RUBRIC, text="caption", target={"kind": "classes", "names": ["yes", "maybe"]})


@pytest.mark.parametrize("target", [MOODS, BIAS], ids=["classes", "score"])
def test_a_student_scores_a_table(posts: pd.DataFrame, tmp_path: Path, target: object) -> None:
    student = assay.Predictor.load(make_model(tmp_path / "task", target))  # type: ignore[arg-type]
    assert repr(student).startswith("Predictor(task: ")
    assert "packaged/minilm-l6; 1 student)" in repr(student)
    found = student.predict_table(posts, text="caption", image="pic", images_root=tmp_path)
    assert found.index.tolist() == posts.index.tolist()
    assert found["status"].tolist() == ["ok", "text_only", "text_only", "image_only", "failed", "ok"]
    assert found["reason"].iloc[2] == "missing_image: gone.jpg: No such file or directory"
    assert "outside_corpus" in found["reason"].iloc[5]
    assert pd.isna(found["value"].iloc[4])
    one = student.predict(text="one", image=tmp_path / "a.jpg")
    assert found["value"].iloc[0] == one.value
    if one.probabilities:
        assert found[[f"p_{name}" for name in one.probabilities]].iloc[0].tolist() == list(one.probabilities.values())
    lost = student.predict(text="one", image="gone.jpg")
    assert (lost.status, lost.reason) == ("text_only", "missing_image: gone.jpg: No such file or directory")
    assert student.predict(image="gone.jpg").status == "failed"
    assert student.predict_table(posts[:0], text="caption").empty
    with pytest.raises(SettingsError, match="no column 'text' or 'image'"):
        student.predict_table(posts)


def test_a_corpus_as_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["id;body;who", *(f"{i};a caption {i};user{i % 2}" for i in range(5)), "1;again;x"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    columns = {"text": "body", "image": None, "author": "who"}
    found = assay.load_corpus(tmp_path / "t.csv", columns=columns)
    assert found["text"].tolist() == [f"a caption {i}" for i in range(5)]
    assert found["author"].nunique() == 2
    assert not found["author"].str.startswith("user").any()
    assert found.attrs["accounting"]["dropped"]["total"] == 1
    assert [one["code"] for one in found.attrs["problems"]] == ["duplicate_id"]
    with pytest.raises(SettingsError, match=r"corpus: kind: 'tabl' is unknown"):
        assay.load_corpus(tmp_path / "t.csv", kind="tabl")
    monkeypatch.chdir(ROOT)
    with pytest.raises(CorpusError, match=r"no corpus or file nothing; params\.yaml has demo"):
        assay.load_corpus("nothing")


def test_a_script_without_a_guard_may_use_worker_processes(tmp_path: Path) -> None:
    """In an interpreter of its own, since that is where it went wrong: workers ran the script again."""
    lines = ["id,text", *(f"{i},caption number {i}" for i in range(4000))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "script.py").write_text(
        "import assay\nprint(len(assay.load_corpus('t.csv', columns={'image': None}, detect_language=False)))\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "ASSAY_WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["4000"], done.stderr[-800:]


def test_cells_of_all_kinds_are_read_or_said(tmp_path: Path) -> None:
    """What loops over arrays, data sets and frames bring."""
    (tmp_path / "a.jpg").write_bytes(picture())
    whole = (tmp_path / "a.jpg").read_bytes()
    drawn = Image.open(tmp_path / "a.jpg")
    path = str(tmp_path / "a.jpg")
    files = [np.str_(path), np.bytes_(whole), memoryview(whole), bytearray(whole), tmp_path / "a.jpg", drawn]
    files += [{"bytes": whole, "path": None}, {"bytes": None, "path": path}, np.array([path]), pd.Series([path])]
    for cell in files:
        data, lost = files_in(cell, None)
        assert (len(data), lost) == (1, []), type(cell)
    for cell in (None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, "", []):
        assert files_in(cell, None) == ([], [])
        assert text_in(cell) in ("", "[]")
    assert files_in(7, None) == ([], [("bad_image", "neither path nor bytes, but int")])
    assert files_in("a\0b", None)[1][0][0] == "missing_image"
    assert (text_in(b"hello"), text_in(3), text_in(np.str_("x"))) == ("hello", "3", "x")


def test_frames_that_cannot_be_understood_are_one_line(tmp_path: Path) -> None:
    student = assay.Predictor.load(make_model(tmp_path / "task", MOODS))
    twice = pd.DataFrame([["a", "b"], ["c", "d"]], columns=["text", "text"])
    levels = pd.DataFrame([["a", "b"]], columns=pd.MultiIndex.from_tuples([("text", "x"), ("text", "y")]))
    wrong = (twice, "several columns are named 'text'"), (levels, "several columns"), (["a"], "posts are a list")
    for frame, why in wrong:
        with pytest.raises(SettingsError, match=why):
            student.predict_table(frame)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=why):
            assay.rate(frame, rubric=RUBRIC, target=TARGET)  # type: ignore[arg-type]
    assert student.predict(text=float("nan")).status == "failed"  # type: ignore[arg-type]
    assert student.predict_table(pd.DataFrame({"text": []})).columns.tolist() == ["value", "status", "reason"]
    assert assay.rate(pd.DataFrame({"text": []}), rubric=RUBRIC, target=TARGET).empty
    nothing = assay.rate(pd.DataFrame({"text": [None, ""]}), rubric=RUBRIC, target=TARGET)
    assert nothing["status"].tolist() == ["failed", "failed"]
    with pytest.raises(RubricError, match=r"rubrics/none\.txt: No such file"):
        assay.rate(pd.DataFrame({"text": ["a"]}), rubric="rubrics/none.txt")
    with pytest.raises(SettingsError, match="target: kind"):
        assay.rate(pd.DataFrame({"text": ["a"]}), rubric=RUBRIC, target="scor")  # type: ignore[arg-type]
