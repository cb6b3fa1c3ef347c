"""Attacks on the page and on the server's doors: files of the server, foreign names and origins, the log-in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import picture
from tests.serving import KEY, MOODS, Server, make_model

SECRET = (1, 222, 99)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("attacks") / "models" / "sentiment", MOODS)


@pytest.fixture(scope="module", params=[None, KEY], ids=["open", "keyed"])
def server(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("attacks-home") / "home"
    found = Server(home, "--model", str(model), "--max-body-mib", "4", keys=request.param)
    if request.param:
        said = found.http.post("/ui/login", data={"username": "me", "password": KEY})
        assert said.status_code == 200, said.text
    yield found
    found.stop()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that no browser has uploaded: a real picture, a link to it, a FIFO, devices."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "real.png").write_bytes(picture(SECRET, kind="PNG"))
    (folder / "real.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'>secret</svg>")
    os.symlink(folder / "real.png", folder / "link.png")
    os.mkfifo(folder / "fifo.png")
    names = {name: str(folder / name) for name in ("real.png", "real.svg", "link.png", "fifo.png")}
    return names | {"zero": "/dev/zero", "passwd": "/etc/passwd", "web": "http://127.0.0.1:1/a.png", "url": "//a/b.png"}


def joined(server: Server, path: Any, number: int, session: str = "abcdefgh") -> str:
    """All that the page says when a client names a file as the picture of one of its functions."""
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}, "hi", "sentiment"]
    body = {"data": data, "fn_index": number, "session_hash": session}
    found = server.http.post("/ui/gradio_api/queue/join", json=body)
    told = found.text
    if found.status_code == 200:
        with server.http.stream("GET", "/ui/gradio_api/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                told += line
                if "process_completed" in line or "close_stream" in line:
                    break
    return told


def functions(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.http.get("/ui/config").json()["dependencies"]
    return found


def test_no_function_of_the_page_reads_a_file_that_was_not_uploaded(server: Server, elsewhere: dict[str, str]) -> None:
    for one in functions(server):
        for name, path in elsewhere.items():
            said = joined(server, path, one["id"])
            assert "not_uploaded" in said, (one["id"], name, said[:200])
    assert server.http.get("/healthz").status_code == 200


def test_an_upload_counts_for_its_own_browser_alone(server: Server, elsewhere: dict[str, str]) -> None:
    sent = server.http.post("/ui/gradio_api/upload", files={"files": ("a.png", picture(SECRET, kind="PNG"))})
    assert sent.status_code == 200, sent.text
    path = sent.json()[0]
    first = next(one["id"] for one in functions(server) if len(one["outputs"]) == 3)
    assert "a-answer" in joined(server, path, first)
    assert server.http.get(f"/ui/gradio_api/file={path}").status_code == 200
    other = httpx2.Client(base_url=server.url, cookies={"assay_page": "somebody-else"}, timeout=30)
    if server.http.headers.get("authorization"):
        other.post("/ui/login", data={"username": "you", "password": KEY})
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "hi", "sentiment"]
    body = {"data": data, "fn_index": first, "session_hash": "otherone"}
    assert other.post("/ui/gradio_api/queue/join", json=body).status_code == 422
    assert other.get(f"/ui/gradio_api/file={path}").status_code == 404
    # a file that turns into a link after its upload
    os.remove(path)
    os.symlink(elsewhere["real.png"], path)
    assert "not_uploaded" in joined(server, path, first)


def test_two_keys_of_one_name_pass_nothing(server: Server, elsewhere: dict[str, str]) -> None:
    """What is checked is what is read."""
    path = server.http.post("/ui/gradio_api/upload", files={"files": ("a.png", picture(kind="PNG"))}).json()[0]
    first = next(one["id"] for one in functions(server) if len(one["outputs"]) == 3)
    for a, b in ((path, elsewhere["real.png"]), (elsewhere["real.png"], path)):
        one = f'{{"path": {json.dumps(a)}, "path": {json.dumps(b)}, "meta": {{"_type": "gradio.FileData"}}}}'
        body = f'{{"data": [{one}, "hi", "sentiment"], "fn_index": {first}, "session_hash": "twice"}}'
        head = {"Content-Type": "application/json"}
        found = server.http.post("/ui/gradio_api/queue/join", content=body.encode(), headers=head)
        assert found.status_code == (200 if b == path else 422)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/ui/gradio_api/{name}") for name in ("run/predict", "api/predict", "call/predict", "call/v2/x")),
        *(("POST", f"/ui/gradio_api/{name}") for name in ("component_server", "process_recording", "vibe-edit")),
        *(("POST", f"/ui/gradio_api/{name}") for name in ("stream/abc", "run-history/connect")),
        *(("GET", f"/ui/gradio_api/{name}") for name in ("proxy=http://127.0.0.1:1/", "dev/reload", "vibe-code")),
        *(("GET", f"/ui/gradio_api/file{name}") for name in ("=/etc/passwd", "/etc/passwd", "=http://127.0.0.1:1/a")),
        *(("GET", f"/ui/{name}") for name in ("monitoring", "gradio_api/runs", "gradio_api/deep_link?session_hash=a")),
    ],
)
def test_what_the_page_does_not_need_is_not_there(server: Server, method: str, path: str) -> None:
    found = server.http.request(method, path, **({"json": {"data": []}} if method == "POST" else {}))
    assert found.status_code in (404, 405), found.text[:200]


# -------------------------------------------------------------------------------------- who asks


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "a b"])
def test_foreign_names_are_refused(server: Server, host: str) -> None:
    for path in ("/v1/models", "/ui/config", "/docs"):
        assert server.http.get(path, headers={"Host": host}).status_code in (400, 403)
    assert server.http.get("/healthz", headers={"Host": "a-probe"}).status_code == 200


def test_own_names_are_answered(server: Server) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9", "10.1.2.3:80", socket.gethostname()):
        assert server.http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/predict", "/train_model", "/ui/gradio_api/queue/join", "/ui/gradio_api/upload"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_pages_of_other_origins_may_send_nothing(server: Server, path: str, headers: dict[str, str]) -> None:
    found = server.http.post(path, json={"text": "hi"}, headers=headers)
    assert found.status_code == 403
    assert found.json()["error"]["code"] == "foreign_origin"
    same = server.http.post("/v1/predict", json={"text": "hi"}, headers={"Origin": server.url})
    assert same.status_code == 200


@pytest.fixture(scope="module")
def training(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may train, in a folder without a pipeline, and that has a name told."""
    home = tmp_path_factory.mktemp("training") / "home"
    more = ["--allow-training", "--no-page", "--allowed-host", "assay.example"]
    found = Server(home, "--model", str(model), *more, keys=None)
    yield found
    found.stop()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_training_takes_json_alone(training: Server, kind: str) -> None:
    for body in (b'{"task": "no"}', b""):
        found = training.http.post("/train_model", content=body, headers={"Content-Type": kind})
        assert found.status_code == 415
    assert training.http.post("/train_model", json={"task": "no such"}).status_code == 404
    assert training.http.get("/v1/models", headers={"Host": "assay.example"}).status_code == 200


