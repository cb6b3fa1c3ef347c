"""The HTTP API: real requests to a real server on loopback, hostile ones included."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from assay.config import ScoreTarget
from assay.encode.extract import PostInputs
from assay.errors import ModelError, Refusal, SettingsError
from assay.scoring.predict import Predictor
from assay.serve.batching import Batcher
from assay.serve.options import Options, keys_from_environment
from assay.serve.rates import Rates
from tests.checkpoints import tiny_student
from tests.conftest import picture
from tests.serving import KEY, MOODS, Server, b64, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of three moods; what it says is of random weights."""
    return make_model(tmp_path_factory.mktemp("serve") / "models" / "moods", MOODS)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("serve-home")
    found = Server(home, "--model", str(model), "--max-body-mib", "12", "--max-pixels", "10000000", "--timeout-s", "5")
    yield found
    found.stop()


# --------------------------------------------------------------------------------- predictions


def test_predictions_are_those_of_the_predictor(server: Server, model: Path) -> None:
    image = picture(size=(300, 200))
    wanted = Predictor.load(model, cached=False).predict(text="a good day", image=image)
    by_json = server.predict(text="a good day", image=b64(image)).json()
    by_form = server.http.post("/v1/predict", data={"text": "a good day"}, files={"image": ("a.jpg", image)}).json()
    for found in (by_json, by_form):
        assert found["model"] == "moods"
        one = found["predictions"][0]
        assert one["status"] == wanted.status == "ok"
        assert one["tasks"]["moods"]["value"] == wanted.value
        assert wanted.probabilities is not None
        for name, p in wanted.probabilities.items():
            assert one["tasks"]["moods"]["probabilities"][name] == pytest.approx(p, abs=2e-3)


def test_many_posts_keep_their_order_and_ids(server: Server) -> None:
    posts = [{"id": f"p{i}", "text": "good day" if i % 2 else "bad day"} for i in range(64)]
    found = server.predict(posts=posts).json()["predictions"]
    assert [one["id"] for one in found] == [one["id"] for one in posts]
    assert len({json.dumps(one["tasks"]) for one in found[::2]}) == 1
    assert {one["status"] for one in found} == {"text_only"}


def test_clients_at_once_each_get_their_own(server: Server) -> None:
    def ask(i: int) -> bool:
        text = f"{'good' if i % 2 else 'bad'} day number {i}"
        found = server.predict(id=str(i), text=text)
        return bool(found.status_code == 200 and found.json()["predictions"][0]["id"] == str(i))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(80)))
    batches = next(line for line in server.http.get("/metrics").text.splitlines() if line.startswith("assay_batches"))
    assert float(batches.split()[-1]) < 80  # requests were worked on together


def test_card_models_health_and_metrics(server: Server) -> None:
    card = server.http.get("/v1/model").json()
    assert card["tasks"]["moods"]["kind"] == "classes"
    assert "# Student" in card["card"]
    assert server.http.get("/v1/models").json()["models"][0]["name"] == "moods"
    bare = httpx2.Client(base_url=server.http.base_url)
    assert bare.get("/healthz").text == "ok\n"
    assert bare.get("/readyz").status_code == 200
    assert "assay_requests_total" in bare.get("/metrics").text
    assert bare.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_the_older_path_keeps_its_shape_and_refuses_paths(server: Server, tmp_path: Path) -> None:
    found = server.http.post("/test_model", json={"text": "good day"}).json()
    more = {"interval", "prediction_set", "familiarity", "unlike", "reason"}  # what /v1/predict says beside it
    assert set(found) == {"prediction", "probabilities", "status"} | more
    image = picture()
    assert server.http.post("/test_model", files={"image": ("a.jpg", image)}).json()["status"] == "image_only"
    (tmp_path / "secret.jpg").write_bytes(image)
    for body in ({"text": "x", "image_path": str(tmp_path / "secret.jpg")}, {"image": str(tmp_path / "secret.jpg")}):
        refused = server.http.post("/test_model", json=body)
        assert refused.status_code == 422
        assert "path of the server is refused" in refused.json()["error"]["message"]
    form = server.http.post("/test_model", files={"image": (None, "/etc/passwd")})
    assert form.status_code == 422
    assert server.http.post("/train_model").status_code == 403


# ------------------------------------------------------------------------------ odd bodies


