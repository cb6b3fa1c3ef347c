"""What the documentation walks through, walked: the tutorial as it is printed, the notebooks cell by cell."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from assay.posts import read
from tests import warm
from tests.conftest import ROOT, StubTeacher, completion, picture

pytestmark = pytest.mark.slow
OLLAMA = ("127.0.0.1", 11434)  # where the tutorial's teacher listens


def environment(home: Path) -> dict[str, str]:
    """That of a user, with a home folder of its own and this python's commands; stages fork from a warm one."""
    own = {"ASSAY_HOME": str(home), "DVC_NO_ANALYTICS": "1", "ASSAY_RUNTIME": "torch"}
    own["PATH"] = os.pathsep.join([str(warm.folder()), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | own


def formal(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A teacher by words: formal ones are worth 8, casual ones 2."""
    text = json.dumps(request["messages"][-1])
    score = 8.0 if "Delighted" in text else 2.0
    return 200, completion(json.dumps({"reason": "by its words", "score": score + len(text) % 3 / 2}))


def test_the_tutorial_goes_from_a_table_to_a_report(tmp_path: Path) -> None:
    """Its commands in one shell, with a teacher where it says that Ollama is."""
    text = (ROOT / "docs/tutorial.md").read_text()
    (block,) = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    head = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0].splitlines()[0]
    drawn = random.Random(1)
    (tmp_path / "photos").mkdir()
    lines = [head]
    for i in range(160):
        if i % 2:
            (tmp_path / f"photos/{i}.jpg").write_bytes(picture(tuple(drawn.randrange(256) for _ in range(3))))
        said = drawn.choice(["Delighted to announce", "gonna grab"])
        what = drawn.choice(["coffee", "the opening of our store", "a walk", "the report"])
        day = f"{drawn.randrange(1, 29):02d}/{drawn.randrange(1, 13):02d}/2021"
        lines.append(f"{1000 + i};{said} {what} no. {i};{f'photos/{i}.jpg' if i % 2 else ''};user{i % 40};{day}")
    (tmp_path / "posts.csv").write_text("\n".join(lines) + "\n")
    stub = StubTeacher()
    stub.reply = formal
    try:
        server = ThreadingHTTPServer(OLLAMA, stub.server.RequestHandlerClass)
    except OSError:
        pytest.skip(f"port {OLLAMA[1]} is taken on this machine")
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            ["bash", "-e", "-c", block],
            cwd=tmp_path,
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.shutdown()
        stub.server.shutdown()
    assert done.returncode == 0, done.stderr[-2000:]
    study = tmp_path / "study"
    assert "Made 20" in (study / "formality.html").read_text()
    assert json.loads((study / "metrics/formality/student.json").read_text())["mae"] < 1.5
    assert json.loads((study / "metrics/corpora/posts.json").read_text())["posts"] == 160
    days = read(study / "data/corpora/posts/posts", ["created_at"])["created_at"].to_pylist()
    assert {day.year for day in days} == {2021}  # every date of dd/mm/yyyy
    assert sum(stub.asked.values()) < 200


def test_the_notebooks_run_from_a_rubric_to_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trains a student on a small drawn corpus, the second serves it."""
    import nbclient
    import nbformat

    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ASSAY_POSTS", "240")
    monkeypatch.setenv("ASSAY_MODEL", str(tmp_path / "study/models/bias"))
    for name in ("rubric_to_findings", "student_to_endpoint"):
        notebook = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
        assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without what they printed"
        resources = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    assert (tmp_path / "study/bias.html").exists()
    assert (tmp_path / "model.tar.gz").stat().st_size > 1e5
