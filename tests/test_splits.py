"""Splits: no author, image or text on both sides, in any corpus; strata spread evenly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget, Split
from assay.errors import DataError
from assay.splits import NAMES, assign, find_leaks, groups, leak_figures, near_images, split
from assay.text import shingles, signature, similarity

CLASSES = ClassesTarget(kind="classes", names=["a", "b"])


def post(number: int, text: str = "", author: str | None = None, sig: str | None = None) -> dict[str, Any]:
    text = text or f"caption {number} word{number * 7} other{number * 13} thing{number * 31}"
    return {
        "post_id": str(number),
        "text": text,
        "author": author,
        "text_sig": signature(text),
        "image_sig": [sig] if sig else [],
        "split": None,
    }


def labels(posts: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    return [{"post_id": p["post_id"], "status": "ok", "value": "ab"[int(rng.integers(2))]} for p in posts]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_group_leaks(seed: int) -> None:
    """In random corpora full of shared authors, images and texts, nothing shared crosses a split."""
    rng = np.random.default_rng(seed)
    posts = []
    for i in range(160):
        author = f"u{rng.integers(60)}" if rng.random() < 0.7 else None
        sig = (
            f"{int(rng.integers(40)) * 0x0101010101010101 % 2**64:016x}"
            if rng.random() < 0.3
            else f"{rng.integers(2**62):016x}"
        )
        text = f"the same caption number {rng.integers(30)} again and again" if rng.random() < 0.2 else ""
        posts.append(post(i, text, author, sig))
    rule = Split(seed=seed)
    try:
        table = split(posts, labels(posts, rng), rule, CLASSES).to_pylist()
    except DataError:  # everything hangs together: too few groups to divide
        assert len(set(groups(posts, rule).tolist())) < 30
        return
    where = {row["post_id"]: row["split"] for row in table}
    for i, a in enumerate(posts):
        for b in posts[:i]:
            same = (
                (a["author"] and a["author"] == b["author"])
                or (int(a["image_sig"][0], 16) ^ int(b["image_sig"][0], 16)).bit_count() <= rule.image_distance
                or similarity(shingles(a["text"]), shingles(b["text"])) >= 0.999
            )
            assert not same or where[a["post_id"]] == where[b["post_id"]]
    assert not find_leaks(np.array([r["split"] for r in table]), np.array([r["group"] for r in table]))


def test_near_duplicates_are_joined_and_others_are_not() -> None:
    base = "our new collection of summer hats is finally in the shop come and see them today"
    posts = [
        post(0, base),
        post(1, base.upper() + " https://t.co/x"),
        post(2, base + " now"),
        post(3, "our new collection of winter coats was sold out on monday morning"),
        post(4, sig="00000000000000ff"),
        post(5, sig="00000000000000f0"),
        post(6, sig="ffffffffffffffff"),
    ]
    group = groups(posts, Split())
    assert group[0] == group[1] == group[2] != group[3]
    assert group[4] == group[5] != group[6]
    assert len(set(groups(posts, Split(group_by=[])).tolist())) == len(posts)


def test_near_images_finds_every_pair_within_the_distance() -> None:
    rng = np.random.default_rng(3)
    sigs = [int(v) for v in rng.integers(0, 2**62, 60)]
    for base in sigs[:20]:
        flipped = base
        for bit in rng.choice(62, int(rng.integers(1, 6)), replace=False):
            flipped ^= 1 << int(bit)
        sigs.append(flipped)
    found = {frozenset(pair) for pair in near_images([[f"{s:016x}"] for s in sigs], 4)}
    wanted = {frozenset((i, j)) for i in range(len(sigs)) for j in range(i) if (sigs[i] ^ sigs[j]).bit_count() <= 4}
    assert found == wanted


def test_shares_and_strata() -> None:
    rng = np.random.default_rng(0)
    strata, group = (rng.random(2000) < 0.2).astype(int), np.arange(2000) // 2
    names = assign(strata, group, Split())
    for name, share in zip(NAMES, (0.6, 0.1, 0.1, 0.2), strict=True):
        inside = names == name
        assert inside.mean() == pytest.approx(share, abs=0.02)
        assert strata[inside].mean() == pytest.approx(0.2, abs=0.04)


def test_folds_cover_every_post_once() -> None:
    strata, group = np.tile([0, 1], 150), np.arange(300) // 3
    tests = [assign(strata, group, Split(folds=5, fold=fold)) == "test" for fold in range(5)]
    assert (np.sum(tests, axis=0) == 1).all()


def test_too_few_groups_is_one_clear_line() -> None:
    posts = [post(i, author="same") for i in range(50)]
    with pytest.raises(DataError, match="only 1 leakage groups among 50"):
        split(posts, labels(posts, np.random.default_rng(0)), Split(), CLASSES)
    with pytest.raises(DataError, match="no labelled posts"):
        split(posts, [], Split(), CLASSES)


def test_rare_classes_and_unlabelled_posts() -> None:
    posts = [post(i) for i in range(60)]
    found = labels(posts, np.random.default_rng(0))
    found[0]["status"] = "failed"
    for label in found:
        label["value"] = "a"
    found[5]["value"] = "b"
    table = split(posts, found, Split(), CLASSES)
    assert table.num_rows == 59
    scores = [{"post_id": p["post_id"], "status": "ok", "value": float(i % 7)} for i, p in enumerate(posts)]
    assert set(split(posts, scores, Split(), ScoreTarget(kind="score"))["split"].to_pylist()) == set(NAMES)


# ----------------------------------------------------------------------------------- official splits


def official(sizes: dict[str, int]) -> list[dict[str, Any]]:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [post(i) | {"split": name} for i, name in enumerate(names)]


def test_official_splits_are_kept() -> None:
    posts = official({"train": 200, "dev": 30, "test_unseen": 50, "extra": 10})
    table = split(posts, labels(posts, np.random.default_rng(0)), Split(), CLASSES).to_pylist()
    where = {row["post_id"]: row["split"] for row in table}
    assert all(where[p["post_id"]] == "val" for p in posts if p["split"] == "dev")
    assert all(where[p["post_id"]] == "test" for p in posts if p["split"] == "test_unseen")
    assert not any(p["post_id"] in where for p in posts if p["split"] == "extra")
    assert set(where.values()) == {"train", "val", "test"}


def test_a_val_split_that_is_not_there_is_cut_from_train() -> None:
    posts = official({"train": 200, "test": 50})
    posts[0]["author"] = posts[210]["author"] = "same"  # leaks into test: never cut away into val
    table = split(posts, labels(posts, np.random.default_rng(0)), Split(), CLASSES).to_pylist()
    where = {row["post_id"]: row["split"] for row in table}
    cut = [p for p in posts if where[p["post_id"]] == "val"]
    assert {p["split"] for p in cut} == {"train"}
    assert 15 <= len(cut) <= 50
    assert where["0"] == "train"


def test_official_splits_that_leak_are_kept_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    posts = official({"train": 100, "val": 20, "test": 20})
    for i in (3, 125, 130):
        posts[i]["author"] = "same"
    table = split(posts, labels(posts, np.random.default_rng(0)), Split(), CLASSES)
    found = leak_figures(table)
    assert found["leaking_groups"] == 1
    assert found["leaking_test_posts"] == 2
    assert found["posts"]["test"] == 20
    assert "the official splits leak: 1 groups" in capsys.readouterr().err
    where = {row["post_id"]: row["split"] for row in table.to_pylist()}
    assert where["3"] == "train"  # never cut away into val or calibration


def test_official_splits_can_be_mapped_or_ignored() -> None:
    posts = official({"a": 100, "b": 40})
    with pytest.raises(DataError, match=r"official train and val and test split \(the corpus has: a, b\)"):
        split(posts, labels(posts, np.random.default_rng(0)), Split(), CLASSES)
    mapped = Split(official={"train": ["a"], "test": ["b"]})
    table = split(posts, labels(posts, np.random.default_rng(0)), mapped, CLASSES).to_pylist()
    assert {row["split"] for row in table} == {"train", "val", "test"}
    assert sum(row["split"] == "test" for row in table) == 40
    anew = split(posts, labels(posts, np.random.default_rng(0)), Split(official=None), CLASSES).to_pylist()
    assert sum(row["split"] == "test" for row in anew) == pytest.approx(28, abs=4)


def test_labels_are_stratified_by_the_rarest_one() -> None:
    target = LabelsTarget(kind="labels", names=["often", "rare"])
    values = [["often"], ["often", "rare"], [], ["often"]]
    assert target.strata(target.encode(values)).tolist() == [0, 1, -1, 0]
