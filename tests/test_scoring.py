"""Scoring: one post, a corpus, a kill in between; every post of ingest gets a row."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from assay import cli
from assay.config import ScoreTarget
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.encode.features import Extractor
from assay.errors import DataError
from assay.images import MAX_PIXELS
from assay.machine import read_figures
from assay.posts import beside, read, shards, write_table
from assay.scoring.corpus import infer
from assay.scoring.predict import Predictor
from assay.splits import SCHEMA
from assay.student.model import StudentModel, Trained
from tests.conftest import ROOT, picture
from tests.test_encoders import PACKAGED

TARGET = ScoreTarget(kind="score", bands=[3.5], band_names=["low", "high"])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained student with the packaged encoders."""
    facts = Extractor(PACKAGED, image_px=256).facts
    made = StudentModel(PACKAGED, {"t": TARGET}, facts["image"]["dim"], facts["text"]["dim"])
    Trained(made, "t", PACKAGED, {"t": TARGET}, facts, {"image_px": 256, "max_images": 4}, {}, {}, {}).save(
        tmp_path / "model", "card"
    )
    return tmp_path / "model"


def test_one_post_and_its_status(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    (tmp_path / "a.jpg").write_bytes(picture())
    both = predictor.predict(text="a caption", image=tmp_path / "a.jpg")
    assert both.status == "ok"
    assert isinstance(both.value, float)
    assert 0 <= both.value <= 10
    assert predictor.predict(text="a caption").status == "text_only"
    assert predictor.predict(image=picture()).status == "image_only"
    nothing = predictor.predict(text=" \u200b ")
    assert (nothing.status, nothing.value) == ("failed", None)
    assert "no image and no text" in str(nothing.reason)
    broken = predictor.predict(text="a caption", image=b"nonsense")
    assert broken.status == "text_only"
    assert "undecodable_image" in str(broken.reason)


def test_batches_do_not_change_a_prediction(model: Path) -> None:
    predictor = Predictor.load(model)
    posts: list[tuple[str, list[bytes]]] = [
        (f"caption {i} " * (1 + i % 9), [picture((i, 9, 9))] if i % 3 else []) for i in range(40)
    ]
    together = [p.value for p in predictor.predict_many(posts)]
    alone = [predictor.predict_many([post])[0].value for post in posts]
    assert together == pytest.approx(alone, abs=1e-2)


@pytest.mark.parametrize("cached", [True, False])
def test_threads_share_a_predictor(cached: bool, model: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from assay import Predictor as Public

    assert Public is Predictor
    predictor = Public.load(model, cached=cached)

    def ask(i: int) -> Any:
        return predictor.predict(text=f"day {i}", image=picture(colour=(i, 90, 200))).value

    alone = [ask(i) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        both = pool.map(ask, range(12))
        assert list(both) == pytest.approx(alone, abs=1e-3)


def test_large_images_are_seen_as_the_sample_packed_them(model: Path) -> None:
    """Training sees packed images; inference on the original must not see another picture."""
    from assay.images import pack

    rng = np.random.default_rng(0)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((1200, 900)).save(out, "JPEG", quality=95)
    predictor = Predictor.load(model)
    packed = pack(out.getvalue(), longest=256, max_pixels=MAX_PIXELS).data
    assert predictor.predict(image=out.getvalue()).value == predictor.predict(image=packed).value


@pytest.fixture
def corpus(drawn: Path, tmp_path: Path) -> Path:
    ingest(
        Instagram(drawn),
        Rules("d", b"k", "header", shard_posts=60),
        posts=tmp_path / "posts",
        problems=tmp_path / "q.parquet",
    )
    ids = read(tmp_path / "posts", ["post_id"])["post_id"].to_pylist()
    table = {"post_id": ids[:20], "split": ["train"] * 15 + ["test"] * 5, "group": list(range(20))}
    table["held_out_p"] = [0.3] * 20
    write_table(pa.table(table, schema=SCHEMA), tmp_path / "split.parquet")
    return tmp_path / "posts"


def score(model: Path, corpus: Path, drawn: Path, out: Path) -> dict[str, Any]:
    found, log = infer(
        model,
        corpus,
        drawn,
        corpus.parent / "split.parquet",
        {"t": out},
        batch_size=32,
        max_pixels=MAX_PIXELS,
        manifest=corpus.parent / "split.parquet",
    )
    log.write(out.parent / "machine", None, {})
    return found


def test_every_post_gets_a_row_and_a_kill_costs_no_finished_shard(
    model: Path, corpus: Path, drawn: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(model, corpus, drawn, tmp_path / "whole")
    rows = read(tmp_path / "whole").to_pylist()
    assert [r["post_id"] for r in rows] == read(corpus, ["post_id"])["post_id"].to_pylist()
    assert whole["posts"] == len(rows) == sum(whole["status"].values())
    assert sum(r["in_train"] for r in rows) == 15 == whole["in_train"]
    assert all((r["value"] is None) == (r["status"] == "failed") for r in rows)
    assert any("undecodable_image" in (r["reason"] or "") and r["status"] == "text_only" for r in rows)
    for path in (home / "inference").iterdir():
        path.unlink()

    from assay.scoring import corpus as module

    calls: list[Path] = []
    real = module._score_shard

    def killed(predictor: Any, source: Path, *rest: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(source)
        return real(predictor, source, *rest)

    monkeypatch.setattr(module, "_score_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        score(model, corpus, drawn, tmp_path / "resumed")
    assert len(list((home / "inference").glob("*.parquet"))) == 2
    again: list[Path] = []

    def counted(predictor: Any, source: Path, *rest: Any) -> Any:
        again.append(source)
        return real(predictor, source, *rest)

    monkeypatch.setattr(module, "_score_shard", counted)
    resumed = score(model, corpus, drawn, tmp_path / "resumed")
    assert read_figures(tmp_path / "machine", "infer")["posts"] == 176 == 296 - 120  # this run scored the rest alone
    assert resumed == whole
    assert again == shards(corpus)[2:]
    assert [p.read_bytes() for p in shards(tmp_path / "resumed")] == [
        p.read_bytes() for p in shards(tmp_path / "whole")
    ]


def test_another_model_does_not_take_over_finished_shards(
    model: Path, corpus: Path, drawn: Path, tmp_path: Path, home: Path
) -> None:
    from assay.scoring import corpus as module

    (home / "inference").mkdir(parents=True)
    write_table(pq.read_table(shards(corpus)[0], columns=["post_id"]), home / "inference" / "x.parquet")
    os.utime(home / "inference" / "x.parquet", (1, 1))
    before = module._key("model a", shards(corpus)[0])
    assert before != module._key("model b", shards(corpus)[0])
    score(model, corpus, drawn, tmp_path / "out")
    assert not (home / "inference" / "x.parquet").exists()  # a month old: forgotten


def test_command_line_predicts_a_post_and_a_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "t.csv").write_text("id,text,image\n1,hello,a.jpg\n2,,none.jpg\n3,only text,\n")

    def run(*arguments: str) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["assay", "predict", "--model", str(model), *arguments])
        cli.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    (one,) = run("--text", "hello", "--image", str(tmp_path / "a.jpg"))
    table = run("--table", str(tmp_path / "t.csv"), "--images-root", str(tmp_path))
    assert [row["status"] for row in table] == ["ok", "failed", "text_only"]
    assert table[0]["value"] == pytest.approx(one["value"], abs=1e-3)
    assert "missing_image" in table[1]["reason"]
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    assert "give --text, --image or --table" in capsys.readouterr().err


def test_command_line_says_what_is_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(
        (ROOT / "params.yaml").read_text().replace("    kind: demo", "    kind: mvsa")
    )
    monkeypatch.setattr("sys.argv", ["assay", "check", "--params", str(tmp_path / "params.yaml")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "corpora.demo: it has no manifest yet; add demo to scan" in capsys.readouterr().err
    for command, wanted in ((["doctor"], "kept outside the repository"), (["check"], "in order"), (["answers"], "")):
        monkeypatch.setattr("sys.argv", ["assay", *command])
        cli.main()
        captured = capsys.readouterr()
        assert wanted in captured.out + captured.err


def test_posts_are_found_by_their_ids_and_never_by_position() -> None:
    posts = pa.table({"post_id": ["c", "a", "b"], "brands": [["C"], ["A"], []]})
    predictions = pa.table({"post_id": ["a", "b", "c"], "value": [1.0, 2.0, 3.0]})
    assert beside(predictions, posts)["brands"].to_pylist() == [["A"], [], ["C"]]
    with pytest.raises(DataError, match="1 of 2 posts, such as x, are not among the posts of the corpus"):
        beside(pa.table({"post_id": ["a", "x"]}), posts)
