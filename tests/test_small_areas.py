"""Groups with few labels or none: what they borrow, that it holds on average, and what they keep of their own."""

from __future__ import annotations

import numpy as np
import pytest

from assay.config import ClassesTarget, ScoreTarget
from assay.errors import DataError
from assay.measure.estimator import Estimator
from assay.measure.findings import brand_table
from tests.estimators import estimator

SCORE = ScoreTarget(kind="score", min=0, max=10, bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
CLASSES = ClassesTarget(kind="classes", names=["yes", "no"])


def zipf(
    rng: np.random.Generator, *, n: int = 4000, groups: int = 80, off: float = 0.4
) -> tuple[Estimator, np.ndarray]:
    """Brands of very unequal size, a student that is off on each by its own amount, 10 % of posts labelled; truths."""
    chance = 1 / np.arange(1, groups + 1)
    brand = rng.choice(groups, n, p=chance / chance.sum())
    level, missed, signal = rng.normal(0, 0.7, groups), rng.normal(0.3, off, groups), rng.normal(size=n)
    y = np.clip(5 + level[brand] + 1.5 * signal + rng.normal(0, 1.2, n), 0, 10)
    f = np.clip(5 + level[brand] + missed[brand] + 1.5 * signal, 0, 10)
    drawn = rng.permutation(n) < n // 10
    labels = [float(v) if one else None for v, one in zip(y, drawn, strict=True)]
    est = estimator(f.tolist(), labels, SCORE, p=0.1, brands=[[f"b{one:03d}"] for one in brand])
    truth = np.array([y[brand == one].mean() if (brand == one).any() else np.nan for one in range(groups)])
    return est, truth


def test_borrowed_intervals_hold_on_average_and_are_narrow() -> None:
    rng, hits, own, lent = np.random.default_rng(0), [], [], []
    for _ in range(25):
        est, truth = zipf(rng)
        found = est.small("brand")
        at = [int(name[1:]) for name in found.names]
        hits.append((found.low <= truth[at]) & (truth[at] <= found.high))
        low, high = est.mean(by="brand").joint.interval()
        kept = np.isfinite(low)
        own.append((high - low)[kept].mean())
        lent.append((found.high - found.low)[kept].mean())
        assert found.spread == pytest.approx(0.4, abs=0.3)
    assert 0.92 <= np.concatenate(hits).mean() <= 0.97
    assert np.mean(lent) < 0.75 * np.mean(own)  # where there are labels enough for an interval of one's own


def test_what_is_labelled_whole_keeps_its_own_figure() -> None:
    rng = np.random.default_rng(1)
    brands = [[f"b{i % 12:02d}"] for i in range(240)]
    labels = [float(v) for v in rng.uniform(0, 10, 240)]
    known = [v if i % 12 < 11 or i < 24 else None for i, v in enumerate(labels)]  # the last brand has two labels
    found = estimator([5.0] * 240, known, SCORE, brands=brands).small("brand")
    for i in range(11):
        assert found.figure(i).value == pytest.approx(np.mean(labels[i::12]), abs=1e-6)
        assert found.figure(i).high - found.figure(i).low < 1e-5
        assert found.own[i] == pytest.approx(1.0)
    assert found.own[11] < 0.9
    assert found.figure(11).high - found.figure(11).low > 0.5


def test_a_group_without_labels_is_the_student_shifted_as_the_others_are() -> None:
    """Students say 1 too little of every group, alike; the last group has no label."""
    rng = np.random.default_rng(2)
    y = rng.uniform(2, 8, 400)
    group = np.arange(400) % 20
    known = [float(v) if g < 19 and i < 300 else None for i, (v, g) in enumerate(zip(y, group, strict=True))]
    est = estimator(
        (y - 1 + rng.normal(0, 0.3, 400)).tolist(), known, SCORE, p=0.75, brands=[[f"b{g:02d}"] for g in group]
    )
    found = est.small("brand")
    assert found.labels[19] == 0
    assert found.own[19] == 0.0
    assert found.figure(19).low < y[group == 19].mean() < found.figure(19).high
    assert found.figure(19).high - found.figure(19).low < 0.6


def test_shares_stay_within_their_bounds() -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(0, 30, 900)
    yes = rng.random(900) < 0.05
    labels = [("yes" if one else "no") if i < 300 else None for i, one in enumerate(yes)]
    said = ["yes" if one else "no" for one in yes ^ (rng.random(900) < 0.05)]
    found = estimator(said, labels, CLASSES, p=1 / 3, brands=[[f"b{g:02d}"] for g in group]).small("brand")
    assert (found.low >= 0).all()
    assert (found.high <= 1).all()
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_too_few_groups_lend_nothing() -> None:
    est = estimator([5.0] * 60, [5.0 if i < 30 else None for i in range(60)], SCORE, p=0.5, brands=[["A"]] * 60)
    with pytest.raises(DataError, match="1 groups have two labels or more; 10 are needed"):
        est.small("brand")
    rows, _ = brand_table(est, est.posts, min_posts=1)
    assert rows[0]["mean_borrowed"] is None
    authors = [f"u{i}" for i in range(60)]
    theirs = estimator([5.0] * 60, [5.0] * 60, SCORE, target="posts_like_these", author=authors, brands=[["A"]] * 60)
    with pytest.raises(DataError, match="these posts only"):
        theirs.small("brand")


def test_the_brand_table_has_both_figures() -> None:
    est, _ = zipf(np.random.default_rng(4))
    rows, _ = brand_table(est, est.posts, min_posts=10)
    bare = [row for row in rows if row["mean"] is None and not row["too_few"]]
    assert bare
    assert all(row["mean_borrowed_low"] < row["mean_borrowed"] < row["mean_borrowed_high"] for row in bare)
    assert all(row["mean_borrowed"] is None for row in rows if row["too_few"])
