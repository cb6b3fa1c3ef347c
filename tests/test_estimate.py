"""Estimates: hand-worked cases, exact cases, and intervals that hold, with a student trained each time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse
from scipy.stats import hypergeom
from sklearn.linear_model import LogisticRegression, Ridge

from assay.config import ClassesTarget, ScoreTarget, Split
from assay.errors import DataError
from assay.measure import intervals
from assay.measure.domains import by_column, crossed
from assay.measure.estimate import Design, estimate
from assay.measure.estimator import DESIGN, Estimator, design_of
from assay.measure.groups import as_csv, group_table, unknown_brands, with_brand_groups
from assay.measure.moved import moved
from assay.posts import write_table
from assay.scoring.shards import folds_of_posts
from assay.splits import assign_with_chance, grouped_folds
from assay.student.model import own
from tests.estimators import estimator, posts_of, predictions_of

SCORE = ScoreTarget(kind="score", min=0, max=10, bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])


def test_a_mean_by_hand() -> None:
    """Ten of twenty posts are labelled, each 1 above its prediction: the mean is that of predictions, and 1 more."""
    predicted = [float(i % 5) for i in range(20)]
    est = estimator(predicted, [p + 1 if i < 10 else None for i, p in enumerate(predicted)], SCORE, p=0.5)
    figure, alone = (est.mean().figure(0, plain=plain) for plain in (False, True))
    assert figure.value == pytest.approx(3.0)
    assert est.mean().joint.trust[0] == pytest.approx(1.0)
    assert figure.high - figure.low == pytest.approx(0, abs=1e-6)  # the student errs by the same everywhere
    y = np.array(predicted[:10]) + 1
    half = intervals.quantile(np.array(9.0)) * (y.var(ddof=1) / 10 * (1 - 0.5)) ** 0.5  # a survey's textbook interval
    assert (alone.value, alone.high) == (pytest.approx(y.mean()), pytest.approx(y.mean() + half))


def test_a_stratified_mean_by_hand() -> None:
    """Strata of 10 and 40 posts, 5 labels each, a blind student: the textbook's stratified mean and variance."""
    labels = [1.0, 2, 3, 4, 5, *[None] * 5, 6.0, 7, 7, 8, 7, *[None] * 35]
    stratum = ["s"] * 10 + ["t"] * 40
    est = estimator([5.0] * 50, labels, SCORE, p=[0.5] * 10 + [0.125] * 40, stratum=stratum)
    value = 0.2 * 3 + 0.8 * 7
    variance = 0.2**2 * 0.5 * 2.5 / 5 + 0.8**2 * 0.875 * 0.5 / 5
    found = est.mean()
    assert found.figure(0).value == pytest.approx(value)
    assert found.joint.variance[0] == pytest.approx(variance)
    assert found.joint.trust[0] == 0.0  # the student tells nothing


def test_what_is_labelled_whole_is_known() -> None:
    labels = [float(i % 7) for i in range(60)]
    est = estimator([3.0] * 60, labels, SCORE, brands=[["A"] if i < 4 else ["B"] for i in range(60)])
    for found in (est.mean(), est.mean(by="brand"), est.share("high", by="brand")):
        for i in range(len(found.names)):
            figure = found.figure(i)
            assert figure.low == figure.value == figure.high
    assert est.mean(by="brand").figure(0).value == pytest.approx(1.5)  # also of a brand of four posts


