"""assay predict in a pipe, over tables and folders, watching for more, and after a kill."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay import cli
from assay.errors import CorpusError, DataError
from assay.parallel import Clock, Turns, in_order
from assay.scoring import sources, streaming
from assay.scoring.predict import Predictor
from assay.scoring.streaming import Post, Written, answers
from tests.conftest import picture
from tests.test_scoring import model  # noqa: F401 - a fixture

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:  # noqa: F811
    def run(*arguments: str, given: bytes = b"") -> list[dict[str, Any]]:
        class Pipe:
            buffer = io.BytesIO(given)

        monkeypatch.setattr("sys.stdin", Pipe)
        monkeypatch.setattr("sys.argv", ["assay", "predict", "--model", str(model), *arguments])
        cli.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_json_lines_on_standard_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    url = "data:image/jpeg;base64," + base64.b64encode(picture()).decode()
    lines = [
        b'{"id": "a", "text": "hello", "image": "a.jpg"}',
        json.dumps({"id": "b", "text": "hello", "image": [url, "none.jpg"]}).encode(),
        b'{"id": "c", "text": "cut',
        b"",
        b"[1]",
        b'{"text": "\xff\xfe"}',
        b'{"id": 7, "text": "only words"}',
        b'{"id": "d", "text": "x", "image": "data:image/jpeg;base64,!!"}',
        b'{"id": "e", "text": "x", "image": 5}',
        b'{"id": "f"}',
    ]
    found = run("-", "--images-root", str(tmp_path), given=b"\n".join(lines))
    assert [row["id"] for row in found] == ["a", "b", "-:3", "-:5", "-:6", "7", "d", "e", "f"]
    assert [row["status"] for row in found] == ["ok", "ok", *["failed"] * 3, "text_only", *["failed"] * 3]
    assert found[0]["value"] == pytest.approx(found[1]["value"], abs=1e-6)
    assert "none.jpg" in found[1]["reason"]
    assert found[2]["reason"].startswith("bad_row: line 3: ")
    assert "no object" in found[3]["reason"]
    assert found[6]["reason"].startswith("bad_row: image: ")
    assert found[7]["reason"] == "bad_row: image: allowed: a path, a data URL, or a list of them"


def test_tables_folders_and_pictures(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.jpg").write_bytes(picture((9, 200, 30)))
    (folder / "b.txt").write_text("a fine day")
    (folder / "sub" / "a.PNG").write_bytes(b"no picture")
    (folder / "notes.md").write_text("not a post")
    (folder / "c.jpg").write_bytes(picture())
    (folder / "c.txt").write_bytes(b"caf\xe9\n")
    (folder / os.fsdecode(b"d\xe9.jpg")).write_bytes(picture())
    (tmp_path / "t.csv").write_bytes('\ufeffID,Text,image\n1,"two\nlines",\n1,twice,\n,x,\n'.encode() + b"9,caf\xe9\n")
    (tmp_path / "t.jsonl").write_text('{"id": 1, "text": "x"}\n')
    assert [(row["id"], row["status"]) for row in run(str(folder))] == [
        ("b.jpg", "ok"),
        ("c.jpg", "failed"),
        ("d?.jpg", "image_only"),
        ("sub/a.PNG", "failed"),
    ]
    (alone,) = run(str(folder / "b.jpg"))
    assert alone["status"] == "ok"
    found = run(str(tmp_path / "t.csv"), str(tmp_path / "t.jsonl"))
    assert [row["id"] for row in found] == ["1", "1", "t.csv:3", "t.csv:line 6", "1"]
    assert found[3]["reason"].startswith("bad_encoding: line 6: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none: not there; allowed: a picture, a folder, a table"),
        (["{}/x.pdf"], "allowed: a picture, a folder, a table (.csv, .tsv, .jsonl, .ndjson), - for JSONL"),
        (["{}/x.csv"], "no column text or image; it has a, b"),
        (["-", "--follow"], "--follow: name a table or a folder to watch"),
        (["{}", "--text", "x"], "one of these"),
        (["{}", "--follow", "--every", "0"], "--every 0.0: allowed: more than 0 seconds"),
        (
            ["{}/x.csv", "--out", "{}/x.csv"],
            "x.csv is what is to be scored",
        ),
        (["--text", "x", "--out", "{}/y"], "--out is for posts that have ids"),
        (["{}/x.jsonl", "--out", "{}/x.jsonl"], "x.jsonl is what is to be scored; name another"),
        (["{}/x.csv", "--out", "{}/one.json"], "one.json:1: no answer of assay predict (no end of line)"),
        (["{}/x.csv", "--out", "{}/two.json"], "two.json:1: no answer of assay predict (not as answers begin)"),
        (["{}/x.csv", "--out", "{}/x.jsonl"], "x.jsonl:1: no answer of assay predict (KeyError)"),
        (["{}/a.jpg", "--follow"], "a.jpg is one picture; name a table or a folder to watch"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    run: Run, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pdf").write_text("x")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "x.jsonl").write_text('{"id": "1", "text": "x"}\n')
    (tmp_path / "one.json").write_text('{"id": "1", "text": "x"}')
    (tmp_path / "two.json").write_text("[1, 2")
    (tmp_path / "a.jpg").write_bytes(picture())
    with pytest.raises(SystemExit):
        run(*[one.format(tmp_path) for one in arguments])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said in line


def test_a_slow_source_is_answered_at_once(model: Path) -> None:  # noqa: F811
    asked, answered = [], []

    def slowly() -> Iterator[Post]:
        for number in range(3):
            asked.append(len(answered))
            yield Post(str(number), "a day")
            until = time.monotonic() + 20
            while len(answered) <= number and time.monotonic() < until:
                time.sleep(0.01)

    for row in answers(Predictor.load(model), slowly()):
        answered += [row["id"]]
    assert asked == [0, 1, 2]
    assert answered == ["0", "1", "2"]


def test_order_holds_and_an_error_of_the_source_is_told(model: Path) -> None:  # noqa: F811
    predictor = Predictor.load(model)
    many = [Post(str(number), f"day {number % 7}") for number in range(300)]
    assert [row["id"] for row in answers(predictor, many)] == [post.post_id for post in many]

    def broken() -> Iterator[Post]:
        yield Post("1", "x")
        raise CorpusError("the disk is gone")

    got = []
    with pytest.raises(CorpusError, match="the disk is gone"):
        got.extend(row["id"] for row in answers(predictor, broken()))
    assert got == ["1"], "what came before is answered"
    assert list(in_order(lambda x: x + 1, [1, None, None, 2], workers=2)) == [2, 3]


def test_what_an_encoder_holds_can_be_copied_with_it() -> None:
    """Averaged weights are those of a copy."""
    clock, turns = Clock(), Turns()
    again = copy.deepcopy({"clock": clock, "turns": turns})
    with again["turns"], again["clock"].doing("encode"):
        pass
    assert "encode" in clock.spent()
    with turns:
        pass


def test_a_watched_folder_and_a_growing_table(tmp_path: Path) -> None:
    looks = iter(range(100))
    (tmp_path / "a.jpg").write_bytes(picture())
    os.utime(tmp_path / "a.jpg", (1, 1))
    table = tmp_path / "t.csv"
    table.write_text('id,text\n1,x\n2,"cut\n')

    def wait() -> bool:
        if (number := next(looks)) == 0:
            (tmp_path / "b.jpg").write_bytes(picture())  # just written: not yet
            with open(table, "a") as file:
                file.write('here"\n3,half')
        if number == 1:
            os.utime(tmp_path / "b.jpg", (1, 1))
            with open(table, "a") as file:
                file.write(" a row\n4,not whole")
        return number < 2

    assert [post.post_id for post in sources.of_folder(tmp_path, wait)] == ["a.jpg", "b.jpg"]
    looks = iter(range(100))
    table.write_text('id,text\n1,x\n2,"cut\n')
    posts = list(sources.of_table(table, tmp_path, wait))
    assert [(post.post_id, post.text) for post in posts] == [("1", "x"), ("2", "cut\nhere"), ("3", "half a row")]


def test_answers_on_disk_are_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"id": "1", "status": "ok"}\n{"id": "2", "val')
    written = Written(out)
    assert out.read_text() == '{"id": "1", "status": "ok"}\n'
    posts = [Post("1"), Post("2"), Post("2"), Post("3"), Post("1", lasting=False)]
    assert [post.post_id for post in written.new(posts)] == ["2", "2", "3", "1"]
    assert written.skipped == 1
    written.write('{"id": "2", "status": "failed"}')
    written.close()
    again = Written(out)
    assert [post.post_id for post in again.new(posts)] == ["3", "1"]
    again.close()
    for other in ("x\n", '{"id": "1", "status": "new"}\n', '{"id": "1", "status": "ok"}\n\n'):
        out.write_text(other)
        with pytest.raises(DataError, match=r"out\.jsonl:\d: no answer of assay predict"):
            Written(out)
        assert out.read_text() == other


def test_the_end_is_waited_for_while_a_pipe_is_silent(model: Path) -> None:  # noqa: F811
    stopped = threading.Event()
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb") as other:
        other.write(b'{"text": "x"}\n')
        other.flush()
        found = []
        for row in answers(Predictor.load(model), sources.standard_input(pipe, Path()), stop=stopped.is_set):
            found.append(row["id"])
            stopped.set()
        assert found == ["-:1"]


def test_paths_stay_below_a_root_that_is_named(tmp_path: Path) -> None:
    lines = [
        b'{"id": 1, "image": "../x.jpg"}',
        b'{"id": 2, "image": "/etc/hostname"}',
        b'{"id": "\\ud800", "image": "a"}',
    ]
    found = list(sources.of_lines(lines, tmp_path, "-"))
    assert [post.post_id for post in found] == ["1", "2", "?"]
    assert [bool(post.fault) for post in found] == [True, True, False]
    assert not [post.fault for post in sources.of_lines(lines, None, "-") if post.fault]
    long = b'{"id": 3, "text": "' + b"x" * sources.MOST_BYTES + b'"}'
    (told,) = sources.of_lines([long], None, "-")
    assert told.fault == "bad_row: line 1: over 64 MiB"


@pytest.mark.slow
def test_kill_9_while_a_folder_is_watched(model: Path, tmp_path: Path) -> None:  # noqa: F811
    """A process of its own is what can be killed."""
    folder, out = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()
    command = [sys.executable, "-m", "assay", "predict", "--model", str(model), str(folder), "--follow"]
    command += ["--out", str(out), "--every", "0.1"]

    def put(name: str) -> None:
        (folder / f".{name}").write_bytes(picture((len(name) * 20, 9, 9)))
        os.utime(folder / f".{name}", (1, 1))
        (folder / f".{name}").rename(folder / name)

    def until(count: int, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 90
        while time.monotonic() < end and process.poll() is None:
            if out.exists() and out.read_text().count("\n") >= count:
                return
            time.sleep(0.05)
        raise AssertionError(process.communicate(timeout=5)[1])

    put("a.jpg")
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(1, first)
    put("bb.jpg")
    until(2, first)
    first.kill()
    first.communicate()
    with open(out, "a") as file:
        file.write('{"id": "cut')
    put("ccc.jpg")
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(3, second)
    second.send_signal(signal.SIGTERM)
    _, said = second.communicate(timeout=30)
    assert second.returncode == 0, said
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a.jpg", "bb.jpg", "ccc.jpg"]
    assert streaming.BATCH > 1


@pytest.mark.slow
def test_a_process_ends_though_its_pipe_is_silent(model: Path) -> None:  # noqa: F811
    """A process of its own: what is wrong shows when the interpreter ends."""
    command = [sys.executable, "-m", "assay", "predict", "--model", str(model), "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(b'{"id": "1", "text": "x"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == "1"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert b"stopped before the end" in said
    assert b"Fatal" not in said


@pytest.mark.parametrize(
    ("name", "text", "names", "found"),
    [
        ("one.tsv", "text\nhello, you\n", {}, ["hello, you"]),
        ("a.csv", "key;Caption\n1;a, b\n", {"text": "caption"}, ["a, b"]),
        ("b.csv", '"id";"text";"a,b"\n1;x, y;z\n', {}, ["x, y"]),
        ("c.csv", "\n\nid,text\n1,hello\n", {}, ["hello"]),
        ("d.csv", "id|text\n1|p;q\n", {}, ["p;q"]),
        ("e.csv", "id,post|text\n1,x\n", {"text": "post|text"}, ["x"]),
        ("f.jsonl", '{"id": 1}\n{"id": 2, "Text": "b"}\n', {}, ["", "b"]),
    ],
)
def test_delimiters_and_columns_are_found(
    tmp_path: Path, name: str, text: str, names: dict[str, str], found: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    posts = list(sources.of_table(tmp_path / name, None, sources.no_more, {**sources.OWN, **names}))
    assert [post.text for post in posts] == found


def test_a_table_without_content_is_refused_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;caption\n1;x\n")
    (tmp_path / "b.jsonl").write_text('{"id": 1, "caption": "x"}\n')
    for name in ("a.csv", "b.jsonl"):
        with pytest.raises(CorpusError, match=r"no column text or image; it has id, caption; say --columns"):
            list(sources.of_table(tmp_path / name, None, sources.no_more))
        with pytest.raises(CorpusError, match=r"no column body; it has"):
            list(sources.of_table(tmp_path / name, None, sources.no_more, {**sources.OWN, "text": "body"}))