@pytest.mark.slow
def test_wrong_log_ins_stop_nobody(model: Path, tmp_path: Path) -> None:
    """Two clients guess keys as fast as they can; others are answered meanwhile, and the guessers are slowed down."""
    server = Server(tmp_path / "home", "--model", str(model))
    try:
        seen: list[int] = []
        stop = threading.Event()

        def guess() -> None:
            with httpx2.Client(base_url=server.url, timeout=30) as client:
                while not stop.is_set():
                    seen.append(client.post("/ui/login", data={"username": "a", "password": "wrong"}).status_code)

        threads = [threading.Thread(target=guess) for _ in range(2)]
        for thread in threads:
            thread.start()
        slowest, until = 0.0, time.monotonic() + 4
        while time.monotonic() < until:
            started = time.monotonic()
            assert server.http.get("/v1/models").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(seen) == {400, 429}
        assert seen.count(400) < 20
        assert slowest < 0.9, f"the loop was held up for {slowest:.2f} s"
    finally:
        server.stop()


def test_nothing_blocks_the_loop(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A watchdog in the loop itself while every path is asked, three times: no turn of it takes long each time."""
    from assay.serve.api import make_app
    from assay.serve.options import Options

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_API_KEYS", KEY)
    app = make_app(Options(models=[model], page="/ui", allow_training=True))
    longest: list[float] = []  # of each round; what waits for a core alone does not do so in all

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest[-1] = max(longest[-1], time.monotonic() - before - 0.01)

    async def run() -> None:
        async with app.router.lifespan_context(app):
            head = {"Authorization": f"Bearer {KEY}"}
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=head) as client:
                await client.post("/v1/predict", json={"text": "warm up"})
                await client.get("/openapi.json")
                longest.append(0.0)
                watcher = asyncio.create_task(watch())
                for _ in range(3):
                    longest.append(0.0)
                    await client.post("/ui/login", data={"username": "a", "password": "no"})
                    await client.post("/train_model", json={"task": "no"})
                    await client.get("/v1/model")
                    await client.get("/ui/config")
                    await client.post("/v1/predict", json={"text": "a " * 40_000})
                    sent = {"files": ("a.png", picture(kind="PNG"))}
                    await client.post("/ui/gradio_api/upload", files=sent)
                watcher.cancel()

    asyncio.run(run())
    assert min(longest[1:]) < 0.5


def test_uploads_are_bounded(server: Server) -> None:
    assert server.http.post("/ui/gradio_api/upload", files={"files": ("a.png", b"a" * 5_000_000)}).status_code == 413


def test_the_documentation_comes_from_here_alone(server: Server) -> None:
    page = server.http.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/{name}" in page.text
        assert len(server.http.get(f"/docs/{name}").content) > 100_000
    assert server.http.get("/redoc").status_code == 404