def test_posts_like_these_are_wider() -> None:
    """All posts labelled: these are known, posts like these are not, and few authors say less than many."""
    labels = [float(i // 10 % 7) for i in range(200)]
    authors = [f"u{i // 10}" for i in range(200)]
    few = estimator([3.0] * 200, labels, SCORE, target="posts_like_these", author=authors)
    many = estimator([3.0] * 200, labels, SCORE, target="posts_like_these", author=[f"u{i}" for i in range(200)])
    widths = [est.mean().figure(0).high - est.mean().figure(0).low for est in (few, many)]
    assert widths[0] > 2.5 * widths[1] > 0
    assert few.mean().joint.effective[0] == pytest.approx(20)
    assert few.mean().figure(0).value == pytest.approx(np.mean(labels))


def test_few_clusters_have_no_interval() -> None:
    labels = [float(i % 5) if i < 40 else None for i in range(60)]
    authors = ["one"] * 37 + [f"u{i}" for i in range(23)]
    est = estimator([3.0] * 60, labels, SCORE, p=2 / 3, target="posts_like_these", author=authors)
    assert est.mean().joint.effective[0] < 5  # one author wrote nearly all
    assert np.isnan(est.mean().figure(0).value)


def test_posts_that_were_learnt_from_count_with_their_labels() -> None:
    """Two posts were learnt from and overfitted; eight were held out, each 1 above its prediction; two are bare."""
    predicted = [9.0, 9.0, *[3.0, 5.0] * 4, 4.0, 4.0]
    labels = [4.0, 6.0, *[4.0, 6.0] * 4, None, None]
    learnt = [True] * 2 + [False] * 10
    est = estimator(predicted, labels, SCORE, p=0.8, learnt=learnt, held_out_p=0.8)
    assert est.mean().figure(0).value == pytest.approx(5.0)  # not the students' 9s
    assert est.mean().joint.labels[0] == 8


def test_a_missing_label_weighs_on_its_stratum() -> None:
    """Of ten sampled posts of each stratum, five of the one have failed: the others stand for them."""
    ids = [str(i) for i in range(40)]
    status = ["ok" if i >= 5 else "failed" for i in range(20)]
    rows = {
        "post_id": ids[:20],
        "status": status,
        "value": [None] * 5 + [2.0] * 5 + [6.0] * 10,
        "inclusion_p": [0.5] * 20,
    }
    labels = pa.table(rows)
    sample = pa.table({"post_id": ids[:20], "stratum": ["s"] * 10 + ["t"] * 10})
    split = pa.table(
        {"post_id": ids[5:20], "split": ["test"] * 15, "group": list(range(15)), "held_out_p": [None] * 15}
    )
    predictions = predictions_of([4.0] * 40, SCORE).append_column("fold", pa.array([0] * 40, pa.int16()))
    est = Estimator(posts_of(40), predictions, labels, design_of(sample, split, predictions), task=SCORE)
    assert est.mean().figure(0).value == pytest.approx(4.0)


def test_shares_of_bands_and_classes() -> None:
    scores = [float(i % 10) for i in range(100)]
    est = estimator(scores, [s if i < 50 else None for i, s in enumerate(scores)], SCORE, p=0.5)
    assert [est.share(band=name).figure(0).value for name in ("low", "moderate", "high")] == pytest.approx(
        [0.4, 0.3, 0.3]
    )
    named = ["abc"[i % 3] for i in range(90)]
    est = estimator(named, [v if i < 45 else None for i, v in enumerate(named)], CLASSES, p=0.5)
    assert est.share("b").figure(0).value == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="no share of 'z'; there are: a, b, c"):
        est.share("z")
    with pytest.raises(DataError, match="has no mean"):
        est.mean()


def test_band_shares_are_means_over_students() -> None:
    """Where one of two students says high and the other low, half of the post is high, not its mean's band."""
    table = pa.table({"value": [5.0, 9.0], "by_student": pa.array([[2.0, 8.0], [9.0]], pa.list_(pa.float32()))})
    assert SCORE.expected(table, "high").tolist() == [0.5, 1.0]
    assert SCORE.expected(table, "moderate").tolist() == [0.0, 0.0]
    assert SCORE.expected(table, "mean").tolist() == [5.0, 9.0]


def test_differences_and_ratios() -> None:
    rng = np.random.default_rng(0)
    sponsored = (rng.random(600) < 0.4).tolist()
    brands = [["A"] if i % 2 else ["B"] for i in range(600)]
    truth = np.clip(4 + 2 * np.array(sponsored) + np.arange(600) % 2 + rng.normal(0, 1, 600), 0, 10)
    labels = [float(v) if rng.random() < 0.5 else None for v in truth]
    est = estimator(
        np.clip(truth + rng.normal(0, 0.5, 600), 0, 10).tolist(),
        labels,
        SCORE,
        p=0.5,
        sponsored=sponsored,
        brands=brands,
    )
    rows = est.difference("sponsored", within="brand")
    assert [row["name"] for row in rows] == ["all", "within all", "A", "B"]
    assert all(row["low"] < 2 < row["high"] and row["decided"] for row in rows[:2])
    ratio = est.ratio({"sponsored": True}, {"sponsored": False})
    assert ratio.low < truth[sponsored].mean() / truth[~np.array(sponsored)].mean() < ratio.high
    with pytest.raises(DataError, match="no column 'colour' to group posts by; there are: "):
        est.difference("colour")
    with pytest.raises(DataError, match="no group 'maybe'"):
        est.difference("sponsored", "maybe")


def test_fieller_says_nothing_of_a_ratio_to_zero() -> None:
    assert intervals.ratio_interval(1.0, 0.1, np.diag([0.01, 0.01]), 1.96) is None
    low, high = intervals.ratio_interval(1.0, 2.0, np.diag([0.01, 0.0]), 1.96) or (0, 0)
    assert (low, high) == (pytest.approx(0.5 - 0.098), pytest.approx(0.5 + 0.098))


def test_groups_of_posts() -> None:
    posts = posts_of(4, brands=[["A", "B"], [], ["B"], ["B"]], sponsored=[True, None, False, True])
    brand, sponsored = by_column(posts, "brand"), by_column(posts, "sponsored")
    assert (brand.names, sponsored.names) == (["A", "B"], ["false", "true"])
    assert brand.members.toarray().tolist() == [[1, 0, 0, 0], [1, 0, 1, 1]]
    both = crossed(brand, sponsored)
    assert both.names == ["A / false", "A / true", "B / false", "B / true"]
    assert both.members.toarray().tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]
    sizes = by_column(posts_of(4, author=["x", "x", None, "y"]), "author_size")
    assert sizes.names == ["1 post", "2 to 9"]