def test_base64_comes_with_line_breaks_and_as_data_urls(server: Server) -> None:
    image = picture()
    wanted = server.predict(image=b64(image)).json()["predictions"][0]["tasks"]
    forms = (base64.encodebytes(image).decode(), b64(image).replace("A", "A\r\n\t "))
    for sent in (*forms, *(f"data:image/jpeg;base64,{one}" for one in forms), f"DATA:;BASE64,{b64(image)}"):
        for body in ({"image": sent}, {"images": [sent]}, {"posts": [{"image": sent}]}):
            assert server.predict(**body).json()["predictions"][0]["tasks"] == wanted
        assert server.http.post("/test_model", json={"image": sent}).json()["status"] == "image_only"
    assert server.predict(image="data:image/png,%89PNG").status_code == 422


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ud83d \\ude00"])
def test_half_a_character_is_text(server: Server, half: str) -> None:
    body = f'{{"posts": [{{"id": "1{half}", "text": "good"}}, {{"id": "2", "text": "cut {half}"}}]}}'
    found = server.http.post("/v1/predict", content=body.encode(), headers={"Content-Type": "application/json"})
    assert found.status_code == 200
    one, two = found.json()["predictions"]
    assert one["id"].startswith("1?")
    assert two["tasks"] == server.predict(text="cut").json()["predictions"][0]["tasks"]


BAD = {"undecodable_image": {"image": b64(b"no picture")}, "bad_base64": {"image": "a"}, "no_content": {"text": " "}}
BAD |= {"text_too_long": {"text": "a" * 100_001}, "bad_request": {"text": 5}}


@pytest.mark.parametrize("code", BAD)
def test_the_post_at_fault_is_named_and_the_others_can_be_had(server: Server, code: str) -> None:
    posts = [{"id": "a", "text": "good"}, {"id": "b-7"} | BAD[code], {"text": "bad"}, BAD[code]]
    refused = server.predict(posts=posts)
    assert refused.status_code in (413, 422)
    said = refused.json()["error"]
    assert said["code"] == code
    assert said["message"].startswith("posts.1 (id 'b-7'): ")
    assert server.predict(posts=posts[2:]).json()["error"]["message"].startswith("posts.1: ")
    by_body = server.predict(posts=posts, partial=True)
    by_query = server.http.post("/v1/predict", params={"partial": "true"}, json={"posts": posts})
    for found in (by_body, by_query):
        answers = found.json()["predictions"]
        assert [one["id"] for one in answers] == ["a", "b-7", None, None]
        assert [one["status"] for one in answers] == ["text_only", "failed", "text_only", "failed"]
        assert answers[1]["reason"].startswith(f"{code}: posts.1 (id 'b-7'): ")
        assert answers[1]["tasks"]["moods"]["value"] is None
        alone = server.predict(text="bad").json()["predictions"][0]["tasks"]["moods"]
        assert answers[2]["tasks"]["moods"]["value"] == alone["value"]
        assert answers[2]["tasks"]["moods"]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-6)


def test_a_browsers_field_without_a_file_is_no_picture(server: Server) -> None:
    part = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    empty = part.format("image", '; filename=""\r\nContent-Type: application/octet-stream', "")
    for more in (empty, empty.replace('"image"', '"images"'), part.format("image", "", "")):
        body = "--x\r\n" + part.format("text", "", "good day") + "--x\r\n" + more + "--x--\r\n"
        head = {"Content-Type": "multipart/form-data; boundary=x"}
        found = server.http.post("/v1/predict", content=body.encode(), headers=head)
        assert found.json()["predictions"][0]["status"] == "text_only"


