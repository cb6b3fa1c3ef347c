"""assay export --task --csv: scores beside the rows that they are of."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from assay import cli, config
from assay.errors import DataError, SettingsError
from assay.posts import PROBLEM_SCHEMA, write_table
from assay.scoring.prediction import prediction_schema
from assay.scoring.scores import write_scores
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with a repeated id, a row without one and a formula, scored as a score and as classes."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "posts.csv").write_text(
        "nr;text;extra\n7;good day;x\n8;=1+1;y\n7;again;z\n;no id;w\n9;last one;v\n", encoding="utf-8"
    )
    columns = {"id": "nr", "text": "text", "image": None}
    raw["corpora"]["mine"] = {"kind": "table", "path": str(tmp_path / "posts.csv"), "columns": columns}
    for task in ("gender_bias", "sentiment"):
        raw["tasks"][task]["corpus"] = "mine"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    params = config.load(tmp_path / "params.yaml")
    for task, values in (("gender_bias", [1.5, 2.25, None]), ("sentiment", ["positive", "neutral", None])):
        empty = dict.fromkeys(prediction_schema(params.tasks[task].target).names)
        rows = []
        for post_id, value in zip(("7", "8", "9"), values, strict=True):
            row = empty | {"post_id": post_id, "status": "ok", "value": value, "in_train": False, "unlike": False}
            if value is None:
                row |= {"status": "failed", "reason": "no_content"}
            elif task == "gender_bias":
                row |= {"interval_low": value - 1, "interval_high": value + 1}
            else:
                row |= {"probabilities": [0.5, 0.3, 0.2], "prediction_set": ["positive", "neutral"]}
            rows.append(row)
        table = pa.Table.from_pylist(rows, schema=prediction_schema(params.tasks[task].target))
        write_table(table.slice(0, 2), tmp_path / "data/predictions" / task / "part-00000.parquet")
        write_table(table.slice(2), tmp_path / "data/predictions" / task / "part-00001.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(monkeypatch: pytest.MonkeyPatch, task: str) -> list[dict[str, str]]:
    monkeypatch.setattr("sys.argv", ["assay", "export", "--task", task, "--csv", "out/scores.csv"])
    cli.main()
    with open("out/scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_table_is_there_with_its_score_or_why_not(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = exported(monkeypatch, "gender_bias")
    assert [row["extra"] for row in rows] == ["x", "y", "z", "w", "v"]  # also a column that nothing maps
    assert [row["assay_gender_bias_status"] for row in rows] == ["ok", "ok", "repeated", "dropped", "failed"]
    assert [row["assay_gender_bias"] for row in rows] == ["1.5", "2.25", "", "", ""]
    assert rows[0]["assay_gender_bias_low"] == "0.5"
    assert rows[1]["text"] == "'=1+1"  # no formula for a spreadsheet
    assert rows[4]["assay_gender_bias_reason"] == "no_content"
    assert "2 ok, 1 repeated, 1 dropped, 1 failed" in capsys.readouterr().err
    moods = exported(monkeypatch, "sentiment")
    assert moods[0]["assay_sentiment"] == "positive"
    assert moods[0]["assay_sentiment_set"] == "positive, neutral"
    assert [moods[0][f"assay_sentiment_p_{name}"] for name in ("positive", "neutral", "negative")] == [
        "0.5",
        "0.3",
        "0.2",
    ]


def test_what_was_not_scored_and_what_is_no_task_is_one_line(project: Path) -> None:
    params = config.load(project / "params.yaml")
    with pytest.raises(DataError, match=r"run `dvc repro infer@hateful`"):
        write_scores("hateful", params, project / "data", project / "out.csv")
    with pytest.raises(SettingsError, match="no task 'nothing'"):
        write_scores("nothing", params, project / "data", project / "out.csv")
    shutil.rmtree(project / "data")
    for words in (["--task", "sentiment"], ["models/x", "--task", "sentiment", "--csv", "a.csv"], []):
        with pytest.raises(SettingsError, match="say"):
            cli.call(["export", *words])
    assert not (project / "out.csv").exists()


def test_a_row_that_was_dropped_does_not_take_the_score_of_a_later_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "posts.csv").write_text("nr;text;extra\n7;;empty\n7;good day;real\n8;x;y\n9;z;v\n")
    row = {"post_id": "7", "source": "posts.csv:2", "stage": "ingest", "code": "no_content", "severity": "dropped"}
    table = pa.Table.from_pylist([row | {"detail": ""}], schema=PROBLEM_SCHEMA)
    write_table(table, project / "data/corpora/mine/problems.parquet")
    rows = exported(monkeypatch, "gender_bias")
    assert [row["assay_gender_bias_status"] for row in rows[:2]] == ["dropped", "ok"]
    assert rows[0]["assay_gender_bias_reason"] == "no_content"


def test_own_tables_are_never_written_over_and_parquet_keeps_its_columns(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "posts.csv").read_text()
    params = config.load(project / "params.yaml")
    with pytest.raises(SettingsError, match="own tables; name a file elsewhere"):
        write_scores("sentiment", params, project / "data", project / "posts.csv")
    assert (project / "posts.csv").read_text() == before
    rows = [{"nr": int(i), "text": "a", "extra": f"e{i}"} for i in "789"]
    pq.write_table(pa.Table.from_pylist(rows), project / "posts.parquet")
    raw = yaml.safe_load((project / "params.yaml").read_text())
    raw["corpora"]["mine"]["path"] = str(project / "posts.parquet")
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    assert [row["extra"] for row in exported(monkeypatch, "sentiment")] == ["e7", "e8", "e9"]
