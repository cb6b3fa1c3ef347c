"""Answers at rest and who looked at posts: ASSAY_STORE_KEY, its rotation and wrong keys; the log of reads."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from assay.cli import main
from assay.errors import DataError, SettingsError, TeacherError
from assay.reads import note_read
from assay.remote.answers import Answer, AnswerStore
from assay.remote.sealed import MARK, VARIABLE, Seal
from assay.teacher.label_studio import export
from assay.teacher.questions import Brief
from assay.teacher.rubric import Rubric
from tests.conftest import StubTeacher
from tests.test_teacher import RUBRIC, SCORE, run, settings, write_sample

FIRST, SECOND = (Fernet.generate_key().decode() for _ in range(2))
SECRET = "my secret words ∂"


def answers() -> list[Answer]:
    return [
        Answer("a", "ok", None, f'{{"reason": "{SECRET}", "score": 3}}', "m", "plain", 1, 2, 0.5, f'["{SECRET}"]', "q"),
        Answer("b", "invalid", f"invalid_answer: not JSON: {SECRET}", SECRET, "m", "plain", 1, 2, None),
        Answer("c", "failed", "http_403", None, "m", "plain", None, None, None),
        Answer("d", "invalid", "empty_answer: none", "", "m", "plain", 1, 2, None),
    ]


def kept(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.glob("answers.sqlite*")))


def assay(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["assay", *words])
    main()


def stored() -> dict[str, Answer]:
    with AnswerStore() as store:
        return store.get("abcd")


def test_nothing_of_what_was_said_lies_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, FIRST)
    with AnswerStore() as store:
        store.put(answers())
        store.mark_invalid({"a": f"invalid_answer: {SECRET}"})
        assert store.get("abcd")["a"].reason == f"invalid_answer: {SECRET}"
        assert [row["reason"] for row in store.reasons()] == ["http_403", "empty_answer", "invalid_answer"]
        assert SECRET in store.reasons()[2]["example"]
    assert SECRET.encode() not in kept(home)
    assert FIRST.encode() not in kept(home)
    assert stored()["b"] == answers()[1]
    with AnswerStore() as store:
        assert store.forget(["invalid_answer"]) == 2, "reasons are still asked again by their code"


def test_a_wrong_or_missing_key_is_one_clear_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, FIRST)
    with AnswerStore() as store:
        store.put(answers())
    monkeypatch.setenv(VARIABLE, SECOND)
    with pytest.raises(TeacherError, match="encrypted with another key"):
        AnswerStore()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(TeacherError, match=f"set {VARIABLE} to its key"):
        AnswerStore()
    monkeypatch.setenv(VARIABLE, "too short")
    with pytest.raises(SettingsError, match="44 characters"):
        AnswerStore()
    monkeypatch.setenv(VARIABLE, f" {SECOND} , {FIRST} ")
    assert stored()["a"] == answers()[0]


def test_rotation_and_the_way_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with AnswerStore() as store:
        store.put(answers())
    assert SECRET.encode() in kept(home)
    monkeypatch.setenv(VARIABLE, FIRST)
    with AnswerStore():
        pass
    assert "2 answers of before are not encrypted" in capsys.readouterr().err
    assert stored()["a"] == answers()[0], "until then they are read as they are"
    assay(monkeypatch, *["answers", "rotate-key"])
    assert SECRET.encode() not in kept(home), "no page of the file and no journal has them still"
    monkeypatch.setenv(VARIABLE, f"{SECOND},{FIRST}")
    assay(monkeypatch, *["answers", "rotate-key"])
    monkeypatch.setenv(VARIABLE, SECOND)
    assert stored() == {answer.key: answer for answer in answers()}
    assay(monkeypatch, *["answers", "rotate-key", "--open"])
    monkeypatch.delenv(VARIABLE)
    assert stored() == {answer.key: answer for answer in answers()}
    with pytest.raises(SystemExit):
        assay(monkeypatch, *["answers", "rotate-key"])
    assert "is not set" in capsys.readouterr().err
    assay(monkeypatch, *["answers", "new-key"])
    assert Seal([capsys.readouterr().out.strip()]).has_key


def test_a_key_does_not_change_under_those_who_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerStore() as plain:
        plain.put(answers()[:1])
        monkeypatch.setenv(VARIABLE, FIRST)
        with plain.writing() as db:
            db.execute("INSERT INTO claims VALUES ('z', 'elsewhere', 1, '1', 9e12)")
        with pytest.raises(TeacherError, match="while others use it"):
            AnswerStore()
        with plain.writing() as db:
            db.execute("DELETE FROM claims")
        with AnswerStore() as sealed:
            sealed.reseal(Seal([FIRST]))
        with pytest.raises(TeacherError, match="changed by another process"):
            plain.put(answers()[1:])
        assert SECRET.encode() not in kept(home), "what was plain is gone, and nothing more came"


def test_a_reader_in_the_way_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerStore() as store:
        store.put(answers())
    monkeypatch.setenv(VARIABLE, FIRST)
    reader = sqlite3.connect(home / "answers.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM answers").fetchall()
    with AnswerStore() as store:
        store._db.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(TeacherError, match="may be left in it"):
            store.reseal(Seal([FIRST]))
        reader.execute("COMMIT")
        store.reseal(Seal([FIRST]))
    reader.close()
    assert SECRET.encode() not in kept(home)


def test_what_a_model_writes_is_not_taken_for_sealed(home: Path) -> None:
    odd = Answer("a", "invalid", f"x: {MARK}abc", f"{MARK}abc", "m", "plain", 1, 1, None)
    with AnswerStore() as store:
        store.put([odd])
        assert store.get("a")["a"].raw_answer == f"({MARK}abc"


def test_labelling_with_a_key(tmp_path: Path, stub: StubTeacher, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, FIRST)
    sample = write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(6)])
    figures, rows = run(sample, settings(stub.url))
    assert figures["answered"] == 6
    again, same = run(sample, settings(stub.url))
    assert (again["from_store"], same) == (6, rows)
    assert b'"reason": "stub"' not in kept(home)
    with sqlite3.connect(home / "answers.sqlite") as db:
        assert db.execute("SELECT COUNT(*) FROM answers WHERE raw_answer LIKE ?", (f"{MARK}%",)).fetchone() == (6,)


# -------------------------------------------------------------------------------------------- reads


def lines(home: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((home / "logs").glob("reads-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_reads_are_written_down_without_content(tmp_path: Path, home: Path) -> None:
    sample = write_sample(tmp_path / "sentiment", [(f"p{i}", f"{SECRET} {i}", []) for i in range(6)])
    export(sample, Brief(Rubric.load(RUBRIC, SCORE), settings()), tmp_path / "out", count=4)
    note_read("page search", "sentiment", 12, address="127.0.0.1")
    found = lines(home)
    assert [(line["what"], line["corpus"], line["posts"]) for line in found] == [
        ("answers export", "sentiment", 4),
        ("page search", "sentiment", 12),
    ]
    assert {"at", "user", "host", "pid"} <= set(found[0])
    assert found[1]["address"] == "127.0.0.1"
    path = next((home / "logs").glob("reads-*.jsonl"))
    assert SECRET not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_post_is_shown_where_the_log_cannot_be_written(tmp_path: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "logs").write_text("a file in the way")
    sample = write_sample(tmp_path / "s", [("p", "x", [])])
    with pytest.raises(DataError, match="no post is shown without it"):
        export(sample, Brief(Rubric.load(RUBRIC, SCORE), settings()), tmp_path / "out", count=4)
    assert not (tmp_path / "out").exists()