# ------------------------------------------------------------------------------ hostile inputs


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def large() -> bytes:
    out = io.BytesIO()
    Image.new("L", (10_000, 5_000)).save(out, "PNG")
    return out.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HOSTILE: dict[str, tuple[Any, int]] = {
    "decompression bomb": (lambda: {"image": b64(bomb())}, 413),
    "fifty megapixels": (lambda: {"image": b64(large())}, 413),
    "truncated": (lambda: {"image": b64(picture(size=(300, 300))[:-200])}, 422),
    "half a header": (lambda: {"image": b64(picture()[:20])}, 422),
    "polyglot gif and script": (lambda: {"image": b64(b"GIF89a/*" + b"\x00" * 40 + b"*/=1;alert(1)")}, 422),
    "svg": (lambda: {"image": b64(SVG)}, 422),
    "html": (lambda: {"image": b64(b"<html><body>no picture</body></html>")}, 422),
    "path instead of a picture": (lambda: {"image": "../../etc/passwd"}, 422),
    "file url": (lambda: {"image": "file:///etc/passwd"}, 422),
    "ten megabytes of caption": (lambda: {"text": "a" * 10_000_000}, 413),
    "too many posts": (lambda: {"posts": [{"text": "a"}] * 65}, 413),
    "no posts": (lambda: {"posts": []}, 422),
    "nothing in it": (lambda: {"text": "   "}, 422),
    "number as text": (lambda: {"text": 5}, 422),
    "unknown field": (lambda: {"text": "a", "image_path": "/etc/passwd"}, 422),
    "no such model": (lambda: {"text": "a", "model": "../moods"}, 404),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_gets_its_status_and_the_server_lives(name: str, server: Server) -> None:
    make, status = HOSTILE[name]
    refused = server.predict(**make())
    assert refused.status_code == status, refused.text[:300]
    assert set(refused.json()["error"]) == {"code", "message"}
    assert len(refused.text) < 600
    assert server.predict(text="still there").status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"text": "\xff\xfe"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"text": "\\ud800"}', "application/json", 422),
        (b"text=a", "application/x-www-form-urlencoded", 415),
        (b"<a/>", "text/xml", 415),
        (b"no boundary", "multipart/form-data", 400),
        (b"--x\r\nrubbish", "multipart/form-data; boundary=x", (400, 422)),
        (b'{"text": "a"}', "", 415),
        (b"a" * 13_000_000, "application/json", 413),
    ],
    ids=[
        *("bad utf-8", "deep list", "deep object", "empty", "a list", "half a character", "urlencoded", "xml"),
        *("no boundary", "broken form", "no type", "body too large"),
    ],
)
def test_hostile_bodies(content: bytes, kind: str, status: int | tuple[int, ...], server: Server) -> None:
    refused = server.http.post("/v1/predict", content=content, headers={"Content-Type": kind} if kind else {})
    assert refused.status_code in (status if isinstance(status, tuple) else (status,)), refused.text[:300]
    assert "Traceback" not in refused.text
    assert server.predict(text="still there").status_code == 200


def test_long_lists_are_refused_before_anything_is_done_for_them(server: Server) -> None:
    """A megabyte of nothing must not cost seconds or hundreds of megabytes."""
    import psutil

    used = psutil.Process(server.pid)
    before, started = used.memory_info().rss, time.monotonic()
    for body in (b'{"posts": [' + b"1," * 1_000_000 + b"1]}", b'{"images": [' + b"{}," * 500_000 + b"{}]}"):
        assert (
            server.http.post("/v1/predict", content=body, headers={"Content-Type": "application/json"}).status_code
            == 413
        )
    assert used.memory_info().rss - before < 150e6
    assert time.monotonic() - started < 5


def test_pixels_of_a_whole_request_are_limited(server: Server) -> None:
    out = io.BytesIO()
    Image.new("1", (3000, 3000)).save(out, "PNG")  # nine megapixels of a limit of ten, a few hundred bytes
    refused = server.predict(posts=[{"images": [b64(out.getvalue())] * 4}] * 2)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "too_many_pixels"


def test_charset_of_a_form_is_not_for_the_client_to_choose(server: Server) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n' + b"a" * 100_000 + b"\r\n--x--\r\n"
    for charset in ("punycode", "unicode_escape", "idna"):
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        assert server.http.post("/v1/predict", content=body, headers={"Content-Type": kind}).status_code == 415
    fields = {"id": (None, "x" * 300), "text": (None, "a")}
    assert server.http.post("/v1/predict", files=fields).status_code == 422


def test_odd_methods_and_leaving_clients_leave_no_trace(server: Server) -> None:
    for method in ("BREW", "X1", "X2"):
        server.http.request(method, "/v1/predict")
    raw = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    head += "Content-Type: application/json\r\n"
    raw.sendall((head + "Content-Length: 1000\r\n\r\n{").encode())
    time.sleep(0.2)
    raw.close()
    time.sleep(0.5)
    counted = server.http.get("/metrics").text
    assert 'method="BREW"' not in counted
    assert "Traceback" not in server.log.read_text()


def test_who_asks_is_not_what_a_header_says(model: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(model), "--rate-per-minute", "30", keys=None)
    found = [server.http.get("/v1/models", headers={"X-Forwarded-For": f"10.0.0.{i}"}).status_code for i in range(20)]
    assert 429 in found
    assert server.stop() == 0


