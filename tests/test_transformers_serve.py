"""Annotation against a real `transformers serve` with a tiny vision-language model that writes nonsense."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.errors import DataError
from assay.remote.answers import AnswerStore
from tests.checkpoints import save_qwen_vl
from tests.conftest import picture
from tests.test_client import changed
from tests.test_teacher import CLASSES, LABELS, SCORE, run, settings, write_sample

pytestmark = pytest.mark.slow
RUBRICS = Path(__file__).parent.parent / "rubrics"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model name of the server."""
    folder = tmp_path_factory.mktemp("qwen")
    save_qwen_vl(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1"]
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    log = open(folder / "serve.log", "w")  # noqa: SIM115
    server = subprocess.Popen([*command, "--port", str(port)], env=env, stdout=log, stderr=log)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
            break
        except OSError:
            assert server.poll() is None, (folder / "serve.log").read_text()[-2000:]
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/v1", str(folder)
    server.kill()
    server.wait()


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    pictures = [picture((40 * i, 0, 0), size=(56, 56)) for i in range(3)]
    mixed = [("both", "a caption", pictures[:1]), ("text", "words", []), ("two", "", pictures[1:])]
    return write_sample(tmp_path / "sample", mixed)


def test_nonsense_is_recorded_and_never_guessed(served: tuple[str, str], posts: Path) -> None:
    url, model = served
    found = settings(url, max_tokens=12, timeout_s=120.0, concurrency=2)
    found = found.model_copy(update={"teacher": found.teacher.model_copy(update={"model": model})})
    with pytest.raises(DataError, match="no post got a label; the first reason: cut_answer"):
        run(posts, found)
    with AnswerStore() as store:
        kept = store.rows("SELECT status, raw_answer, prompt_tokens FROM answers")
    assert len(kept) == 3
    assert all(status == "invalid" and raw is not None and tokens > 0 for status, raw, tokens in kept)


@pytest.mark.parametrize(
    ("target", "rubric"),
    [(SCORE, "gender_bias"), (CLASSES, "sentiment"), (LABELS, None)],
    ids=["score", "classes", "labels"],
)
def test_typed_answers_make_every_label_a_distribution(
    served: tuple[str, str], posts: Path, tmp_path: Path, target: object, rubric: str | None
) -> None:
    url, model = served
    path = RUBRICS / f"{rubric}.md"
    if rubric is None:
        path = tmp_path / "labels.md"
        path.write_text("# Labels\n" + "\n".join(f"## {name}" for name in LABELS.names))
    found = changed(settings(url, timeout_s=120.0), distribution="typed")
    found = found.model_copy(update={"teacher": found.teacher.model_copy(update={"model": model})})
    figures, labels = run(posts, found, target, path)  # type: ignore[arg-type]
    assert figures["how"] == {"typed": 3}
    for row in labels:
        assert row["status"] == "ok"
        assert len(row["distribution"]) == (11 if target is SCORE else len(target.names))  # type: ignore[attr-defined]
        assert target is LABELS or sum(row["distribution"]) == pytest.approx(1, abs=1e-4)
