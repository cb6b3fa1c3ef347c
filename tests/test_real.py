"""The pipeline on real posts: MVSA-Single with its own labels, through every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.corpora.mvsa import Mvsa
from assay.errors import RowError
from assay.posts import read
from assay.splits import near_images, near_texts
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


def test_sentiment_on_mvsa_through_every_stage(real_data: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "work", tmp_path / "home")

    def on_mvsa(raw: dict[str, Any]) -> None:
        raw["scan"] = ["mvsa"]
        path = str(real_data / "mvsa_single")
        raw["corpora"] = {"mvsa": {"kind": "mvsa", "path": path, "check_images": "full", "shard_posts": 1000}}
        task = raw["tasks"]["sentiment"]
        task |= {"corpus": "mvsa", "annotate": {"from": "column", "column": "sentiment"}}
        task["sample"] |= {"size": 1200}
        raw["tasks"] = {"sentiment": task}

    repository.params(on_mvsa)
    repository.commit("sentiment on MVSA")
    ran = repository.repro()
    assert [name.split("@")[0] for name in ran if name != "demo"] == [
        "scan",
        "ingest",
        "sample",
        "annotate",
        "split",
        "embed",
        "train",
        "evaluate",
        "infer",
        "report",
    ] or len(ran) == 11
    assert repository.json("metrics/corpora/mvsa.json")["posts"] == 4000
    posts = read(repository.folder / "data/corpora/mvsa/posts")
    assert sum(value is not None for value in posts["duplicate_of"].to_pylist()) >= 10
    sample = read(repository.folder / "data/sample/sentiment", ["post_id", "text", "text_sig", "image_sig"]).to_pylist()
    split = read_split(repository.folder / "data/split/sentiment.parquet")
    pairs = [*near_images([row["image_sig"] for row in sample], 0), *near_texts(sample, 0.999)]
    assert len(pairs) > 10
    for a, b in pairs:
        assert split[sample[a]["post_id"]] == split[sample[b]["post_id"]]
    found = repository.json("metrics/sentiment/evaluate.json")
    assert found["f1_weighted"]["value"] > found["baselines"]["constant"]["f1_weighted"]["high"]
    predictions = read(repository.folder / "data/predictions/sentiment")
    assert predictions.num_rows == 4000
    assert set(predictions["status"].to_pylist()) == {"ok"}
    assert [name for name in repository.repro() if not name.startswith("scan")] == []


def read_split(path: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    return {row["post_id"]: row["split"] for row in pq.read_table(path).to_pylist()}