def test_names_of_uploads_mean_nothing(server: Server) -> None:
    files = {"image": ("../../../etc/cron.d/evil\x00.jpg", picture())}
    assert server.http.post("/v1/predict", files=files).status_code == 200
    assert server.http.get("/v1/jobs/..%2f..%2fetc%2fpasswd/log").status_code == 404


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong-key"}, {"X-API-Key": "é"}, {"Authorization": KEY}]
)
def test_no_key_or_a_wrong_one(headers: dict[str, str], server: Server) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    for path in ("/v1/predict", "/test_model", "/train_model"):
        refused = httpx2.post(f"{server.http.base_url}{path}", json={"text": "a"}, headers=encoded)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert KEY not in refused.text
    right = httpx2.post(f"{server.http.base_url}/v1/predict", json={"text": "a"}, headers={"X-API-Key": KEY})
    assert right.status_code == 200


def test_slow_upload_is_ended_and_others_are_served(server: Server) -> None:
    """A client that sends a byte a second is told 408 after the time-out; meanwhile others get their answers."""
    raw = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    head += "Content-Type: application/json\r\n"
    raw.sendall((head + "Content-Length: 1000\r\n\r\n").encode())
    started = time.monotonic()
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.5):
            try:
                raw.sendall(b" ")
            except OSError:
                return

    sender = threading.Thread(target=trickle)
    sender.start()
    assert server.predict(text="quick").status_code == 200
    raw.settimeout(30)
    said = raw.recv(4096)
    stop.set()
    sender.join()
    raw.close()
    assert b" 408 " in said
    assert time.monotonic() - started < 10


def test_log_has_no_content_and_no_key(server: Server) -> None:
    server.predict(text="a very private caption", id="private-id")
    time.sleep(0.2)
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"at", "method", "path", "status", "ms", "caller"} <= set(lines[-1])
    for secret in (KEY, "very private", "private-id"):
        assert secret not in log


# ------------------------------------------------------------------------- limits and life cycle


def test_rate_limit_and_retry_after(model: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(model), "--rate-per-minute", "60")
    found = [server.predict(text="a") for _ in range(30)]
    refused = [one for one in found if one.status_code == 429]
    assert {one.status_code for one in found} == {200, 429}
    assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
    assert server.stop() == 0


def test_wrong_keys_cannot_be_guessed_quickly(model: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(model))
    guesses = [{"X-API-Key": f"guess-{i}"} for i in range(40)]
    assert {httpx2.get(f"{server.http.base_url}/v1/models", headers=one).status_code for one in guesses} == {401, 429}
    assert server.http.get("/v1/models").status_code == 200  # the right key is not held up
    assert server.stop() == 0


