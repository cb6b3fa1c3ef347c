"""Scoring on Ray: the rows of the local engine, a worker that is killed, and what cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from assay.corpora import ingest as ingesting
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.errors import DataError, SettingsError
from assay.machine import read_figures
from assay.posts import shards
from assay.scoring import cluster
from assay.scoring import corpus as module
from assay.scoring.shards import Shard
from tests.test_scoring import corpus, model, score  # noqa: F401 - fixtures

pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # sockets need short paths


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a cluster that stands: what only asks it need not start one each time."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", "/tmp")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield cluster.address
        cluster.shutdown()


@pytest.mark.slow
def test_the_rows_are_those_of_one_machine_though_a_worker_is_killed(
    model: Path,  # noqa: F811
    corpus: Path,  # noqa: F811
    drawn: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = score(model, corpus, drawn, tmp_path / "whole")
    for path in (home / "inference").iterdir():
        path.unlink()
    killed: list[int] = []
    keep = module._Finished.keep

    def kept(self: Any, shard: Shard, scored: dict[str, Any]) -> None:
        keep(self, shard, scored)
        if not killed:
            for process in psutil.Process().children(recursive=True):  # not those of tests beside this one
                if "ray::MapWorker" in " ".join(process.cmdline()):
                    killed.append(process.pid)
                    process.kill()

    monkeypatch.setattr(module._Finished, "keep", kept)
    assert score(model, corpus, drawn, tmp_path / "ray", engine="ray", cpus=1) == whole
    assert killed
    assert [p.read_bytes() for p in shards(tmp_path / "ray")] == [p.read_bytes() for p in shards(tmp_path / "whole")]
    figures = read_figures(tmp_path / "machine", "infer")
    assert figures["posts"] == 296
    assert {"read", "answer", "write"} <= set(figures["by_step"])
    score(model, corpus, drawn, tmp_path / "again", engine="ray", cpus=10_000)  # nothing to do: no cluster is asked


@pytest.mark.slow
def test_what_workers_refuse_and_what_does_not_fit_is_told_in_one_line(
    model: Path,  # noqa: F811
    corpus: Path,  # noqa: F811
    drawn: Path,
    tmp_path: Path,
    head: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head)
    with pytest.raises(
        SettingsError, match=r"infer\.gpus: 1 a worker, but no node of the cluster has .* 0 GPUs; ask for"
    ):
        score(model, corpus, drawn, tmp_path / "out", engine="ray", gpus=1)
    monkeypatch.setattr(cluster, "reach_digest", _differing(os.getpid(), cluster.reach_digest))
    with pytest.raises(DataError, match="this worker has another version of assay") as told:
        score(model, corpus, drawn, tmp_path / "out", engine="ray")
    assert "\n" not in str(told.value)


def _differing(driver: int, real: Any) -> Any:
    return lambda path: "another" if os.getpid() == driver else real(path)


def test_a_cluster_that_is_not_there(
    model: Path,  # noqa: F811
    corpus: Path,  # noqa: F811
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def unreachable(**given: Any) -> None:
        raise ConnectionError(f"ray cluster at {given['address']}\ncannot be found")

    monkeypatch.setattr(ray, "init", unreachable)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SettingsError, match=r"RAY_ADDRESS=127\.0\.0\.1:1: no Ray cluster that can be used .* unset it"):
        score(model, corpus, drawn, tmp_path / "out", engine="ray")


@pytest.mark.slow
def test_ingest_on_ray_writes_what_one_machine_writes(
    drawn: Path, tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head)
    monkeypatch.setattr(ingesting, "CHUNK", 40)
    written = []
    engines: list[Literal["local", "ray"]] = ["local", "ray"]
    for engine in engines:
        out = tmp_path / engine
        layout, rules = Instagram(drawn), Rules("d", b"k", "full", shard_posts=60)
        told = ingesting.ingest(layout, rules, posts=out / "posts", problems=out / "problems.parquet", engine=engine)
        written.append((told, [path.read_bytes() for path in [*shards(out / "posts"), out / "problems.parquet"]]))
    assert written[0] == written[1]
    real = ingesting._on_ray
    monkeypatch.setattr(ingesting, "_on_ray", lambda *given: real(*given[:3], [(str(tmp_path / "gone"), 1)]))
    with pytest.raises(DataError, match="gone is not there on this worker"):
        ingesting.ingest(layout, rules, posts=out / "posts", problems=out / "problems.parquet", engine="ray")
    monkeypatch.setattr(ingesting, "_on_ray", real)
    monkeypatch.setattr(ingesting, "reach_digest", lambda _: "another")
    with pytest.raises(DataError, match="this worker has another version of assay") as refused:
        ingesting.ingest(layout, rules, posts=out / "posts", problems=out / "problems.parquet", engine="ray")
    assert "\n" not in str(refused.value)
