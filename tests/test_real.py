"""The pipeline on real posts: MVSA-Single with its own labels, through every stage."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.config import Columns, LabelsTarget, Sample, Split
from assay.corpora.ingest import ingest
from assay.corpora.mapper import Rules
from assay.corpora.mvsa import Mvsa
from assay.corpora.table import FILE, Table
from assay.errors import RowError
from assay.images import MAX_PIXELS
from assay.posts import read
from assay.sampling import write_sample
from assay.splits import leak_figures, near_images, near_texts, split
from assay.teacher.rubric import gold_value
from assay.text import decode
from tests.conftest import Repository

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_mvsa_texts_are_not_mojibake(real_data: Path) -> None:
    folder = real_data / "mvsa_single"
    layout = Mvsa(folder)
    posts = [layout.parse(row) for row in layout.rows() if not isinstance(row.data, RowError)]
    assert len(posts) == 4000
    texts = [decode(post.text) for post in posts if isinstance(post.text, bytes)]
    assert len(texts) == 4000
    assert sum(not text.isascii() for text in texts) == 945
    assert not [text for text in texts if "\ufffd" in text or "â€" in text]
    assert {post.gold["sentiment"] for post in posts} == {"positive", "negative", "neutral"}


def part_of_mvsa(whole: Path, folder: Path, posts: int) -> Path:
    """So many posts of MVSA, all that are there more than once, and the first of the others."""
    head, *lines = (whole / "labelResultAll.txt").read_text().splitlines()
    alike: dict[bytes, list[str]] = {}
    for line in lines:
        name = line.split("\t")[0]
        both = [(whole / "data" / f"{name}.{kind}").read_bytes() for kind in ("txt", "jpg")]
        alike.setdefault(hashlib.sha256(b"".join(both)).digest(), []).append(line)
    kept = [line for group in sorted(alike.values(), key=lambda group: len(group) == 1) for line in group][:posts]
    (folder / "data").mkdir(parents=True)
    (folder / "labelResultAll.txt").write_text("\n".join([head, *kept]) + "\n")
    for line in kept:
        for kind in ("txt", "jpg"):
            name = f"{line.split(chr(9))[0]}.{kind}"
            shutil.copyfile(whole / "data" / name, folder / "data" / name)
    return folder


def test_sentiment_on_mvsa_through_every_stage(real_data: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "work", tmp_path / "home")

    def on_mvsa(raw: dict[str, Any]) -> None:
        raw["scan"] = ["mvsa"]
        path = str(part_of_mvsa(real_data / "mvsa_single", tmp_path / "mvsa", 900))
        raw["corpora"] = {"mvsa": {"kind": "mvsa", "path": path, "check_images": "full", "shard_posts": 1000}}
        task = raw["tasks"]["sentiment"]
        task |= {"corpus": "mvsa", "annotate": {"from": "column", "column": "sentiment"}}
        task["sample"] |= {"posts": 600}
        raw["students"]["packaged"]["image"]["views"] = ["crop"]
        raw["tasks"] = {"sentiment": task}
        raw["audits"] = {}

    repository.params(on_mvsa)
    repository.commit("sentiment on MVSA")
    ran = repository.repro()
    stages = "scan ingest choose sample annotate split embed train evaluate infer report"
    assert [name.split("@")[0] for name in ran if name != "demo"] == stages.split()
    assert repository.json("metrics/corpora/mvsa.json")["posts"] == 900
    posts = read(repository.folder / "data/corpora/mvsa/posts")
    assert sum(value is not None for value in posts["duplicate_of"].to_pylist()) >= 10
    sample = read(repository.folder / "data/sample/sentiment", ["post_id", "text", "text_sig", "image_sig"]).to_pylist()
    where = read_split(repository.folder / "data/split/sentiment.parquet")
    pairs = [*near_images([row["image_sig"] for row in sample], 0), *near_texts(sample, 0.999)]
    assert len(pairs) > 10
    for a, b in pairs:
        assert where[sample[a]["post_id"]] == where[sample[b]["post_id"]]
    found = repository.json("metrics/sentiment/evaluate.json")
    assert found["f1_weighted"]["value"] > found["baselines"]["constant"]["f1_weighted"]["high"]
    predictions = read(repository.folder / "data/predictions/sentiment")
    assert predictions.num_rows == 900
    assert set(predictions["status"].to_pylist()) == {"ok"}
    assert [name for name in repository.repro() if not name.startswith("scan")] == []


def test_memes_keep_their_official_split(real_data: Path, tmp_path: Path) -> None:
    """22 labels, JPEG named .png, splits by file; the two test memes that leak are reported, not moved."""
    folder = real_data / "propaganda_memes"
    columns = Columns(split=FILE, gold={"labels": "labels"})
    layout = Table(folder, None, columns)
    counts = ingest(layout, Rules("m", b"k", "header"), posts=tmp_path / "posts", problems=tmp_path / "p.parquet")
    assert counts["posts"] == 950
    settings = Sample(design="all")
    write_sample(tmp_path / "posts", folder, tmp_path / "sample", settings=settings, max_pixels=MAX_PIXELS)
    posts = read(tmp_path / "sample", ["post_id", "text", "author", "text_sig", "image_sig", "split", "gold_labels"])
    rows = posts.to_pylist()
    names = sorted({name for row in rows for name in json.loads(row["gold_labels"])})
    assert len(names) == 22
    target = LabelsTarget(kind="labels", names=names)
    labels = [
        {"post_id": row["post_id"], "status": "ok", "value": gold_value(row["gold_labels"], target)} for row in rows
    ]
    found = leak_figures(split(rows, labels, Split(), target))
    assert found["posts"] == {"train": 687, "val": 63, "calibration": 0, "test": 200}
    assert 0 < found["leaking_test_posts"] < 10


def read_split(path: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    return {row["post_id"]: row["split"] for row in pq.read_table(path).to_pylist()}
