"""Images of audits: each made once and for ever, by every source; what is lacking is counted with its reason."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.audit import generate as module
from assay.audit.generate import generate
from assay.audit.kept import ImageStore
from assay.audit.sources.base import Keep, Request, checked, shows_nothing
from assay.audit.sources.demo import Drawn
from assay.audit.spaces import read_grid
from assay.config import Audit, DiffusersSource, DrawnSource, FolderSource, OpenAISource
from assay.corpora.demo.figure import draw_figure, read_look, seeded
from assay.errors import AccountRefused, BudgetReached, CorpusError, DataError, EncoderError, SettingsError
from assay.posts import read
from tests.checkpoints import save_sdxl
from tests.conftest import StubTeacher, picture
from tests.test_audit import ACTIVITIES, shipped

DRAWN = DrawnSource(kind="demo")


def small(**changes: Any) -> Audit:
    return shipped(**({"take": 3, "use": ["portrait"], "perceived": None} | changes))


def made(audit: Audit, source: Any, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    counts = generate(audit, source, ACTIVITIES, out)
    return counts, read(out).to_pylist()


# --------------------------------------------------------------------------------------- drawn


def test_drawn_images_are_made_once_and_are_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, rows = made(small(), DRAWN, tmp_path / "a")
    assert counts == {"images": 24, "ok": 24, "failed": {"total": 0}, "failed_for_now": 0}
    assert len({row["image_id"] for row in rows}) == 24
    assert {row["model"] for row in rows} == {"drawn-figures-1"}

    def never(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(Drawn, "make", never)
    assert made(small(), DRAWN, tmp_path / "b")[1] == rows
    assert (tmp_path / "a/part-00000.parquet").read_bytes() == (tmp_path / "b/part-00000.parquet").read_bytes()


def test_pairs_share_the_scene_and_groups_their_looks(tmp_path: Path) -> None:
    _, rows = made(small(take=10), DRAWN, tmp_path)
    looks: dict[str, list[float]] = {}
    for row in rows:
        look = read_look(Image.open(io.BytesIO(row["image"])))
        assert look is not None
        looks.setdefault(row["group"], []).append(look)
    assert np.mean(looks["young"]) < 0.2 < np.mean(looks["middle"]) < 0.8 < np.mean(looks["older"])
    a, b = (np.asarray(Image.open(io.BytesIO(draw_figure(seeded("s", 1), at, 128))), int) for at in (0, 1))
    assert np.median(np.abs(a - b)) == 0  # most of the picture is the scene


def test_nothing_planted_is_nothing_drawn(tmp_path: Path) -> None:
    """With visible: 0 the looks of every group come from one distribution."""
    _, rows = made(small(take=150), DrawnSource(kind="demo", visible=0.0, size_px=64), tmp_path)
    means = {}
    for group in ("neutral", "young", "older"):
        pictures = [Image.open(io.BytesIO(r["image"])) for r in rows if r["group"] == group]
        means[group] = np.mean([read_look(one) for one in pictures])
    assert max(means.values()) - min(means.values()) < 0.1


# ---------------------------------------------------------------------------- kept and claimed


class Slow:
    """A source that draws one picture at a time, slowly, and writes down what it was asked for."""

    batch = 3
    identity = {"kind": "slow"}

    def __init__(self, log: Path) -> None:
        self.log = log

    def make(self, requests: Sequence[Request], keep: Keep) -> None:
        for one in requests:
            with open(self.log, "a") as file:
                file.write(f"{one.key}\n")
            time.sleep(0.02)
            keep(one, checked(draw_figure(seeded(one.key), 0.5, 64), started=None, max_pixels=10**6))


def _run_slow(log: Path, out: Path) -> None:
    module._source = lambda *_: Slow(log)  # type: ignore[assignment]
    generate(small(take=10), DRAWN, ACTIVITIES, out)


def test_kill_9_loses_no_image_and_two_processes_share(tmp_path: Path, home: Path) -> None:
    log, context = tmp_path / "log", multiprocessing.get_context("fork")
    for kill in range(3):
        child = context.Process(target=_run_slow, args=(log, tmp_path / f"k{kill}"))
        child.start()
        time.sleep(0.5 + 0.1 * kill)
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    with ImageStore() as store:
        kept = store.rows("SELECT COUNT(*) FROM images")[0][0]
    asked = len(log.read_text().split())
    assert 0 < kept < 80
    assert asked - kept <= 3  # what was being made at each kill
    pair = [context.Process(target=_run_slow, args=(log, tmp_path / f"p{i}")) for i in range(2)]
    for child in pair:
        child.start()
    for child in pair:
        child.join()
        assert child.exitcode == 0
    assert read(tmp_path / "p0").equals(read(tmp_path / "p1"))
    counts = Counter(log.read_text().split())
    assert len(counts) == 80
    assert counts.total() <= 80 + 3


def test_full_disk_or_broken_store_is_one_line(tmp_path: Path, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "images.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match=r"image store .*damaged"):
        made(small(), DRAWN, tmp_path)


# ----------------------------------------------------------------------------- what is no image


@pytest.mark.parametrize(
    ("colour", "reason"), [((0, 0, 0), "black_image: the generator's safety checker"), ((200, 10, 10), "blank_image")]
)
def test_pictures_that_show_nothing(colour: tuple[int, int, int], reason: str) -> None:
    found = shows_nothing(Image.new("RGB", (64, 64), colour))
    assert found is not None
    assert found.startswith(reason)
    assert shows_nothing(Image.open(io.BytesIO(draw_figure(seeded(1), 0.1, 64)))) is None


def test_broken_files_are_failures() -> None:
    assert checked(b"no picture", started=None, max_pixels=10**6).status == "failed"
    cut = picture(size=(400, 400))[:-300]
    assert "undecodable_image" in str(checked(cut, started=None, max_pixels=10**6).reason)
    bomb = checked(picture(size=(400, 400)), started=None, max_pixels=1000)
    assert "decompression_bomb" in str(bomb.reason)


# ------------------------------------------------------------------------------------ endpoint


def endpoint(stub: StubTeacher, **more: Any) -> OpenAISource:
    return OpenAISource(kind="openai", base_url=stub.url, model="pictures-1", **more)


def drawn_answer(request: dict[str, Any], **more: Any) -> dict[str, Any]:
    data = draw_figure(seeded(request["prompt"], request.get("seed")), 0.4, 64)
    return {"created": 0, "data": [{"b64_json": base64.b64encode(data).decode(), **more}]}


def test_endpoint_makes_each_image_once_with_its_seed(stub: StubTeacher, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    lock, faults = threading.Lock(), iter([429, 500, 503])

    def answer(path: str, request: dict[str, Any]) -> tuple[Any, ...]:
        assert path.endswith("/images/generations")
        with lock:
            fault = next(faults, None)
            if fault:
                return fault, {"error": {"message": "later"}}, {"Retry-After": "0.1"}
            asked.append(request)
        return 200, drawn_answer(request)

    stub.elsewhere = answer
    source = endpoint(stub, seed_field="seed", negative_field="negative_prompt", negative_prompt="cartoon")
    counts, rows = made(small(), source, tmp_path / "a")
    assert counts["ok"] == 24
    assert len(asked) == len({(one["prompt"], one["seed"]) for one in asked}) == 24
    assert len({one["seed"] for one in asked}) == 6  # noise of its own for each activity and seed, the same for groups
    assert {row["noise"] for row in rows} == {one["seed"] for one in asked}
    assert all(one["model"] == "pictures-1" and one["negative_prompt"] == "cartoon" for one in asked)
    assert {row["negative_prompt"] for row in rows} == {"cartoon"}
    assert all(row["seconds"] > 0 for row in rows)
    assert made(small(), source, tmp_path / "b")[1] == rows
    assert len(asked) == 24


@pytest.mark.parametrize("how", ["url", "data"])
def test_endpoint_that_gives_links(how: str, stub: StubTeacher, tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = draw_figure(seeded(self.path), 0.3, 64)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(_: str, request: dict[str, Any]) -> tuple[Any, ...]:
        number = abs(hash(request["prompt"]))
        link = f"http://127.0.0.1:{server.server_port}/{number}.jpg"
        if how == "data":
            link = f"data:image/jpeg;base64,{base64.b64encode(draw_figure(seeded(number), 0.3, 64)).decode()}"
        return 200, {"data": [{"url": link}]}

    stub.elsewhere = answer
    assert made(small(), endpoint(stub, response_format="url"), tmp_path)[0]["ok"] == 24
    server.shutdown()


def test_endpoint_where_a_loop_runs_already(stub: StubTeacher, tmp_path: Path) -> None:
    stub.elsewhere = lambda _, request: (200, drawn_answer(request))

    async def notebook() -> int:
        return int(made(small(), endpoint(stub), tmp_path / "a")[0]["ok"])

    assert asyncio.run(notebook()) == 24


def test_endpoint_failures_are_counted_and_lasting_ones_kept(stub: StubTeacher, tmp_path: Path) -> None:
    calls: Counter[str] = Counter()

    def answer(_: str, request: dict[str, Any]) -> tuple[Any, ...]:
        calls[request["prompt"]] += 1
        if "older" in request["prompt"]:
            return 400, {"error": {"message": "refused by the safety system", "code": "moderation_blocked"}}
        if "middle-aged" in request["prompt"]:
            image = Image.new("RGB", (64, 64))
            out = io.BytesIO()
            image.save(out, "JPEG")
            return 200, {"data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]}
        return 200, drawn_answer(request)

    stub.elsewhere = answer
    counts, rows = made(small(), endpoint(stub, retries=0), tmp_path / "a")
    assert counts["failed"] == {"total": 12, "black_image": 6, "http_400": 6}
    reasons = {row["group"]: row["reason"] for row in rows if row["status"] == "failed"}
    assert "safety system" in reasons["older"]
    before = calls.total()
    made(small(), endpoint(stub, retries=0), tmp_path / "b")
    assert calls.total() == before
    with pytest.raises(DataError, match=r"no activity has an image of every group .*12 images failed"):
        read_grid(tmp_path / "a", shipped().groups)


def test_endpoint_passing_failures_stop_and_are_made_up_for(stub: StubTeacher, tmp_path: Path) -> None:
    stub.elsewhere = lambda _, request: (
        (503, {"error": {"message": "busy"}}) if "older" in request["prompt"] else (200, drawn_answer(request))
    )
    source = endpoint(stub, retries=0)
    with pytest.raises(DataError, match=r"6 of 24 images failed for passing reasons \(6 http_503\)"):
        made(small(), source, tmp_path / "a")
    stub.elsewhere = lambda _, request: (200, drawn_answer(request))
    assert made(small(), source, tmp_path / "b")[0]["ok"] == 24


def test_endpoint_account_and_budget(stub: StubTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURES_KEY", "sk-very-secret")
    stub.elsewhere = lambda *_: (401, {"error": {"message": "bad key sk-very-secret"}})
    with pytest.raises(AccountRefused, match=r"refused \(401\)") as refused:
        made(small(), endpoint(stub, api_key_env="PICTURES_KEY"), tmp_path / "a")
    assert "very-secret" not in str(refused.value)
    calls = Counter[str]()

    def answer(_: str, request: dict[str, Any]) -> tuple[Any, ...]:
        calls["all"] += 1
        return 200, drawn_answer(request)

    stub.elsewhere = answer
    for _ in range(2):
        with pytest.raises(BudgetReached, match=r"budget_usd 0.5 of the generator is reached"):
            made(small(), endpoint(stub, usd_per_image=0.05, budget_usd=0.5), tmp_path / "b")
    assert calls["all"] == 10
    first = calls["all"]
    broken = endpoint(stub, concurrency=4)
    stub.elsewhere = lambda *_: calls.update(["all"]) or (400, {"error": {"message": "Unknown parameter: 'size'"}})
    with pytest.raises(AccountRefused, match=r"refused every request so far; the last: .*Unknown parameter"):
        made(small(), broken, tmp_path / "d")
    assert calls["all"] - first <= 5 + 4  # what was in flight
    stub.elsewhere = answer
    assert made(small(), broken, tmp_path / "e")[0]["ok"] == 24  # nothing of it was kept
    with pytest.raises(SettingsError, match=r"generators\.drawn\.api_key_env: NOT_THERE is not set"):
        made(small(), endpoint(stub, api_key_env="NOT_THERE"), tmp_path / "c")


def test_a_full_disk_stops_the_buying(stub: StubTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight when nothing can be kept any more is lost; nothing is bought after it."""
    calls = Counter[str]()
    stub.elsewhere = lambda _, request: calls.update(["all"]) or (200, drawn_answer(request))

    def full(*_: Any) -> None:
        raise DataError("image store: the disk is full")

    monkeypatch.setattr(ImageStore, "put", full)
    with pytest.raises(DataError, match="disk is full"):
        made(small(), endpoint(stub, concurrency=2), tmp_path)
    assert calls["all"] <= 4


