"""Scoring: one post, a corpus, a kill in between; every post of ingest gets a row."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from assay import cli
from assay.config import Infer, ScoreTarget, Student
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.encode.extract import Extractor
from assay.encode.graph import has_bf16
from assay.errors import DataError
from assay.images import MAX_PIXELS
from assay.machine import read_figures
from assay.posts import beside, read, shards, span, write_table
from assay.scoring.corpus import infer
from assay.scoring.predict import Predictor
from assay.scoring.shards import Place, plan
from assay.splits import SCHEMA
from assay.student.model import StudentModel
from assay.student.trained import Trained
from tests.checkpoints import tiny_student
from tests.conftest import ROOT, picture
from tests.test_encoders import PACKAGED

TARGET = ScoreTarget(kind="score", bands=[3.5], band_names=["low", "high"])


def untrained(student: Student, folder: Path) -> Path:
    """A student that learnt nothing."""
    facts = Extractor(student, image_px=256).facts
    made = StudentModel(student, {"t": TARGET}, facts["image"]["dim"], facts["text"]["dim"])
    sizes = {"image_px": 256, "max_images": 4}
    Trained(made, "t", student, {"t": TARGET}, facts, sizes, {}, {}, {}).save(folder, "card")
    return folder


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """An untrained student with the packaged encoders."""
    return untrained(PACKAGED, tmp_path / "model")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One with tiny encoders, for what is not about what they see."""
    return untrained(tiny_student(tmp_path), tmp_path / "model")


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


def test_batches_do_not_change_a_prediction(packaged: Path) -> None:
    predictor = Predictor.load(packaged)
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


def test_large_images_are_seen_as_the_sample_packed_them(packaged: Path) -> None:
    """Training sees packed images; inference on the original must not see another picture."""
    from assay.images import pack

    rng = np.random.default_rng(0)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((1200, 900)).save(out, "JPEG", quality=95)
    predictor = Predictor.load(packaged)
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


