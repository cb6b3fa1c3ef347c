"""Figures of this machine: progress beside a running stage, resources, log of scoring, rates of both models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay import progress as bars
from assay.machine import read_figures, watched, write_figures
from assay.progress import progress, report_to
from assay.remote.answers import Answer, AnswerStore
from assay.scoring.run_log import RunLog, beside_teacher
from assay.teacher.asking import Round


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bars, "FILE_S", 0.0)
    path = tmp_path / "metrics" / "progress.json"
    report_to(path, "infer")
    yield path
    bars._forget(path, os.getpid())
    report_to(None, "")


def test_the_file_says_how_far_a_stage_is(state: Path) -> None:
    with progress(what="infer", total=40) as bar:
        assert json.loads(state.read_text())["done"] == 0
        bar.update(10)
        found = json.loads(state.read_text())
    assert (found["stage"], found["what"], found["done"], found["total"], found["unit"]) == (
        "infer",
        "infer",
        10,
        40,
        "post",
    )
    assert found["pid"] == os.getpid()
    assert found["seconds_left"] == pytest.approx(30 / found["per_s"], rel=0.05, abs=0.1)
    done = [json.loads(state.read_text())["done"] for _ in progress(range(3), what="rows", total=3)]
    assert done == [0, 1, 2], "what is in hand is not done"
    assert json.loads(state.read_text())["done"] == 3


def test_bars_that_the_environment_turns_off_still_tell_the_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Off(bars._Bar):
        def __init__(self, *args: object, **given: object) -> None:
            super().__init__(*args, **given | {"disable": True})

    monkeypatch.setattr(bars, "_Bar", Off)
    with progress(what="infer", total=5) as bar:
        bar.update(2)
        assert json.loads(state.read_text())["done"] == 2
    assert list(progress(range(3), what="x")) == [0, 1, 2]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "_file", tmp_path / "gone" / "progress.json")
    assert list(progress(range(3), what="x")) == [0, 1, 2]


def test_the_file_goes_with_its_stage_and_stays_after_a_kill(tmp_path: Path) -> None:
    """A process of its own, since the end of one is what is looked at."""
    path = tmp_path / "progress.json"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom assay.progress import progress, report_to\n"
        "report_to(Path(sys.argv[1]), 'train')\n"
        "for _ in progress(range(int(sys.argv[2])), what='train', total=int(sys.argv[2])):\n    time.sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), "3"], check=True)
    assert not path.exists()
    running = subprocess.Popen([sys.executable, "-c", code, str(path), "100000"])
    try:
        until = time.monotonic() + 30
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert json.loads(path.read_text())["stage"] == "train"


def test_resources_are_curves_over_seconds(tmp_path: Path) -> None:
    with watched(tmp_path / "train") as taken:
        until = time.monotonic() + 2.6
        while time.monotonic() < until:
            sum(i * i for i in range(10_000))
    assert taken["cpu_seconds"] > 1
    assert taken["resources"]["mean_cpu_usage"] > 10
    assert 0 < taken["resources"]["most_ram_usage_GB"] < 1e4
    assert sorted(path.name for path in (tmp_path / "train" / "resources").iterdir()) == [
        "cpu_parallelization.tsv",
        "cpu_usage.tsv",
        "disk_usage.tsv",
        "disk_usage_GB.tsv",
        "ram_usage.tsv",
        "ram_usage_GB.tsv",
    ]
    head, *rows = (tmp_path / "train" / "resources" / "cpu_usage.tsv").read_text().splitlines()
    assert head == "seconds\tcpu_usage"
    assert all(0 <= float(row.split("\t")[0]) <= 3 for row in rows)
    with pytest.raises(KeyError), watched(tmp_path / "train"):
        raise KeyError("a failure inside is passed on, and the watching thread ends")
    for _ in range(3):
        with watched(tmp_path / "short"):
            time.sleep(0.3)
        assert list((tmp_path / "short" / "resources").iterdir()) == [], "no half row of a short run is left"
    with watched(None) as taken:
        pass
    assert taken == {}


def test_the_log_of_scoring(tmp_path: Path) -> None:
    log = RunLog()
    log.add(["ok"] * 8 + ["failed", "text_only"])
    log.add(["ok"] * 10)
    log.end({"encode": 3.0, "read": 1.0})
    write_figures(tmp_path, "annotate", {"posts_per_s": 2.0})
    write_figures(tmp_path, "evaluate", {"posts_per_s": 50.0})
    log.write(tmp_path, tmp_path / "curves", {"resources": {"mean_cpu_usage": 40.0}})
    found = read_figures(tmp_path, "infer")
    assert (found["posts"], found["success_rate"], found["student_to_teacher"]) == (20, 0.95, 25.0)
    assert found["resources"] == {"mean_cpu_usage": 40.0}
    head, first, second = (tmp_path / "curves" / "log.tsv").read_text().splitlines()
    statuses = ["ok", "text_only", "image_only", "failed"]
    assert head.split("\t") == ["seconds", "posts", *statuses, "success_rate", "posts_per_s"]
    assert first.split("\t")[1:7] == ["10", "8", "1", "0", "1", "0.9"]
    assert second.split("\t")[1] == "20"
    assert beside_teacher(tmp_path / "none", 5.0) == {"teacher_posts_per_s": None, "student_to_teacher": None}


def answered(store: AnswerStore, keys: range, at: float | None, model: str = "m-2026-01-01") -> None:
    for key in keys:
        store.put([Answer(f"{model}{key}", "ok", None, "{}", model, "plain", 1, 1, None)], from_elsewhere=at is None)
        if at is not None:
            with store.writing() as db:
                db.execute("UPDATE answers SET answered_at = ? WHERE key = ?", (at + key / 4, f"{model}{key}"))


def test_the_teachers_rate(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        answered(store, range(50), None)
        assert store.rate("m") is None, "answers that came with committed labels have no time"
        answered(store, range(60, 100), 1e9)
        answered(store, range(200, 220), 2e9)  # years later: the pause is not asking
        answered(store, range(50), 3e9, "mother")
        assert store.rate("m") == pytest.approx(4.0)
        earlier = store.rate("m")
    assert Round(asked=100, seconds=10.0, earlier_per_s=earlier).speed("m")["posts_per_s"] == 10.0
    assert Round(asked=3, seconds=1.0, earlier_per_s=earlier).speed("m")["posts_per_s"] == 4.0
    assert Round().speed("m")["posts_per_s"] is None