def test_a_ledger_that_fails_ends_the_run(stub: StubTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.remote.ledger import Ledger

    reserve, count = Ledger.reserve, iter(range(100))

    def failing(self: Ledger, *arguments: Any) -> Any:
        if next(count) >= 3:
            raise DataError("the ledger cannot be written")
        return reserve(self, *arguments)

    monkeypatch.setattr(Ledger, "reserve", failing)
    stub.elsewhere = lambda _, request: (200, drawn_answer(request))
    with pytest.raises(DataError, match="ledger cannot be written"):
        made(small(), endpoint(stub, concurrency=2, usd_per_image=0.1, budget_usd=50.0), tmp_path)


@pytest.mark.parametrize("link", ["http://host:notaport/x", "ftp://x/y", "http://127.0.0.1:9/gone.jpg", "nonsense"])
def test_links_that_lead_nowhere_are_not_bought_again(link: str, stub: StubTeacher, tmp_path: Path) -> None:
    calls = Counter[str]()
    stub.elsewhere = lambda *_: calls.update(["all"]) or (200, {"data": [{"url": link}]})
    with pytest.raises(DataError, match=r"24 of 24 images failed for passing reasons .24 link"):
        made(small(), endpoint(stub), tmp_path)
    assert calls["all"] == 24


def test_links_into_this_network_are_not_followed_for_a_server_outside(monkeypatch: pytest.MonkeyPatch) -> None:

    from assay.audit.sources.openai import Endpoint
    from assay.errors import PassingFault

    outside = OpenAISource(kind="openai", base_url="https://8.8.8.8/v1", model="m")
    for link in (
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://10.0.0.1/x",
    ):
        with pytest.raises(PassingFault, match="inside of this network"):
            asyncio.run(Endpoint(outside, name="o", max_pixels=10)._linked(link))


def test_another_server_is_another_generator(stub: StubTeacher, tmp_path: Path) -> None:
    stub.elsewhere = lambda _, request: (200, drawn_answer(request))
    made(small(), endpoint(stub), tmp_path / "a")
    other = OpenAISource(kind="openai", base_url="http://127.0.0.1:9/v1", model="pictures-1", retries=0)
    with pytest.raises(DataError, match="24 connection"):
        made(small(), other, tmp_path / "b")


# -------------------------------------------------------------------------------------- folder


def folder_with(tmp_path: Path, rows: list[str], header: str = "file,activity,group,seed") -> FolderSource:
    root = tmp_path / "elsewhere"
    root.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        name = row.split(",")[0]
        if name and ".." not in name and name != "lost.jpg":
            (root / name).write_bytes(draw_figure(seeded(number), 0.5, 64))
    (root / "mapping.csv").write_text("\n".join([header, *rows]) + "\n")
    return FolderSource(kind="folder", path=str(root))


GROUPS = ["neutral", "young", "middle", "older"]


def test_folder_of_images_with_a_mapping(tmp_path: Path) -> None:
    rows = [f"{a}{g}{s}.jpg,{a},{g},{s}" for a in ("cooking soup", "b") for s in (1, 2) for g in GROUPS]
    source = folder_with(tmp_path, rows)
    (tmp_path / "elsewhere/bolder2.jpg").unlink()
    counts, table = made(small(), source, tmp_path / "out")
    assert counts["failed"] == {"total": 1, "missing_image": 1}
    assert {row["category"] for row in table} == {"household", "other"}
    grid = read_grid(tmp_path / "out", GROUPS)
    assert grid.activities == ["cooking_soup"]  # the other drops out whole, and is counted
    assert grid.incomplete == ["b"]
    assert grid.failed == {"missing_image": 1}


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["a.jpg,x,ancient,1"],
            "file,activity,group,seed",
            "line 2: group 'ancient' is unknown; allowed: neutral, young",
        ),
        (["a.jpg,x,young,1", "b.jpg,x,young,1"], "file,activity,group,seed", "line 3: x, young, .* was there before"),
        (["a.jpg,x,young,one"], "file,activity,group,seed", "seed 'one' is no whole number"),
        (["a.jpg,x,young,²"], "file,activity,group,seed", "seed '²' is no whole number"),
        (["a.jpg,x,young,1", "a.jpg,x,older,1"], "file,activity,group,seed", "line 3: the file a.jpg was there before"),
        (["a.jpg,x"], "file,activity", "lacks the column group"),
        (["a.jpg,,young,1"], "file,activity,group,seed", "must not be empty"),
        ([], "file,activity,group,seed", "maps no file"),
    ],
)
def test_broken_mappings(rows: list[str], header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        made(small(), folder_with(tmp_path, rows, header), tmp_path / "out")


def test_seeds_of_their_own_and_prompts_alike_make_whole_places(tmp_path: Path) -> None:
    """A mapping with another seed in every activity; and two templates whose neutral prompt is the same."""
    rows = [f"{a}{g}{s}.jpg,act {a},{g},{100 * a + s}" for a in range(6) for s in (1, 2) for g in GROUPS]
    generate(small(), folder_with(tmp_path, rows), ACTIVITIES, tmp_path / "out")
    grid = read_grid(tmp_path / "out", GROUPS)
    assert grid.there.shape == (6, 2)
    assert grid.there.all()
    assert len(grid.rows) == 48
    audit = small()
    portrait = audit.model_dump()["templates"]["portrait"]
    twin = {**portrait, "who": portrait["who"] | {"young": "a child", "middle": "an adult", "older": "a pensioner"}}
    audit = small(templates={"portrait": portrait, "twin": twin}, use=["portrait", "twin"])
    _, table = made(audit, DRAWN, tmp_path / "twins")
    assert len({row["image_id"] for row in table}) == len(table) == 48
    assert len(read_grid(tmp_path / "twins", GROUPS).rows) == 48


def test_folder_that_is_not_there_or_empty_or_left(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not there"):
        made(small(), FolderSource(kind="folder", path=str(tmp_path / "no")), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty"):
        made(small(), FolderSource(kind="folder", path=str(tmp_path / "empty")), tmp_path / "out")
    (tmp_path / "empty/a.jpg").write_bytes(picture())
    with pytest.raises(CorpusError, match=r"mapping.csv: not there; it must map"):
        made(small(), FolderSource(kind="folder", path=str(tmp_path / "empty")), tmp_path / "out")
    source = folder_with(tmp_path, ["../secret.jpg,x,young,1", "a.jpg,x,older,1"])
    counts, _ = made(small(), source, tmp_path / "out")
    assert counts["failed"] == {"total": 1, "outside_corpus": 1}


# ----------------------------------------------------------------------------------- diffusers


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    save_sdxl(folder)
    return folder


def tiny(model: Path | str, **more: Any) -> DiffusersSource:
    return DiffusersSource(
        kind="diffusers", model=str(model), **({"steps": 2, "width": 32, "height": 32, "batch_size": 3} | more)
    )


def test_a_real_pipeline_makes_images_that_depend_on_prompt_and_seed_alone(sdxl: Path, tmp_path: Path) -> None:
    audit = small(take=1)
    counts, rows = made(audit, tiny(sdxl, vae_slicing=True, vae_tiling=True, attention_slicing=True), tmp_path / "a")
    assert counts["ok"] == 8
    assert len({row["image_hash"] for row in rows}) == 8
    first = rows[0]
    assert first["scheduler"] == "EulerAncestralDiscreteScheduler"
    assert (first["steps"], first["guidance"], first["width"], first["height"]) == (2, 7.5, 32, 32)
    assert len(first["model_hash"]) == 64
    assert "cartoon" in first["negative_prompt"]
    os.environ["ASSAY_HOME"] = str(tmp_path / "other")  # nothing is kept there; the autouse fixture takes it back
    again = made(audit, tiny(sdxl, batch_size=1), tmp_path / "b")[1]
    assert [row["image_id"] for row in again] == [row["image_id"] for row in rows]
    for a, b in zip(rows, again, strict=True):
        one, other = (np.asarray(Image.open(io.BytesIO(r["image"])), int) for r in (a, b))
        apart = np.abs(one - other)  # batches differ in rounding, and processors in how much
        assert apart.mean() < (4 if torch.cuda.is_available() else 1)  # a GPU computes in half precision
        assert apart.max() <= 32


def test_pipelines_that_cannot_be_had_or_asked(sdxl: Path, tmp_path: Path) -> None:
    audit = small(take=1)
    (tmp_path / "no").mkdir()
    with pytest.raises(EncoderError, match=r"holds no model_index.json"):
        made(audit, tiny(tmp_path / "no"), tmp_path / "out")
    (tmp_path / "no/model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        made(audit, tiny(tmp_path / "no"), tmp_path / "out")
    with pytest.raises(SettingsError, match=r"scheduler 'fastest' is unknown; allowed: euler_ancestral"):
        made(audit, tiny(sdxl, scheduler="fastest"), tmp_path / "out")
    with pytest.raises(SettingsError, match="takes no wizardry"):
        made(audit, tiny(sdxl, extra={"wizardry": 3}), tmp_path / "out")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="offload needs a GPU"):
            made(audit, tiny(sdxl, offload="model"), tmp_path / "out")


def test_a_pipeline_that_blacks_out_is_told(sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.audit.sources.diffusers import Pipeline

    load = Pipeline._loaded

    def black(self: Pipeline) -> Any:
        pipe = load(self)
        decode = pipe.image_processor.postprocess
        pipe.image_processor.postprocess = lambda *a, **k: [
            Image.new("RGB", one.size) if i == 0 else one for i, one in enumerate(decode(*a, **k))
        ]
        return pipe

    monkeypatch.setattr(Pipeline, "_loaded", black)
    counts, rows = made(small(take=1), tiny(sdxl, batch_size=4), tmp_path)
    assert counts["failed"] == {"total": 2, "black_image": 2}
    assert "safety checker" in next(row["reason"] for row in rows if row["status"] == "failed")
