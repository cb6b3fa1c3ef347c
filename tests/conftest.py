"""Fixtures: a home folder of one's own for every test, drawn corpora, a stub teacher on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported: processes that share the cores must not wait for each other by spinning
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import pytest
import yaml
from filelock import FileLock
from PIL import Image

from assay.corpora.demo import ensure_drawn
from tests import warm
from tests.postgres import Server, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent


SECONDS = "assay/seconds"  # of each file of tests, when all were run last


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock(), "clock")


class Clock:
    """Notes how long the files of tests take."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.location[0]] += report.duration  # type: ignore[assignment]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        config = session.config
        all_of_them = config.args_source is config.ArgsSource.TESTPATHS and not exitstatus
        if all_of_them and config.cache and not config.option.keyword and not config.option.markexpr:
            config.cache.set(SECONDS, {name: round(one, 1) for name, one in self.seconds.items()})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that took longest come first, so that no process is left alone with them at the end; where that is not
    known, those with slow tests, then those with many.
    """
    known = config.cache.get(SECONDS, {}) if config.cache else {}
    guess: Counter[str] = Counter()
    for item in items:
        guess[item.location[0]] += 20 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -known.get(item.location[0], guess[item.location[0]]))


@pytest.fixture
def home_folder(tmp_path: Path) -> Path:
    """For answers, features and resume files of this test alone; a file whose tests see the same posts shares one."""
    return tmp_path / "assay-home"


@pytest.fixture(autouse=True)
def home(home_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a test; and no setting of the environment that it runs in."""
    folder = home_folder
    monkeypatch.setenv("ASSAY_HOME", str(folder))
    monkeypatch.setenv("ASSAY_RUNTIME", "torch")  # a graph is made once a home; tests of graphs ask for them
    for name in ("ASSAY_AUTHOR_KEY", "ASSAY_WORKERS", "ASSAY_STORE", "ASSAY_STORE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn corpus of 300 posts; read only."""
    root = tmp_path_factory.mktemp("drawn") / "demo"
    ensure_drawn(root, posts=300, seed=7)
    return root


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server on loopback, or a skip."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora, or a skip."""
    folder = os.environ.get("ASSAY_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ASSAY_REAL_DATA is not set to a folder of real corpora")
    return Path(folder)


def picture(
    colour: tuple[int, ...] = (200, 30, 30),
    size: tuple[int, int] = (64, 48),
    mode: str = "RGB",
    kind: str = "JPEG",
    **options: Any,
) -> bytes:
    """A one-coloured picture with a diagonal, as file bytes."""
    image = Image.new(mode, size, colour if len(colour) > 1 else colour[0])
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# ------------------------------------------------------------------------------- stub teacher


class StubTeacher:
    """A chat server on loopback that counts every question and answers by rule or by order."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.delay_s = 0.0
        self.reply: Callable[[dict[str, Any]], tuple[Any, ...]] = lambda request: (200, valid_answer(request))
        self.elsewhere: Callable[[str, dict[str, Any]], tuple[Any, ...]] = lambda path, _: (404, {"error": path})
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                if not self.path.endswith("/chat/completions"):
                    self.answer(*stub.elsewhere(self.path, request))
                    return
                with stub.lock:
                    stub.asked[hashlib.sha256(json.dumps(request["messages"]).encode()).hexdigest()] += 1
                    stub.requests.append(request)
                time.sleep(stub.delay_s)
                self.answer(*stub.reply(request))

            def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    for name, value in (headers or {}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client was killed
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def completion(content: str | None, *, finish: str = "stop", **usage: Any) -> dict[str, Any]:
    """A chat completion with this content."""
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": "stub-1",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, **usage},
    }


def schema_of(request: dict[str, Any]) -> dict[str, Any]:
    """The answer schema of a request, by response format or by tool."""
    if "response_format" in request:
        found: dict[str, Any] = request["response_format"]["json_schema"]["schema"]
    else:
        found = request["tools"][0]["function"]["parameters"]
    return found


def valid_answer(request: dict[str, Any], **usage: Any) -> dict[str, Any]:
    """A completion that fits the request's schema; its value depends on the question alone."""
    properties = schema_of(request)["properties"]
    number = int(hashlib.sha256(json.dumps(request["messages"]).encode()).hexdigest()[:4], 16)
    if "score" in properties:
        answer: dict[str, Any] = {"reason": "stub", "score": number % 21 / 2}
    else:
        names = properties["label"]["enum"]
        answer = {"reason": "stub", "label": names[number % len(names)]}
    return completion(json.dumps(answer), **usage)


@pytest.fixture
def stub() -> Iterator[StubTeacher]:
    teacher = StubTeacher()
    yield teacher
    teacher.server.shutdown()


# -------------------------------------------------------------------------------------- browser

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def faultless(browser: Browser, page: Path, width: int, ready: str) -> Page:
    """A page of ours opened from its file without network, once `ready` is there; no error, no request, no overflow."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    shown = context.new_page()
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    shown.on("requestfailed", lambda asked: faults.append(asked.url))
    shown.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)
    shown.goto(page.resolve().as_uri())
    shown.wait_for_selector(ready, timeout=60_000)
    assert faults == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    return shown


# --------------------------------------------------------------------------------- repositories


class Repository:
    """A temporary repository with the project's pipeline, and its own home folder."""

    def __init__(self, folder: Path, home: Path, *, like: Path | None = None) -> None:
        """`like`: what to copy instead, see `small_run`."""
        self.folder, self.home = folder, home
        self.env = {
            **os.environ,
            "ASSAY_HOME": str(home),
            "ASSAY_RUNTIME": "torch",  # a graph is made once a home; tests of graphs ask for them
            "PATH": os.pathsep.join([str(warm.folder()), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
            "DVC_NO_ANALYTICS": "1",
        }
        if like is not None:
            for name, place in (("work", folder), ("home", home)):
                shutil.copytree(like / name, place, symlinks=True)
            return
        copied = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in copied.stdout.splitlines():
            if name.split("/")[0] in ("src", "stages", "rubrics", "human", "starts", ".dvc") or name in (
                "data/audits/age/activities.csv",
                "dvc.yaml",
                "params.yaml",
                ".gitignore",
                ".dvcignore",
                "pyproject.toml",
            ):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.run("git", "init", "-q")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository; its output is shown when it fails."""
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def start(self, *command: str, forked: bool = False) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, to be killed as a whole, stages and all.

        `forked`: it will not be killed, so that its stages may fork from the warm process.
        """
        path = self.env["PATH"] if forked else self.env["PATH"].removeprefix(f"{warm.folder()}{os.pathsep}")
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env | {"PATH": path},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def params(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change params.yaml."""
        path = self.folder / "params.yaml"
        raw = yaml.safe_load(path.read_text())
        change(raw)
        path.write_text(yaml.safe_dump(raw, sort_keys=False))

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; the names of the stages that ran, but for the two that write down settings and code."""
        done = self.run("dvc", "repro", *arguments)
        ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
        return [name for name in ran if name not in ("settings", "digests")]

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


def small(raw: dict[str, Any]) -> None:
    """Params of a pipeline that runs in a minute."""
    raw["demo"]["posts"] = 260
    raw["corpora"]["demo"]["shard_posts"] = 50
    raw["students"]["packaged"]["image"]["views"] = ["crop"]  # half the work
    raw["audits"] = {}
    for task in raw["tasks"].values():
        task["sample"]["posts"] = 160
        task["train"] |= {"epochs": 12, "crossfit": 3}


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline after its first run, committed, with its home; by whichever process comes first, to be copied.

    `ran.json` has the names of the stages that ran.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if WORKERS > 1 else base) / "small"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "ran.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            made = Repository(folder / "work", folder / "home")
            made.params(small)
            made.commit("a small pipeline")
            ran = made.repro()
            made.commit("results")
            (folder / "ran.json").write_text(json.dumps(ran))
    return folder