@pytest.mark.parametrize("wrong", ["chance", "sample", "corpus", "target"])
def test_tables_that_do_not_fit_are_one_line(wrong: str) -> None:
    ids = [str(i) for i in range(10)]
    labels = pa.table({"post_id": ids, "status": ["ok"] * 10, "value": [1.0] * 10, "inclusion_p": [1.0] * 9 + [0.0]})
    design = pa.table({"post_id": ids, "stratum": ["all"] * 10})
    posts, predictions, target = posts_of(10), predictions_of([1.0] * 10, SCORE), "these_posts"
    said = {
        "chance": "post 9: inclusion_p is 0.0, must be above 0",
        "sample": "post 9 is labelled, but not in the sample",
        "corpus": "post 9 has a prediction, but is not in the corpus",
        "target": "target 'all_posts' is unknown; allowed: these_posts, posts_like_these",
    }
    if wrong != "chance":
        labels = labels.set_column(3, "inclusion_p", pa.array([1.0] * 10))
    design, posts = (
        (design.slice(0, 9) if wrong == "sample" else design),
        posts.slice(0, 9) if wrong == "corpus" else posts,
    )
    with pytest.raises(DataError, match=said[wrong]):
        Estimator(posts, predictions, labels, design, task=SCORE, target="all_posts" if wrong == "target" else target)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ simulations


def _run(seed: int, tmp: Path) -> tuple[dict[str, tuple[float, float, float]], np.ndarray, np.ndarray]:
    """One sample of planted posts, of which two brands have an account of their own; a ridge student, trained here."""
    rng = np.random.default_rng(11)
    n, m = 3000, 400
    x, brand = rng.standard_normal((n, 6)), rng.integers(0, 6, n)
    author = np.where(brand < 2, n + brand, np.arange(n))
    level = 5 + np.array([1.5, -1.5, 0, 0.5, -0.5, 0])[brand]
    y = np.clip(level + x @ [1.2, 0.8, -0.6, 0.4, 0, 0] + rng.normal(0, 1.2, n), 0, 10)
    rng = np.random.default_rng([seed, 1])
    rows = rng.choice(n, m, replace=False)
    group, strata = author[rows], (y[rows] > 5).astype(int)
    fold = grouped_folds(strata, group, 5, seed)
    every = np.stack([Ridge().fit(x[rows[fold != j]], y[rows[fold != j]]).predict(x) for j in range(5)]).clip(0, 10)
    names = ids_of(rows)
    table = {"post_id": ids_of(range(n)), "author": ids_of(author), "duplicate_of": pa.nulls(n, pa.string())}
    write_table(pa.table(table), tmp / "posts.parquet")
    of = folds_of_posts([tmp / "posts.parquet"], dict(zip(names, fold.tolist(), strict=True)))
    f = own(every, np.array([of.get(str(i), -1) for i in range(n)]))
    extra = {"held_out_p": [None] * m, "learnt": [False] * m}
    ids = [str(i) for i in rows]
    labels = pa.table({"post_id": ids, "status": ["ok"] * m, "value": y[rows], "inclusion_p": [m / n] * m})
    design = pa.table({"post_id": ids, "stratum": ["all"] * m, "group": group, **extra}).cast(DESIGN)
    posts = pa.table({"post_id": [str(i) for i in range(n)], "brands": [[f"b{one}"] for one in brand]})
    predictions = pa.table({"post_id": posts["post_id"], "value": f})
    est = Estimator(posts, predictions, labels, design, task=SCORE)
    found = {"mean": est.mean().figure(0), "high": est.share("high").figure(0)}
    brands = est.mean(by="brand")
    found |= {name: brands.figure(i) for i, name in enumerate(brands.names)}
    found |= {"alone": est.mean().figure(0, plain=True)}
    return found, y, brand


