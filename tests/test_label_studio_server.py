"""The way to people and back through a real Label Studio: its own package, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget
from assay.targets import Target
from assay.teacher.label_export import read_export
from assay.teacher.label_studio import export
from assay.teacher.questions import Brief
from assay.teacher.rubric import Rubric
from tests.conftest import ROOT, picture
from tests.environments import kept
from tests.test_teacher import CLASSES, LABELS, SCORE, settings, write_sample

pytestmark = pytest.mark.slow

VERSION = "1.23.0"
TOKEN = "0123456789abcdef" * 2 + "01234567"
TASKS: dict[str, tuple[Target, list[Any]]] = {
    "gender_bias": (SCORE, [4.5, 0.0, 10.0]),
    "sentiment": (CLASSES, ["neutral", "positive", "negative"]),
    "hateful": (LABELS, [["racist", "otherhate"], [], ["religion"]]),
}


QUIET = {"COLLECT_ANALYTICS": "False", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "False"}


@contextmanager
def running(environment: Path, data: Path) -> Iterator[httpx2.Client]:
    """Label Studio on loopback over this data folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(environment / "bin" / "label-studio"), "start", "--no-browser", "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--data-dir", str(data), "--username", "coder@example.org"]
    command += ["--password", "only-for-this-test", "--user-token", TOKEN]
    env = os.environ | QUIET | {"LABEL_STUDIO_BASE_DATA_DIR": str(data), "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true"}
    with open(data / "log.txt", "wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Token {TOKEN}"}, timeout=60
        )
        until = time.monotonic() + 240
        while True:
            try:
                if http.get("/health").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert server.poll() is None, (data / "log.txt").read_text()[-3000:]
            assert time.monotonic() < until, (data / "log.txt").read_text()[-3000:]
            time.sleep(0.5)
        yield http
    finally:
        server.terminate()
        server.wait(30)


def new_data(environment: Path) -> None:
    """A data folder with its tables made, which takes Label Studio half a minute."""
    (environment / "data").mkdir()
    with running(environment, environment / "data"):
        pass


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    environment = kept(f"label-studio-{VERSION}-with-data", f"label-studio=={VERSION}", then=new_data)
    data = tmp_path_factory.mktemp("label-studio") / "data"
    shutil.copytree(environment / "data", data)
    with running(environment, data) as http:
        yield http


def sent(studio: httpx2.Client, method: str, path: str, **more: Any) -> Any:
    answer = studio.request(method, path, **more)
    assert answer.is_success, answer.text[:2000]
    return answer.json()


def result(value: Any, target: Target) -> list[dict[str, Any]]:
    """What Label Studio's own page writes for a rating."""
    place = {"from_name": "rating", "to_name": "text"}
    if isinstance(target, ScoreTarget):
        return [place | {"type": "number", "value": {"number": value}}]
    chosen = value if isinstance(value, list) else [value]
    return [place | {"type": "choices", "value": {"choices": chosen}}] if chosen else []


@pytest.mark.parametrize("name", TASKS)
def test_round_trip(name: str, studio: httpx2.Client, tmp_path: Path) -> None:
    target, values = TASKS[name]
    posts = [(f"p{i}", f"caption {i}, “quoted”; and more", [picture((i, 0, 0))] * (i % 3)) for i in range(4)]
    sample = write_sample(tmp_path / "sample", posts)
    brief = Brief(Rubric.load(ROOT / "rubrics" / f"{name}.md", target), settings())
    assert export(sample, brief, tmp_path / "out", count=4) == 4
    config = (tmp_path / "out" / "config.xml").read_text()
    project = sent(studio, "POST", "/api/projects", json={"title": name, "label_config": config})["id"]
    with open(tmp_path / "out" / "tasks.json", "rb") as file:
        imported = sent(studio, "POST", f"/api/projects/{project}/import", files={"file": ("tasks.json", file)})
    assert imported["task_count"] == 4
    tasks = sent(studio, "GET", "/api/tasks", params={"project": project, "fields": "all"})["tasks"]
    ids = {task["data"]["post_id"]: task["id"] for task in tasks}
    assert set(ids) == {"p0", "p1", "p2", "p3"}
    for post, value in zip(ids, values, strict=False):  # the fourth is left alone
        sent(studio, "POST", f"/api/tasks/{ids[post]}/annotations", json={"result": result(value, target)})
    wanted = dict(zip(ids, values, strict=False))
    for form, ending in (("JSON", "json"), ("JSON_MIN", "json"), ("CSV", "csv")):
        answer = studio.get(f"/api/projects/{project}/export", params={"exportType": form})
        assert answer.status_code == 200, answer.text[:2000]
        path = tmp_path / f"export-{form}.{ending}"
        path.write_bytes(answer.content)
        found, _, problems = read_export(path, target)
        read = {post: next(iter(coders.values())) for post, coders in found.items()}
        told = "; ".join(problems)
        if isinstance(target, LabelsTarget) and form != "JSON":  # these forms write no label like no answer
            empty = next(post for post, value in wanted.items() if value == [])
            assert empty not in read or read[empty] == []
            assert empty in read or empty in told or "no answer" in told, told
            read.pop(empty, None)
            assert read == {post: value for post, value in wanted.items() if value}, told
        else:
            assert read == wanted, told
        assert {len(coders) for coders in found.values()} == {1}


def test_what_is_tried_covers_all_kinds() -> None:
    assert {type(target) for target, _ in TASKS.values()} == {ScoreTarget, ClassesTarget, LabelsTarget}
