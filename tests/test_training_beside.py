"""A training job leaves what is served alone until its own model is judged; a stopped one changes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from assay.scoring.publish import evaluated
from assay.student.trained import model_digest
from tests.conftest import Repository
from tests.serving import Server

pytestmark = pytest.mark.slow


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def kept(repository: Repository) -> dict[str, dict[str, bytes] | bytes]:
    """Everything that a stopped job must leave as it was."""
    root = repository.folder
    found: dict[str, dict[str, bytes] | bytes] = {name: files(root / name) for name in ("models", "metrics")}
    return found | {"lock": (root / "dvc.lock").read_bytes()}


def test_jobs_train_beside_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_run: Path) -> None:
    repository = Repository(tmp_path / "work", tmp_path / "own", like=small_run)
    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(lr=0.003, seeds=[5, 6, 7, 8, 9]))
    before = kept(repository)
    model = repository.folder / "models" / "sentiment"
    version = model_digest(model)[:16]
    monkeypatch.chdir(repository.folder)
    server = Server(tmp_path / "home", "--model", str(model), "--allow-training")
    assert server.http.get("/v1/model").json()["metrics"]["model"] == version

    job = server.http.post("/train_model", json={"task": "sentiment"}).json()["id"]
    until = time.monotonic() + 120
    while "train@sentiment" not in server.http.get(f"/v1/jobs/{job}/log").text and time.monotonic() < until:
        time.sleep(0.2)
    assert "train@sentiment" in server.http.get(f"/v1/jobs/{job}/log").text
    assert kept(repository) == before
    assert server.http.post("/train_model", json={"task": "sentiment"}).status_code == 409  # one at a time
    assert server.stop() == 0  # in the middle of training
    assert kept(repository) == before
    assert not list((repository.folder / ".dvc/tmp/exps").glob("serve-*"))

    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(seeds=[]))
    server = Server(tmp_path / "home", "--model", str(model), "--allow-training")
    try:
        job = server.http.post("/train_model", json={"task": "sentiment"}).json()["id"]
        found = {"status": "running"}
        until = time.monotonic() + 300
        while found["status"] == "running" and time.monotonic() < until:
            time.sleep(0.3)
            assert server.predict(text="good day").status_code == 200
            figures = server.http.get("/v1/model").json()
            assert figures["metrics"] is None or figures["metrics"]["model"] == figures["version"]
            found = server.http.get(f"/v1/jobs/{job}").json()
        assert found["status"] == "done", server.http.get(f"/v1/jobs/{job}/log").text
        fresh = model_digest(model)[:16]
        assert fresh != version
        until = time.monotonic() + 30
        while server.http.get("/v1/model").json()["version"] != fresh and time.monotonic() < until:
            time.sleep(0.3)
        assert server.http.get("/v1/model").json()["metrics"]["model"] == fresh
    finally:
        server.stop()
    assert repository.repro("evaluate@sentiment") == []  # the lock file knows the new model
    (repository.folder / "metrics/sentiment/evaluate.json").write_text(json.dumps({"model": version}))
    assert evaluated(model) is None