def ids_of(numbers: Any) -> list[str]:
    return [str(i) for i in numbers]


@pytest.mark.slow
def test_intervals_hold_where_brands_have_accounts_of_their_own(tmp_path: Path) -> None:
    """benchmarks/coverage.py in small: every label corrects, and who learnt from an account never speaks of it.

    With the mean of all students for posts that have no label, brands with an account are covered in half of samples:
    their labelled posts are predicted by the one student that never saw the account, the others by four that did.
    """
    hits: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for seed in range(60):
        found, y, brand = _run(seed, tmp_path)
        truths = {"mean": y.mean(), "alone": y.mean(), "high": (y >= 6.5).mean()}
        truths |= {f"b{i}": y[brand == i].mean() for i in range(6)}
        for name, figure in found.items():
            hits.setdefault(name, []).append(figure[1] <= truths[name] <= figure[2])
            widths.setdefault(name, []).append(figure[2] - figure[1])
    assert np.mean(hits["mean"]) >= 0.88
    assert np.mean(hits["high"]) >= 0.88
    assert 0.91 <= np.mean([hits[f"b{i}"] for i in range(6)]) <= 0.985
    assert np.mean(widths["mean"]) < 0.85 * np.mean(widths["alone"])


@pytest.mark.slow
def test_the_chance_to_be_held_out_does_not_depend_on_the_size_of_a_group() -> None:
    """Of 80 posts one author wrote 16, one 6: each is held out as often as a single post, by lot."""
    group = np.concatenate([np.zeros(16), np.ones(6), 2 + np.arange(58)]).astype(int)
    strata = np.random.default_rng(0).integers(0, 2, 80)
    held, folded = np.zeros(80), np.zeros(80)
    for seed in range(200):
        names, chance = assign_with_chance(strata, group, Split(seed=seed))
        held += np.isin(names, ("calibration", "test"))
        folded += grouped_folds(strata, group, 5, seed) == 0
    assert chance == pytest.approx(0.3)
    assert held[0] / 200 == pytest.approx(0.3, abs=0.1)
    assert held[16] / 200 == pytest.approx(0.3, abs=0.1)
    assert held[22:].mean() / 200 == pytest.approx(0.3, abs=0.03)
    assert folded[0] / 200 == pytest.approx(0.2, abs=0.09)


@pytest.mark.slow
def test_ranks_say_nothing_wrong_and_intervals_are_simultaneous() -> None:
    """Twenty brands, eighteen of which differ by what chance put into the corpus, one is far below, one far above."""
    wrong, missed = 0, 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        brand = rng.integers(0, 20, 2000)
        y = np.clip(np.where(brand < 18, 5.0, np.where(brand == 18, 2.0, 8.0)) + rng.normal(0, 1, 2000), 0, 10)
        labels = [float(v) if rng.random() < 0.5 else None for v in y]
        est = estimator([5.0] * 2000, labels, SCORE, p=0.5, brands=[[f"b{one:02d}"] for one in brand])
        found = est.rank("brand")
        assert (found.names[0], found.ranks[0]) == ("b19", (1, 1))
        assert (found.names[-1], found.ranks[-1]) == ("b18", (20, 20))
        assert not found.is_decided
        truth = {f"b{one:02d}": y[brand == one].mean() for one in range(20)}
        told = zip(found.names, found.figures, strict=True)
        missed += any(not figure.low <= truth[name] <= figure.high for name, figure in told)
        of = [truth[name] for name in found.names]
        wrong += any(of[i] <= of[j] for i, below in enumerate(found.above) for j in below)
    assert found.words() == "b19 is highest; b18 is lowest"
    assert wrong <= 6
    assert missed <= 6  # of twenty pointwise intervals one would miss in two of three samples


