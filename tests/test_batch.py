"""The batch endpoint: nothing submitted twice, whatever moment a run is killed at."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from assay.config import Annotate
from assay.errors import AccountRefused, BudgetReached, TooManyFailures
from assay.remote.answers import AnswerStore
from assay.teacher import batch as batch_module
from tests import warm
from tests.conftest import completion, picture, valid_answer
from tests.test_client import changed
from tests.test_teacher import run, settings, write_sample


class BatchServer:
    """Files and batches as the OpenAI API has them, in memory; a batch is done at its second look."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.submitted: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda step: None  # called before a step is answered
        self.answer: Callable[[dict[str, Any]], tuple[int, Any]] = lambda request: (200, valid_answer(request))
        self.end = "completed"
        self.raw = False  # write what is not ASCII as it is
        self.online = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/files":
                    found = re.search(rb"filename=.*?\r\n\r\n(.*?)\r\n--", data, re.DOTALL)
                    assert found is not None
                    name = f"file-{len(server.files)}"
                    server.files[name] = found[1]
                    self.say("upload", {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "x"})
                elif self.path == "/v1/batches":
                    self.say("create", server.create(json.loads(data)))
                else:
                    server.online += 1
                    self.say("chat", valid_answer(json.loads(data)))

            def do_GET(self) -> None:
                content = re.fullmatch(r"/v1/files/([^/]+)/content", self.path)
                if content:
                    self.say("content", server.files[content[1]])
                elif self.path.startswith("/v1/batches/"):
                    self.say("look", server.look(self.path.rsplit("/", 1)[1]))
                else:
                    self.say("list", {"object": "list", "data": list(server.batches.values()), "has_more": False})

            def say(self, step: str, content: Any) -> None:
                server.before(step)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.send_header("Content-Type", "application/json")
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client was killed
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = f"batch-{len(self.batches)}"
        lines = self.files[request["input_file_id"]].decode().splitlines()
        self.submitted.update(json.loads(line)["custom_id"] for line in lines)
        self.batches[name] = request | {"id": name, "object": "batch", "status": "in_progress", "created_at": 0}
        return self.batches[name]

    def look(self, name: str) -> dict[str, Any]:
        found = self.batches[name]
        if not found.get("seen"):
            found["seen"] = True
            return found
        if found["status"] == "in_progress":
            found["status"] = self.end
            good, bad = [], []
            for line in self.files[found["input_file_id"]].decode().splitlines():
                one = json.loads(line)
                assert (one["method"], one["url"]) == ("POST", "/v1/chat/completions")
                status, body = self.answer(one["body"])
                row = {"custom_id": one["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
                (good if status == 200 else bad).append(json.dumps(row, ensure_ascii=not self.raw))
            if self.end != "failed":
                self.files[f"{name}-out"] = "\n".join(
                    good[: len(good) // 2 if self.end == "expired" else None]
                ).encode()
                self.files[f"{name}-err"] = "\n".join(bad).encode()
                found |= {"output_file_id": f"{name}-out", "error_file_id": f"{name}-err"}
            else:
                found["errors"] = {"data": [{"message": "model does not batch"}]}
        return found


@pytest.fixture
def server() -> Iterator[BatchServer]:
    found = BatchServer()
    yield found
    found.http.shutdown()


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(12)])


def batched(url: str, **teacher: Any) -> Annotate:
    return changed(settings(url, batch_poll_s=0.05, **teacher), mode="batch")


def test_answers_of_a_batch_are_those_of_single_questions(posts: Path, server: BatchServer) -> None:
    figures, labels = run(posts, batched(server.url))
    assert (figures["asked"], figures["answered"], server.online) == (12, 12, 0)
    assert run(posts, batched(server.url))[0]["asked"] == 0
    assert run(posts, settings(server.url))[1] == labels  # the same store, the same keys
    assert server.online == 0
    with AnswerStore() as store:
        assert store.rows("SELECT COUNT(*) FROM batches")[0][0] == 0


def test_files_stay_within_the_limits(posts: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MAX_REQUESTS", 5)
    assert run(posts, batched(server.url))[0]["answered"] == 12
    assert [len(data.splitlines()) for name, data in server.files.items() if name.startswith("file-")] == [5, 5, 2]
    monkeypatch.setattr(batch_module, "MAX_BYTES", 12_000)
    before = len(server.batches)
    run(posts, batched(server.url, max_tokens=7))
    files = [server.files[one["input_file_id"]] for one in list(server.batches.values())[before:]]
    assert len(files) > 1
    assert all(len(data) <= 12_000 for data in files)
    assert set(server.submitted.values()) == {1}


CHILD = """
import sys
from pathlib import Path
from tests.test_batch import batched
from tests.test_teacher import run
print(run(Path(sys.argv[1]), batched(sys.argv[2]))[0])
"""


def start(posts: Path, server: BatchServer) -> warm.Child:
    return warm.Child(CHILD, posts, server.url, place=posts.parent)


@pytest.mark.parametrize("step", ["upload", "create", "look", "content"])
def test_a_kill_at_any_step_submits_nothing_twice(step: str, posts: Path, server: BatchServer) -> None:
    child: list[warm.Child] = []
    ready = threading.Event()

    def kill(now: str) -> None:
        ready.wait(10)
        if now == step and child and child[0].poll() is None:
            child[0].kill()
            child[0].wait()

    server.before = kill
    child.append(start(posts, server))
    ready.set()
    child[0].communicate(timeout=60)
    assert child[0].returncode == 128 + 9
    server.before = lambda step: None
    figures, _ = run(posts, batched(server.url))
    assert figures["answered"] == 12
    assert len(server.batches) == 1
    assert set(server.submitted.values()) == {1}


def test_two_processes_submit_one_batch(posts: Path, server: BatchServer) -> None:
    children = [start(posts, server) for _ in range(2)]
    figures = [eval(child.communicate(timeout=120)[0]) for child in children]
    assert [one["answered"] for one in figures] == [12, 12]
    assert set(server.submitted.values()) == {1}


def test_an_open_batch_is_collected_when_the_mode_is_changed(posts: Path, server: BatchServer) -> None:
    server.before = lambda step: child.kill() if step == "look" else None
    child = start(posts, server)
    child.communicate(timeout=60)
    server.before = lambda step: None
    assert run(posts, settings(server.url))[0]["answered"] == 12
    assert (server.online, set(server.submitted.values())) == (0, {1})


def test_faults_of_single_posts_in_a_batch(posts: Path, server: BatchServer) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, Any]:
        said = str(request["messages"])
        if "caption 3" in said:
            return 429, {"error": {"message": "limit"}}
        if "caption 4" in said:
            return 400, {"error": {"message": "bad image"}}
        if "caption 5" in said:
            return 200, completion("no JSON")
        return 200, valid_answer(request)

    server.answer = answer
    with pytest.raises(TooManyFailures, match="1 of 12 posts failed"):
        run(posts, batched(server.url))
    server.answer = lambda request: (200, valid_answer(request))
    figures, _ = run(posts, batched(server.url))
    assert figures["asked"] == 1
    assert figures["failed"] == {"total": 2, "http_400": 1, "invalid_answer": 1}


def test_line_separators_inside_an_answer_end_no_line(posts: Path, server: BatchServer) -> None:
    said = json.dumps({"reason": "a\u2028b\u0085c", "score": 4}, ensure_ascii=False)
    server.answer = lambda request: (200, completion(said))
    server.raw = True
    figures, labels = run(posts, batched(server.url))
    assert figures["answered"] == 12
    assert {row["value"] for row in labels} == {4.0}


def test_a_batch_is_read_in_the_way_it_was_asked(posts: Path, server: BatchServer) -> None:
    server.before = lambda step: child.kill() if step == "look" else None
    child = start(posts, server)
    child.communicate(timeout=60)
    server.before = lambda step: None
    with AnswerStore() as store:
        store.keep_way(server.url, "m", "tool", False)
    assert run(posts, batched(server.url))[0]["answered"] == 12


def test_an_expired_batch_keeps_what_it_brought(posts: Path, server: BatchServer) -> None:
    server.end = "expired"
    with pytest.raises(TooManyFailures, match=r"6 of 12 posts failed for passing reasons .*batch_expired"):
        run(posts, batched(server.url))
    server.end = "completed"
    assert run(posts, batched(server.url))[0]["asked"] == 6


def test_a_refused_batch_is_one_line(posts: Path, server: BatchServer) -> None:
    server.end = "failed"
    with pytest.raises(AccountRefused, match="refused batch batch-0: model does not batch"):
        run(posts, batched(server.url))
    server.end = "completed"
    assert run(posts, batched(server.url))[0]["answered"] == 12


def test_pictures_are_reserved_for_high_until_the_server_has_counted_some(tmp_path: Path, server: BatchServer) -> None:
    prices = {"usd_per_million_input": 1000.0, "usd_per_million_output": 1000.0, "max_tokens": 20}
    pictured = write_sample(tmp_path / "pictured", [("p", "a caption", [picture()] * 4)])
    with pytest.raises(BudgetReached, match="does not have"):
        run(
            pictured, changed(batched(server.url, **prices), budget_usd=2.0)
        )  # four pictures of 1,500 tokens: 3 dollars
    assert not server.submitted


def test_a_budget_holds_for_batches(posts: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MAX_REQUESTS", 4)
    prices = {"usd_per_million_input": 1000.0, "usd_per_million_output": 1000.0, "max_tokens": 20}
    found = changed(batched(server.url, **prices), budget_usd=5.0)
    with pytest.raises(BudgetReached, match="does not have"):
        run(posts, found)
    paid = sum(server.submitted.values())
    assert 0 < paid < 12
    with AnswerStore() as store:
        assert store.spent("labels") == pytest.approx(paid * 110 * 1000 / 1e6 / 2)
    assert run(posts, changed(found, budget_usd=50.0))[0]["answered"] == 12
    assert set(server.submitted.values()) == {1}
