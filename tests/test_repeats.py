"""Texts that nearly repeat an earlier one, found without comparing each with each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from assay.corpora.repeats import near, repeats
from assay.posts import write_table
from assay.splits import near_texts
from assay.text import shingles, signature, similarity

WORDS = [f"word{i}" for i in range(3000)]


def texts(n: int, copies: int, changed: int) -> list[str]:
    """`n` captions of 30 words, then copies of the first ones with some words changed."""
    rng = np.random.default_rng(3)
    found = [[WORDS[i] for i in rng.integers(0, len(WORDS), 30)] for _ in range(n)]
    for number in range(copies):
        again = list(found[number])
        for at in rng.choice(30, changed, replace=False):
            again[at] = WORDS[int(rng.integers(len(WORDS)))]
        found.append(again)
    return [" ".join(words) for words in found]


def minima(captions: list[str]) -> np.ndarray:
    whole = b"".join(signature(one) or b"" for one in captions)
    return np.frombuffer(whole, dtype="<u4").reshape(len(captions), -1)


@pytest.mark.parametrize(
    ("changed", "least", "most"), [(0, 1.0, 1.0), (1, 0.85, 1.0), (2, 0.55, 0.8), (15, 0.0, 0.01), (30, 0.0, 0.01)]
)
def test_copies_are_found_by_how_alike_they_are(changed: int, least: float, most: float) -> None:
    captions = texts(2000, 400, changed)
    found = near(minima(captions))
    assert not found[:2000].any()
    assert least <= found[2000:].mean() <= most


def test_beside_the_search_that_looks_at_the_texts() -> None:
    rng = np.random.default_rng(4)
    captions = [
        text for changed in range(6) for text in texts(300, 150, changed)[-150:] + texts(300, 150, changed)[:150]
    ]
    captions = [captions[i] for i in rng.permutation(len(captions))]
    posts = [{"text": one, "text_sig": signature(one)} for one in captions]
    wanted = {max(pair) for pair in near_texts(posts, 0.8)}
    found = set(np.flatnonzero(near(minima(captions))).tolist())
    assert len(found & wanted) >= 0.9 * len(wanted)
    for i in found - wanted:
        assert max(similarity(shingles(captions[i]), shingles(one)) for one in captions[:i]) > 0.5


def test_a_corpus(tmp_path: Path) -> None:
    captions = [
        "a fine day by the sea",
        "a fine day by the sea",
        "",
        "nothing like it at all",
        "A fine day by the sea!",
    ]
    table = {
        "duplicate_of": pa.array([None, "0", None, None, None], pa.string()),
        "text_sig": pa.array([signature(one) for one in captions], pa.binary()),
    }
    write_table(pa.table(table).slice(0, 3), tmp_path / "part-00000.parquet")
    write_table(pa.table(table).slice(3), tmp_path / "part-00001.parquet")
    assert repeats(tmp_path) == {"exact": 1, "near_text": 2}
    write_table(pa.table(table).slice(2, 1), tmp_path / "empty" / "part-00000.parquet")
    assert repeats(tmp_path / "empty") == {"exact": 0, "near_text": 0}


def test_a_caption_that_everybody_posts_costs_no_more() -> None:
    found = near(np.repeat(minima(["the same words as ever"]), 200_000, axis=0))
    assert found.sum() == 199_999