def test_a_changed_model_is_picked_up_without_dropping_a_request(model: Path, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moods"
    shutil.copytree(model, folder)
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(folder), "--reload-s", "0.3")
    versions, failures, stop = set(), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            found = server.predict(text="a good day")
            if found.status_code == 200:
                versions.add(found.json()["version"])
            else:
                failures.append(found.text)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    config, weights = json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()
    (folder / "config.json").write_text("{half")
    time.sleep(1)  # three looks at it
    (folder / "config.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(weights[:100])
    time.sleep(1)  # three looks at it
    (folder / "model.safetensors").write_bytes(weights)
    config["training"]["best_epoch"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    until = time.monotonic() + 60
    while len(versions) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    stop.set()
    for client in clients:
        client.join()
    assert len(versions) == 2
    assert not failures
    assert server.stop() == 0


def test_shutdown_finishes_what_was_taken(model: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(model))
    posts = [{"text": f"day {i}", "image": b64(picture(colour=(i, 9, 9), size=(200, 200)))} for i in range(48)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: server.predict(posts=posts))
        time.sleep(0.4)
        assert server.stop() == 0
        assert len(asked.result().json()["predictions"]) == 48


def test_training_as_a_job(model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job has status and log; here dvc fails at once, since there is no pipeline to run."""
    from tests.conftest import ROOT

    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    home.mkdir(exist_ok=True)
    server = Server(home, "--model", str(model), "--allow-training")
    assert server.http.post("/train_model").status_code == 404  # moods is no task of params.yaml
    started = server.http.post("/train_model", json={"task": "sentiment"})
    assert started.status_code == 202
    job = started.json()
    assert job["status"] == "running"
    until = time.monotonic() + 60
    while job["status"] == "running" and time.monotonic() < until:
        time.sleep(0.3)
        job = server.http.get(f"/v1/jobs/{job['id']}").json()
    assert job["status"] == "failed"
    assert "not a git repository" in server.http.get(f"/v1/jobs/{job['id']}/log").text or job["exit_code"] != 0
    assert server.http.get("/v1/jobs/none").status_code == 404
    assert server.stop() == 0


def test_a_server_open_to_a_network_needs_keys(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_API_KEYS", raising=False)
    options = Options(models=[model], host="0.0.0.0")
    with pytest.raises(SettingsError, match="can be reached from outside and ASSAY_API_KEYS is not set"):
        keys_from_environment(options)
    assert keys_from_environment(Options(models=[model])) == frozenset()
    monkeypatch.setenv("ASSAY_API_KEYS", "short")
    with pytest.raises(SettingsError, match="fewer than 8 characters"):
        keys_from_environment(options)
    monkeypatch.setenv("ASSAY_API_KEYS", "long-enough-1, long-enough-2")
    assert len(keys_from_environment(options)) == 2


# ----------------------------------------------------------------------------------- small parts


def test_batcher_refuses_when_full_and_drops_whom_nobody_waits_for() -> None:
    async def go() -> None:
        seen: list[int] = []

        def slow(posts: Any) -> dict[str, list[str]]:
            seen.append(len(posts))
            time.sleep(0.2)
            return {"t": [post.text for post in posts]}

        batcher = Batcher([slow], batch=4, queue=6, wait_s=0.01)
        posts = [PostInputs(f"p{i}", []) for i in range(3)]
        first = asyncio.create_task(batcher.submit(posts, 5))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(batcher.submit(posts, 0.01))
        await asyncio.sleep(0.02)
        with pytest.raises(Refusal) as full:
            await batcher.submit(posts, 5)
        assert full.value.status == 503
        assert int(full.value.headers()["Retry-After"]) >= 1
        assert [row["t"] for row in await first] == ["p0", "p1", "p2"]
        with pytest.raises(Refusal, match="no answer within"):
            await late
        assert [row["t"] for row in await batcher.submit(posts, 5)] == ["p0", "p1", "p2"]
        assert batcher.waiting == 0
        await batcher.close()
        assert seen == [3, 3]  # the late one was never worked on
        with pytest.raises(Refusal, match="shutting down"):
            await batcher.submit(posts, 5)

    asyncio.run(go())


def test_batcher_survives_a_model_that_fails() -> None:
    async def go() -> None:
        calls = iter([True, False])

        def score(posts: Any) -> dict[str, list[str]]:
            if next(calls):
                raise RuntimeError("weights of a secret")
            return {"t": ["ok"] * len(posts)}

        batcher = Batcher([score], batch=4, queue=6, wait_s=0)
        with pytest.raises(Refusal) as failed:
            await batcher.submit([PostInputs("a", [])], 5)
        assert failed.value.status == 500
        assert "secret" not in str(failed.value)
        assert await batcher.submit([PostInputs("a", [])], 5) == [{"t": "ok"}]
        await batcher.close()

    asyncio.run(go())


def test_rates_refill() -> None:
    rates = Rates(600)  # ten a second, a hundred at once
    for _ in range(100):
        rates.take("a")
    with pytest.raises(Refusal) as refused:
        rates.take("a")
    assert refused.value.status == 429
    rates.take("b")
    time.sleep(0.15)
    rates.take("a")
    assert np.isfinite(refused.value.retry_after_s or 0)


# ------------------------------------------------------------------------- the OpenAPI document


@pytest.mark.slow
@pytest.mark.parametrize("models", [1, 2])
def test_schemathesis_finds_nothing(tmp_path: Path, models: int) -> None:
    """What the document allows is taken, what it does not allow is refused as it says, and nothing is a 5xx."""
    tiny = tiny_student(tmp_path)  # it is the service that is tried
    model = make_model(tmp_path / "models" / "moods", MOODS, student=tiny)
    bias = make_model(tmp_path / "models" / "bias", ScoreTarget(kind="score"), student=tiny)
    more = ["--model", str(bias)] if models > 1 else []
    server = Server(tmp_path / "home", "--model", str(model), *more, "--no-page")
    here = Path(__file__).parent / "schemathesis"
    try:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(here / "schemathesis.toml")]
        command += ["run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {KEY}", "--seed", "1"]
        done = subprocess.run(
            [*command, "--max-examples", "30", "--suppress-health-check", "all"],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "pictures", "PYTHONPATH": str(here)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Tested: 11" in done.stdout
        assert server.predict(model=model.name, text="still here").status_code == 200
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("broken", ["cut", "no JSON", "a list", "no calibration"])
def test_a_broken_model_folder_is_one_line(model: Path, tmp_path: Path, broken: str) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "broken"))
    if broken == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        told = json.loads((folder / "config.json").read_text())
        told.pop("calibration")
        content = {"no JSON": "{", "a list": "[]", "no calibration": json.dumps(told)}[broken]
        (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match="broken"):
        Predictor.load(folder)