# ------------------------------------------------------------------ regressions, trends, plans


def _moving(seed: int, *, shares: bool = False, ages: float = 0.0) -> tuple[Estimator, np.ndarray, np.ndarray]:
    """Posts of two years, sponsored or not, a student that is off by 1 and, `ages`, by more each month."""
    rng = np.random.default_rng([seed, 5])
    n = 2400
    month = rng.integers(0, 24, n)
    sponsored = rng.random(n) < 0.4
    x = rng.standard_normal(n)
    strength = 0.05 * month + 0.8 * sponsored + x + rng.normal(0, 0.5, n)
    when = [datetime(2020 + m // 12, 1 + m % 12, 15, tzinfo=UTC) for m in month.tolist()]
    known = rng.random(n) < 0.25
    if shares:
        y: list[Any] = np.where(strength > 1, "a", "b").tolist()
        f: list[Any] = np.where(x + rng.normal(0, 0.5, n) > 0.5, "a", "b").tolist()
        task: Any = CLASSES
    else:
        y, task = np.clip(4 + strength, 0, 10).tolist(), SCORE
        f = np.clip(5 + x + ages * month, 0, 10).tolist()
    labels = [value if is_known else None for value, is_known in zip(y, known, strict=True)]
    est = estimator(f, labels, task, p=0.25, sponsored=sponsored.tolist(), created_at=when)
    observed = task.observed(y, task.estimands[0])
    return est, np.column_stack([np.ones(n), sponsored, month]), observed


@pytest.mark.slow
@pytest.mark.parametrize("shares", [False, True], ids=["linear", "logistic"])
def test_regressions_hold_what_all_labels_would_give(shares: bool) -> None:
    """Coefficients of a regression on all labels lie in the intervals; those of the predictions alone are wrong."""
    hits, naive = [], []
    for seed in range(60):
        est, x, y = _moving(seed, shares=shares)
        if shares:
            truth = LogisticRegression(C=1e9, tol=1e-8, max_iter=500).fit(x[:, 1:], y).coef_[0]
        else:
            truth = np.linalg.lstsq(x, y, rcond=None)[0][1:]
        rows = est.regress("y ~ sponsored + month")
        assert [row["name"] for row in rows] == ["(intercept)", "sponsored", "month"]
        hits.append([row["low"] <= t <= row["high"] for row, t in zip(rows[1:], truth, strict=True)])
        f = est.task.expected(est.predictions, est.task.estimands[0])
        naive.append(abs(np.linalg.lstsq(x, f, rcond=None)[0][1] - truth[0]) < 0.2)
    assert np.mean(hits, axis=0).min() >= 0.88
    assert np.mean(naive) < 0.3


def test_regressions_of_all_labels_are_plain_regressions() -> None:
    rng = np.random.default_rng(1)
    likes = rng.integers(0, 50, 80)
    y = np.clip(2 + 0.1 * likes + rng.normal(0, 0.5, 80), 0, 10)
    est = estimator([5.0] * 80, y.tolist(), SCORE, likes=likes.tolist(), language=["en", "fr"] * 40)
    rows = est.regress("y ~ likes + language")
    truth = np.linalg.lstsq(np.column_stack([np.ones(80), likes, np.arange(80) % 2]), y, rcond=None)[0]
    assert [row["name"] for row in rows] == ["(intercept)", "likes", "language fr"]
    assert [row["value"] for row in rows] == pytest.approx(truth.tolist(), abs=1e-3)
    assert all(row["low"] == row["value"] == row["high"] for row in rows)  # these posts are known


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("y ~ sponsored + paid", "no column 'paid'"),
        ("sponsored", "is not understood; write it as"),
        ("y ~ sponsored + likes", "not identified: likes: the other terms tell it already"),
        ("y ~ text", "text has 90 values; a term may have 50"),
    ],
)
def test_a_regression_that_cannot_be_is_one_line(formula: str, said: str) -> None:
    sponsored = [i % 3 == 0 for i in range(90)]
    columns: dict[str, Any] = {"sponsored": sponsored, "likes": [int(s) for s in sponsored]}
    est = estimator([5.0] * 90, [float(i % 9) for i in range(90)], SCORE, text=[str(i) for i in range(90)], **columns)
    with pytest.raises(DataError, match=said):
        est.regress(formula)


