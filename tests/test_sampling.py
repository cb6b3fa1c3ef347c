"""Sampling: designs, inclusion probabilities that estimate without bias, stability, packed images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config import Sample
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.errors import SettingsError
from assay.images import MAX_PIXELS
from assay.posts import read
from assay.sampling import allocate, draw, frame, write_sample

IDS = [f"post{i}" for i in range(1000)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.integers(1, 400), st.integers(0, 5))
def test_allocation_is_within_bounds_and_sums_up(counts: list[int], size: int, minimum: int) -> None:
    array = np.array(counts)
    size = min(size, int(array.sum()))
    sizes = allocate(array, size, minimum)
    assert (sizes >= np.minimum(array, max(minimum, 1))).all()
    assert (sizes <= array).all()
    floor = int(np.minimum(array, max(minimum, 1)).sum())
    assert sizes.sum() == max(size, floor)


@pytest.mark.parametrize(
    ("counts", "size", "wanted"), [([100, 100], 10, [5, 5]), ([900, 90, 10], 100, [89, 9, 2]), ([5, 5], 10, [5, 5])]
)
def test_allocation_by_hand(counts: list[int], size: int, wanted: list[int]) -> None:
    assert allocate(np.array(counts), size, 2).tolist() == wanted


@pytest.mark.parametrize("design", ["random", "stratified", "all"])
def test_weights_add_up_to_the_frame(design: str) -> None:
    strata = ["a" if i < 900 else "b" for i in range(1000)]
    settings = Sample(design=design, posts=100, by="x")  # type: ignore[arg-type]
    drawn = draw(IDS, strata if design == "stratified" else ["all"] * 1000, settings)
    assert sum(1 / p for p in drawn.inclusion_p.values()) == pytest.approx(1000)
    assert len(drawn.inclusion_p) == (1000 if design == "all" else 100)


def test_weighted_mean_is_unbiased_over_seeds() -> None:
    value = {post_id: float(i >= 950) * 10 + i / 1000 for i, post_id in enumerate(IDS)}
    strata = ["rare" if i >= 950 else "common" for i in range(1000)]
    truth = float(np.mean(list(value.values())))
    means = []
    for seed in range(200):
        drawn = draw(IDS, strata, Sample(design="stratified", by="x", posts=60, min_per_stratum=20, seed=seed))
        means.append(sum(value[i] / p for i, p in drawn.inclusion_p.items()) / 1000)
    assert abs(np.mean(means) - truth) < 3 * np.std(means) / np.sqrt(200) + 1e-3


def test_a_grown_corpus_keeps_most_of_its_sample() -> None:
    before = draw(IDS, ["all"] * 1000, Sample(posts=100)).inclusion_p
    after = draw([*IDS, *(f"new{i}" for i in range(50))], ["all"] * 1050, Sample(posts=100)).inclusion_p
    assert len(before.keys() & after.keys()) >= 90
    shuffled = draw(IDS[::-1], ["all"] * 1000, Sample(posts=100)).inclusion_p
    assert shuffled.keys() == before.keys()


def test_too_many_strata_are_refused_not_overpaid() -> None:
    with pytest.raises(SettingsError, match=r"1000 strata of 'likes' need at least 1000 posts, but sample.posts is 60"):
        draw(IDS, IDS, Sample(design="stratified", by="likes", posts=60))


@pytest.fixture
def posts(drawn: Path, tmp_path: Path) -> Path:
    brands = {"Bramwick": (["bramwick"], ["bramwick"], [])}
    ingest(
        Instagram(drawn),
        Rules("d", b"k", "header", brands=brands),
        posts=tmp_path / "posts",
        problems=tmp_path / "q.parquet",
    )
    return tmp_path / "posts"


@pytest.mark.parametrize(
    ("by", "names"),
    [("brand", {"none", "Bramwick"}), ("length", {"short", "medium", "long"}), ("sponsored", {"True", "False"})],
)
def test_strata_of_any_column(by: str, names: set[str], posts: Path) -> None:
    assert set(frame(posts, by)[1]) == names


def test_an_unknown_column_is_named(posts: Path) -> None:
    with pytest.raises(SettingsError, match=r"no column 'colour'; allowed: brand, length, post_id"):
        frame(posts, "colour")
    with pytest.raises(SettingsError):
        frame(posts, "author")


def test_sample_holds_bounded_images_and_says_what_was_lost(posts: Path, drawn: Path, tmp_path: Path) -> None:
    counts = write_sample(
        posts, drawn, tmp_path / "s", settings=Sample(design="all", image_px=100), max_pixels=MAX_PIXELS
    )
    rows = read(tmp_path / "s").to_pylist()
    assert counts["posts"] == len(rows) == counts["frame"]
    assert any(
        "undecodable_image" in lost for row in rows for lost in row["lost"]
    )  # header checks cannot see a cut body
    assert all(len(row["images"]) == len(row["image_hashes"]) == len(row["image_sig"]) for row in rows)
    assert max(len(image) for row in rows for image in row["images"]) < 12_000
