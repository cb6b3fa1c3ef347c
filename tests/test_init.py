"""assay init --csv: a table of any kind becomes a corpus, a task and a rubric, without a line of YAML by hand."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assay import cli, config
from assay.config import DemoCorpus, TableCorpus
from assay.corpora.guess import guess
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.errors import CorpusError, SettingsError
from assay.posts import read
from tests.conftest import picture

WORDS = ["dear sir or madam", "hey what's up today", "we regret to inform you", "lol that was so good"]


def table(folder: Path, rows: int = 60, **changes: Any) -> Path:
    """Posts as a social scientist has them: semicolons, dd/mm/yyyy, columns of her own names, pictures that lack."""
    (folder / "fotos").mkdir(parents=True)
    path = folder / "posts.csv"
    with open(path, "w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Nr", "Benutzer", "user_name", "Posted on", "Caption text", "photo", "likes"])
        for i in range(rows):
            name = f"p{i}.jpg"
            if i % 5:
                (folder / "fotos" / name).write_bytes(picture(size=(40, 30)))
            day = f"{i % 28 + 1:02d}/{i % 12 + 1:02d}/2024"
            writer.writerow([1000 + i, "x", f"user{i % 9}", day, f"{WORDS[i % 4]} café {i}", name, i * 3])
    return path


def init(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["assay", "init", *words])
    cli.main()


def test_a_table_becomes_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = table(tmp_path / "in"), tmp_path / "study"
    question = 'How formal is "this": post?'
    words = ("--task", "formality", "--csv", str(path), "--question", question, "--scale", "0-10", "--yes")
    init(monkeypatch, str(folder), *words, "--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--api-key-env", "KEY")
    said = capsys.readouterr().err
    assert "48 of 60 pictures are there" in said
    assert "written as %d/%m/%Y" in said
    assert "dvc repro" in said
    params = config.load(folder / "params.yaml")
    corpus = params.corpora["posts"]
    assert isinstance(corpus, TableCorpus)
    assert corpus.columns.model_dump(exclude_defaults=True) == {
        "id": "Nr",
        "text": "Caption text",
        "image": "photo",
        "author": "user_name",
        "created_at": {"column": "Posted on", "format": "%d/%m/%Y"},
        "likes": "likes",
    }
    task = params.tasks["formality"]
    assert task.target.kind == "score"
    assert task.sample.posts == 60
    assert (task.annotate.teacher.base_url, task.annotate.teacher.api_key_env) == ("http://127.0.0.1:9/v1", "KEY")
    assert params.scan == ["posts"]
    assert question in (folder / "rubrics/formality.md").read_text()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["assay", "check"])
    cli.main()
    assert "in order" in capsys.readouterr().err
    rules = Rules("posts", b"key", "header", 10**7, 1000)
    found = ingest(open_corpus(corpus, params.demo), rules, posts=tmp_path / "p", problems=tmp_path / "q.parquet")
    assert found["posts"] == 60
    first = read(tmp_path / "p", ["post_id", "text", "created_at", "likes"]).to_pylist()[30]
    assert first["created_at"] == datetime(2024, 7, 3, tzinfo=UTC)  # the third of July, not the seventh of March
    assert (first["post_id"], first["likes"]) == ("1030", 90)
    assert "café" in first["text"]


def test_a_date_that_is_not_of_the_form_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,text,day\n1,a b c,03/04/2024\n2,d e f,2024-04-03\n3,g h i,31/31/2024\n")
    columns = {"id": "id", "text": "text", "image": None, "created_at": {"column": "day", "format": "%d/%m/%Y"}}
    corpus = TableCorpus.model_validate({"kind": "table", "path": str(path), "columns": columns})
    rules = Rules("posts", b"key", "none", 10**7, 1000)
    params = config.load(Path(__file__).parents[1] / "params.yaml")
    assert isinstance(params.corpora["demo"], DemoCorpus)
    ingest(open_corpus(corpus, params.demo), rules, posts=tmp_path / "p", problems=tmp_path / "q.parquet")
    dates = [row["created_at"] for row in read(tmp_path / "p", ["created_at"]).to_pylist()]
    assert dates == [datetime(2024, 4, 3, tzinfo=UTC), None, None]
    import pyarrow.parquet as pq

    problems = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert sum("created_at" in json.dumps(one, default=str) for one in problems) == 2


@pytest.mark.parametrize("form", ["day", "%H:%M", "%d/%m", "%Q"])
def test_a_form_of_dates_that_names_no_day_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="such as %d/%m/%Y"):
        TableCorpus.model_validate(
            {"kind": "table", "path": "p", "columns": {"created_at": {"column": "d", "format": form}}}
        )


@pytest.mark.slow
def test_other_kinds_of_answers_and_posts_without_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tweets.jsonl"
    rows = [
        {"tweet_id": str(i), "message": f"{WORDS[i % 4]} {i}", "date": f"2024-01-{i % 28 + 1:02d}"} for i in range(40)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    for kind, names in (("--classes", ["formal", "casual"]), ("--labels", ["polite", "rude", "slang"])):
        folder = tmp_path / kind.strip("-")
        init(monkeypatch, str(folder), "--csv", str(path), kind, ", ".join(names), "--yes")
        params = config.load(folder / "params.yaml")
        task = params.tasks["my_question"]
        assert task.target.model_dump()["names"] == names
        assert params.students[task.student].image is None
        assert task.annotate.teacher.base_url != "demo"  # which would make up labels for posts that are real
        assert params.corpora["posts"].columns.created_at == "date"  # type: ignore[attr-defined]
        rubric = (folder / "rubrics/my_question.md").read_text()
        assert all(f"## {name.capitalize()}" in rubric for name in names)


def test_what_cannot_be_is_one_line_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "in", rows=8)
    twice = tmp_path / "twice.csv"
    twice.write_text("id,text\n1,hello there\n1,good day\n")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("id,a\n1,2\n2,3\n")
    for words, wanted in (
        (("--csv", str(path)), "say what an answer is"),
        (("--csv", str(path), "--scale", "10-0"), "the smaller first"),
        (("--csv", str(path), "--scale", "0-10", "--labels", "a"), "say what an answer is"),
        (("--scale", "0-10"), "go with --csv"),
        (("--csv", str(path), "--scale", "0-10", "--corpus", "demo"), "and not demo"),
    ):
        with pytest.raises(SettingsError, match=wanted):
            cli.call(["init", str(tmp_path / "out"), "--yes", *words])
    for file, wanted in ((twice, "no column has another value in each row"), (numbers, "neither texts nor pictures")):
        with pytest.raises(CorpusError, match=wanted):
            guess(file)
    with pytest.raises(CorpusError, match="No such file"):
        guess(tmp_path / "nothing.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dates", "form"),
    [
        (["13/02/2024", "01/02/2024"], "%d/%m/%Y"),
        (["02/13/2024", "02/01/2024"], "%m/%d/%Y"),
        (["01/02/2024", "03/02/2024"], "%d/%m/%Y"),
        (["13/02/2024 10:15", "01/02/2024 09:00"], "%d/%m/%Y %H:%M"),
        (["2024-02-13", "2024-02-01T10:00:00Z"], None),
        (["1707800000", "1707900000"], None),
        (["13.02.2024", "01.02.2024"], None),
    ],
)
def test_forms_of_dates(tmp_path: Path, dates: list[str], form: str | None) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,text,created\n" + "".join(f"{i},some words here {i},{d}\n" for i, d in enumerate(dates)))
    found = guess(path)
    assert found.columns["created_at"] == "created"
    assert found.date_form == form


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("id,caption,image\n1,so good a day,a.jpg\n1,and one more,b.jpg\n" + "".join(
            f"{i},words of this post {i},{i}.jpg\n" for i in range(2, 30)),
         {"id": "id", "text": "caption", "image": "image"}),
        ("post_id,caption,likes\n" + "".join(f"p{i % 29},nice words here {i},{i}\n" for i in range(30)),
         {"id": "post_id", "text": "caption", "likes": "likes"}),
        ("id,innhold,post_type,comment_count\n" + "".join(f"{i},ord og flere ord {i},photo,{i}\n" for i in range(9)),
         {"id": "id", "text": "innhold", "comments": "comment_count"}),
        ("id,内容\n" + "".join(f"{i},今天天气很好我们去公园{i}\n" for i in range(9)), {"id": "id", "text": "内容"}),
        ("user_id,post_id,text,user_created,date,user_followers,username,day,ad_name\n" + "".join(
            f"u{i},{i},some words to read,2010-01-01,2024-01-{i + 1:02d},{i * 7},name{i % 3},{i + 1},spring\n"
            for i in range(9)),
         {"id": "post_id", "text": "text", "created_at": "date", "author": "user_id"}),
    ],
    ids=["id twice", "likes are no id", "tags are no texts", "no blanks", "of the user"],
)  # fmt: skip
def test_columns_of_plausible_tables(tmp_path: Path, text: str, wanted: dict[str, str]) -> None:
    path = tmp_path / "posts.csv"
    path.write_text(text, encoding="utf-8")
    assert guess(path).columns == wanted


def test_parquet_folders_and_cut_files(tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": i, "text": f"some words {i}", "extra": "x"} for i in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "posts.parquet")
    assert guess(tmp_path / "posts.parquet").columns == {"id": "id", "text": "text"}
    with pytest.raises(CorpusError, match="is a folder; name one table"):
        guess(tmp_path)
    whole = gzip.compress("\n".join(json.dumps(row) for row in rows * 500).encode())
    (tmp_path / "posts.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"posts\.jsonl\.gz: "):
        guess(tmp_path / "posts.jsonl.gz")
    (tmp_path / "nameless.csv").write_text(",text\n" + "".join(f"{i},some words here\n" for i in range(9)))
    with pytest.raises(CorpusError, match="no column with a name has another value"):
        guess(tmp_path / "nameless.csv")


def test_odd_names_mean_themselves_and_posts_stay_out_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the posts; a column with the template's own word, a task that YAML would take for a year."""
    import subprocess

    path = tmp_path / "posts.csv"
    path.write_text("TASK id,a: #text,foto\n" + "".join(f"{i},many words in here {i},{i}.jpg\n" for i in range(9)))
    (tmp_path / "bilder").mkdir()
    (tmp_path / "bilder/1.jpg").write_bytes(picture())
    question = "Formal?\n# really"
    words = ("--task", "2024", "--csv", str(path), "--scale", "0-0.01", "--yes", "--question", question)
    init(monkeypatch, str(tmp_path), *words)
    params = config.load(tmp_path / "params.yaml")
    columns = params.corpora["posts"].columns  # type: ignore[attr-defined]
    assert (columns.id, columns.text) == ("TASK id", "a: #text")
    assert params.tasks["2024"].target.bands == [0.0035, 0.0065]  # type: ignore[attr-defined]
    assert (tmp_path / "rubrics/2024.md").read_text().startswith("# Formal? # really\n")
    kept = subprocess.run(["git", "ls-files"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "params.yaml" in kept
    assert "posts.csv" not in kept
    assert "bilder" not in kept
    left = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert left.stdout == ""


@pytest.mark.parametrize("words", [("--classes", "a"), ("--classes", "a,a")])
def test_settings_that_would_not_load_are_not_written(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="nothing was written"):
        cli.call(["init", str(tmp_path / "out"), "--csv", str(table(tmp_path / "in")), "--yes", *words])
    assert not (tmp_path / "out").exists()


def test_dates_that_could_be_either_are_said(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,text,date\n" + "".join(f"{i},some words {i},0{i % 9 + 1}/04/2021\n" for i in range(9)))
    assert guess(path).either == "%m/%d/%Y"
    path.write_text("id,text,date\n1,some words,3/25/2021 2:05 PM\n2,more words,3/2/2021 11:00 AM\n")
    assert (guess(path).date_form, guess(path).either) == ("%m/%d/%Y %I:%M %p", None)