def test_trends_and_a_student_that_ages() -> None:
    steady, x, y = _moving(0)
    found = steady.trend("month")
    assert found.names[0] == "2020-01"
    assert len(found.names) == 24
    truth = np.polyfit(np.arange(24), [y[x[:, 2] == m].mean() for m in range(24)], 1)[0]
    assert found.slope.low < truth < found.slope.high
    ageing = _moving(0, ages=0.1)[0].trend("month")
    assert ageing.drift.high < 0  # predictions rise faster than labels
    assert "drifts" in ageing.words()
    assert "rises" in found.words()
    with pytest.raises(DataError, match="only 2 periods have labels enough"):
        steady.trend("year")


def test_plans_keep_what_they_promise() -> None:
    """As many labels as a plan names give the width that was asked for, on average a little less."""
    rng = np.random.default_rng(4)
    truth = np.clip(rng.normal(5, 2, 8000), 0, 10)
    said = np.clip(truth + rng.normal(0, 1, 8000), 0, 10).tolist()

    def labelled(count: int, seed: int) -> Estimator:
        rows = set(np.random.default_rng(seed).permutation(8000)[:count].tolist())
        return estimator(said, [float(v) if i in rows else None for i, v in enumerate(truth)], SCORE, p=count / 8000)

    plan = labelled(200, 1).plan(0.25)
    assert plan.labels is not None
    assert plan.without_student is not None
    assert 200 < plan.labels < plan.without_student
    assert plan.more == plan.labels - 200
    figure = labelled(plan.labels, 2).mean().figure(0)
    assert 0.7 * 0.25 < figure.high - figure.low <= 0.25 * 1.05
    assert labelled(200, 1).plan(1e-6).labels == 8000  # all of these posts
    with pytest.raises(DataError, match="width 0 must be above 0"):
        labelled(200, 1).plan(0)


def test_plans_of_differences_and_of_codes_keep_what_they_promise() -> None:
    rng = np.random.default_rng(8)
    n = 3000
    y = np.clip(rng.normal(5, 2, n), 0, 10)
    said = np.clip(y + rng.normal(0, 1.5, n), 0, 10)
    sponsored = (rng.random(n) < 0.3).tolist()

    def labelled(count: int, coded: int, seed: int) -> Estimator:
        order = np.random.default_rng(seed).permutation(n)
        labels = [float(v) for v in y]
        known = set(order[:count].tolist())
        est = estimator(
            said.tolist(),
            [v if i in known else None for i, v in enumerate(labels)],
            SCORE,
            p=count / n,
            sponsored=sponsored,
        )
        answers = [[{"coder": "x", "value": float(np.clip(y[i] + np.sin(i), 0, 10))}] for i in order[:coded]]
        ids = [str(i) for i in order[:coded]]
        est.codes = pa.table({"post_id": ids, "people": answers, "people_p": [coded / count] * coded})
        return est

    plan = labelled(300, 60, 1).plan(0.3, between=("sponsored", True, False))
    assert plan.labels is not None
    assert plan.without_student is not None
    assert 300 < plan.labels < plan.without_student
    row = labelled(plan.labels, 60, 2).difference("sponsored")[0]
    assert 0.75 * 0.3 < row["high"] - row["low"] <= 1.05 * 0.3
    plan = labelled(300, 60, 1).plan(0.4)
    assert plan.coded_now == 60
    assert plan.coded is not None
    assert plan.coded > 20
    figure = labelled(300, plan.coded, 3).human().rows[0]["people"]
    assert 0.7 * 0.4 < figure["high"] - figure["low"] < 1.2 * 0.4
    assert labelled(300, 60, 1).plan(0.01).coded is None  # the teacher's own interval is wider than that
    with pytest.raises(DataError, match="too few labels of both post_id 0 and 1"):
        labelled(20, 4, 1).plan(0.4, between=("post_id", "0", "1"))