def score(model: Path, corpus: Path, drawn: Path, out: Path, **settings: Any) -> dict[str, Any]:
    found, log = infer(
        model,
        corpus,
        drawn,
        corpus.parent / "split.parquet",
        {"t": out},
        settings=Infer(batch_size=32, shard_posts=60, **settings),
        max_pixels=MAX_PIXELS,
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

    calls: list[int] = []
    real = module.score_shard

    def killed(predictor: Any, place: Any, shard: Any, tick: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(shard.number)
        return real(predictor, place, shard, tick)

    monkeypatch.setattr(module, "score_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        score(model, corpus, drawn, tmp_path / "resumed")
    assert len(list((home / "inference").glob("*.parquet"))) == 2
    again: list[int] = []

    def counted(predictor: Any, place: Any, shard: Any, tick: Any) -> Any:
        again.append(shard.number)
        return real(predictor, place, shard, tick)

    monkeypatch.setattr(module, "score_shard", counted)
    resumed = score(model, corpus, drawn, tmp_path / "resumed")
    figures = read_figures(tmp_path / "machine", "infer")
    assert figures["posts"] == 176 == 296 - 120  # this run scored the rest alone
    assert {"read", "answer", "write"} <= set(figures["by_step"])
    assert sum(one["share"] for one in figures["by_step"].values()) == pytest.approx(1, abs=0.01)
    assert figures["bound_by"] in figures["by_step"]
    assert resumed == whole
    assert again == [2, 3, 4]
    assert [p.read_bytes() for p in shards(tmp_path / "resumed")] == [
        p.read_bytes() for p in shards(tmp_path / "whole")
    ]
    again.clear()
    grown = read(corpus)  # one post more, another picture, another caption: the shards of these alone
    texts = grown["text"].to_pylist()
    texts[70] += " and more"
    grown = grown.set_column(grown.schema.get_field_index("text"), "text", pa.array(texts))
    last = grown.slice(0, 1).set_column(0, "post_id", pa.array(["new"]))
    shutil.rmtree(corpus)
    write_table(pa.concat_tables([grown.cast(last.schema), last]), corpus / "part-00000.parquet")
    picture_of_3 = drawn / next(path for path in grown["images"].to_pylist()[190] if (drawn / path).is_file())
    os.utime(picture_of_3)
    assert score(model, corpus, drawn, tmp_path / "grown")["posts"] == 297
    assert again == [1, 3, 4]


def test_rows_of_a_folder_are_read_across_shards_and_row_groups(tmp_path: Path) -> None:
    table = pa.table({"a": range(10_000), "b": ["x"] * 10_000})
    for number, (start, rows) in enumerate([(0, 9000), (9000, 0), (9000, 1000)]):
        write_table(table.slice(start, rows), tmp_path / f"part-{number:05d}.parquet")
    for start, stop in [(0, 1), (4095, 4097), (8191, 8193), (8999, 9001), (9999, 10_000), (0, 10_000), (5000, 5000)]:
        found = span(tmp_path, start, stop, ["a"])
        assert found.column_names == ["a"]
        assert found["a"].to_pylist() == list(range(start, stop))


def test_pictures_that_vanish_meanwhile_are_not_kept_as_missing(
    model: Path, corpus: Path, drawn: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.scoring import corpus as module

    disk = shutil.copytree(drawn, tmp_path / "disk")
    real = module.score_shard

    def gone(predictor: Any, place: Any, shard: Any, tick: Any) -> Any:
        if shard.number == 1:
            disk.rename(tmp_path / "unmounted")
        return real(predictor, place, shard, tick)

    monkeypatch.setattr(module, "score_shard", gone)
    with pytest.raises(DataError, match="are not those of the start of the run"):
        score(model, corpus, disk, tmp_path / "out")
    assert len(list((home / "inference").glob("*.parquet"))) == 1
    (tmp_path / "unmounted").rename(disk)
    monkeypatch.setattr(module, "score_shard", real)
    assert score(model, corpus, disk, tmp_path / "out")["posts"] == 296


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
def test_a_corpus_is_scored_in_bf16_and_shards_of_both_stand_apart(
    packaged: Path,
    corpus: Path,
    drawn: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in shards(corpus)[1:]:  # sixty posts will do
        path.unlink()
    single = score(packaged, corpus, drawn, tmp_path / "f32")
    shards_kept = len(list((home / "inference").iterdir()))
    assert score(packaged, corpus, drawn, tmp_path / "torch", precision="bf16") == single
    assert "not computed in bf16 here, but in f32" not in capsys.readouterr().err  # every shard was there
    monkeypatch.setenv("ASSAY_RUNTIME", "openvino")
    assert score(packaged, corpus, drawn, tmp_path / "bf16", precision="bf16") == single
    assert len(list((home / "inference").iterdir())) == 2 * shards_kept
    values = [read(tmp_path / name, ["value"])["value"].to_pylist() for name in ("f32", "bf16")]
    apart = [abs(a - b) for a, b in zip(*values, strict=True) if a is not None]
    assert 0 < max(apart) < 0.5


def test_a_month_old_shard_is_forgotten(model: Path, corpus: Path, drawn: Path, tmp_path: Path, home: Path) -> None:
    (home / "inference").mkdir(parents=True)
    write_table(pq.read_table(shards(corpus)[0], columns=["post_id"]), home / "inference" / "x.parquet")
    os.utime(home / "inference" / "x.parquet", (1, 1))
    score(model, corpus, drawn, tmp_path / "out")
    assert not (home / "inference" / "x.parquet").exists()


def test_keys_of_shards_depend_on_what_their_predictions_do(corpus: Path, drawn: Path) -> None:
    ids = read(corpus, ["post_id"])["post_id"].to_pylist()

    def keys(stem: str = "model", learnt: set[str] | None = None, fold_of: dict[str, int] | None = None) -> list[str]:
        place = Place(corpus, drawn, 32, stem)
        found = list(plan(place, shard_posts=100, learnt=learnt or set(), fold_of=fold_of or {}))
        assert [(one.start, one.stop) for one in found] == [(0, 100), (100, 200), (200, 296)]
        return [one.key for one in found]

    def others(found: list[str]) -> list[int]:
        return [number for number, (a, b) in enumerate(zip(keys(), found, strict=True)) if a != b]

    assert others(keys()) == []
    assert others(keys("another model")) == [0, 1, 2]
    assert others(keys(learnt={ids[0], ids[250]})) == [0, 2]
    assert others(keys(fold_of={ids[150]: 1})) == [1]


def test_features_are_bounded_and_a_full_disk_is_told_before_the_start(
    model: Path,
    corpus: Path,
    drawn: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = corpus.parent / "split.parquet"

    def run(cache: float | None) -> None:
        infer(model, corpus, drawn, split, {"t": tmp_path / "out"}, settings=Infer(cache=cache), max_pixels=MAX_PIXELS)

    run(0)
    assert all(path.stat().st_size < 50_000 for path in (home / "features").glob("*.sqlite")), "an empty table each"
    for path in (home / "inference").iterdir():
        path.unlink()
    run(1e-6)
    assert all(path.stat().st_size < 50_000 for path in (home / "features").glob("*.sqlite"))
    for path in (home / "inference").iterdir():
        path.unlink()
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("assay.scoring.corpus.shutil.disk_usage", lambda _: real._replace(free=1000))
    with pytest.raises(DataError, match=r"has 0.0 GiB free; set infer.cache to fewer GiB \(0: keep no more"):
        run(None)


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
    assert "give --text, --image, a table, a folder or -" in capsys.readouterr().err


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