def test_a_group_that_was_learnt_from_whole_is_known_and_spoils_nothing() -> None:
    rng = np.random.default_rng(9)
    y = np.clip(rng.normal(5, 2, 300), 0, 10)
    brands = [["ABC"[i % 3]] for i in range(300)]
    learnt = [i % 3 == 0 or i % 2 == 0 for i in range(300)]  # all of A, half of the others
    sponsored = (rng.random(300) < 0.5).tolist()
    labels = [float(v) for v in y]
    est = estimator(
        [5.0] * 300, labels, SCORE, p=0.9, brands=brands, learnt=learnt, held_out_p=0.5, sponsored=sponsored
    )
    found = est.mean(by="brand")
    assert found.figure(0).low == found.figure(0).value == found.figure(0).high == pytest.approx(y[::3].mean())
    ranking = est.rank("brand")
    assert all(np.isfinite(one.value) for one in ranking.figures)
    within = next(row for row in est.difference("sponsored", within="brand") if row["name"] == "within all")
    assert within["value"] is not None
    assert all(row["p"] is None or np.isfinite(row["p"]) for row in moved(est, est, "brand"))


def test_a_plan_for_what_nobody_has_shown_yet() -> None:
    rare = estimator(["a"] * 400, ["b" if i < 100 else None for i in range(400)], CLASSES, p=0.25)
    plan = rare.plan(0.01, estimand="a")
    assert plan.labels is not None
    assert plan.labels > 100
    same = estimator([5.0] * 60, [5.0 if i < 30 else None for i in range(60)], SCORE, p=0.5)
    with pytest.raises(DataError, match="all labels so far are the same"):
        same.plan(0.1)


def test_a_score_without_bands_has_no_share() -> None:
    plain = ScoreTarget(kind="score", min=0, max=10)
    assert plain.all_estimands == ["mean"]
    assert SCORE.all_estimands == ["mean", "low", "moderate", "high"]


def test_brands_are_taken_together() -> None:
    brands = [["a"], ["b", "a"], [], ["c"], ["c", "b"], ["d"]] * 10
    together = {"first": ["A", "b"], "second": ["c", "nobody"]}
    posts = with_brand_groups(posts_of(60, brands=brands), together)
    assert posts["brand_group"].to_pylist()[:6] == [["first"], ["first"], [], ["second"], ["first", "second"], []]
    assert unknown_brands(posts, together) == ["nobody"]
    assert with_brand_groups(posts, {}) is posts
    values = [float(i % 6) for i in range(60)]
    labels = [value + 0.5 if i % 2 else value - 0.5 for i, value in enumerate(values)]
    task = ScoreTarget(kind="score", min=-1, max=7)
    est = estimator(values, labels, task, brands=brands, brand_group=posts["brand_group"].to_pylist())
    rows = {(r["by"], r["brand"], r["name"]): r for r in group_table(est, ["brand_group"], min_posts=5)}
    assert set(rows) == {("brand_group", "", "first"), ("brand_group", "", "second")}  # not within brands
    truth = np.mean([label for label, named in zip(labels, brands, strict=True) if {"a", "b"} & set(named)])
    assert rows["brand_group", "", "first"]["value"] == pytest.approx(truth)
    assert rows["brand_group", "", "first"]["posts"] == 30
    one = estimator(values, labels, task, brands=brands, brand_group=[["first"] if i % 2 else [] for i in range(60)])
    assert [row["name"] for row in group_table(one, ["brand_group"], min_posts=5)] == ["first"]  # alone, too
    assert ",".join(as_csv(group_table(one, ["brand_group"], min_posts=5))[0]).startswith(
        "by,name,brand,estimand,posts"
    )


def test_shares_of_eight_labels_are_covered_and_no_more() -> None:
    """All samples of 8 of 40 posts: what is known of the design is not paid for by Student's t on seven degrees."""
    n, m = 40, 8
    edges = []
    for positives in range(m + 1):
        y = (np.arange(m) < positives).astype(float)
        design = Design(n, np.arange(m), np.full(m, n / m), np.zeros(m, dtype=int), np.arange(n))
        everyone = sparse.csr_array(np.ones((1, n)))
        joint = estimate(design, everyone, y, np.zeros(n), are_shares=True, bounds=(0.0, 1.0))
        edges.append([float(edge[0]) for edge in joint.interval()])
    covered = [
        sum(hypergeom.pmf(k, n, has, m) for k, (low, high) in enumerate(edges) if low - 1e-9 <= has / n <= high + 1e-9)
        for has in range(2, n - 1)
    ]
    assert 0.93 < np.mean(covered) < 0.975
