"""Human codes as a third level: by hand, by simulation, and from the labels table to the report's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.config import ClassesTarget, ScoreTarget
from assay.errors import DataError
from assay.measure.estimator import Estimator
from assay.measure.findings import brand_table, findings
from assay.measure.people import NOT_SHARED, ONE_CODER
from assay.teacher.quality import read_chances, read_humans, write_humans, write_people
from tests.estimators import estimator

SCORE = ScoreTarget(kind="score", min=0, max=10, bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
CLASSES = ClassesTarget(kind="classes", names=["yes", "no"])


def codes(said: dict[int, dict[str, Any]], p: float | None) -> pa.Table:
    rows = [[{"coder": coder, "value": value} for coder, value in own.items()] for own in said.values()]
    return pa.table(
        {"post_id": [str(i) for i in said], "people": rows, "people_p": pa.array([p] * len(rows), pa.float64())}
    )


def test_people_by_hand() -> None:
    """The teacher says 1 more than people of every post: the mean goes down by 1, exactly."""
    labels = [float(i % 5 + 2) if i < 40 else None for i in range(60)]
    est = estimator([float(i % 5 + 3) for i in range(60)], labels, SCORE, p=2 / 3)
    found = est.human(codes({i: {"x": labels[i] - 1} for i in range(20)}, 0.5))
    row = found.rows[0]
    assert row["bias"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert row["decided"]
    assert row["people"]["value"] == pytest.approx(row["teacher"]["value"] - 1, abs=1e-4)
    assert (found.coded, found.coders, found.coder_sd, found.note) == (20, 1, None, ONE_CODER)


def world(rng: np.random.Generator, n: int = 3000) -> dict[str, np.ndarray]:
    """People's means, a teacher that is a point harder on brand C, a student of the teacher."""
    brand = rng.integers(0, 3, n)
    people = np.clip(rng.normal(5, 2, n), 0, 10)
    teacher = np.clip(people + np.array([0.0, 0.0, 1.0])[brand] + 0.2 + rng.normal(0, 0.7, n), 0, 10)
    return {
        "brand": brand,
        "people": people,
        "teacher": teacher,
        "student": np.clip(teacher + rng.normal(0.3, 1, n), 0, 10),
    }


def drawn(
    rng: np.random.Generator, posts: dict[str, np.ndarray], labels: int, count: int
) -> tuple[Estimator, np.ndarray]:
    order = rng.permutation(len(posts["brand"]))[:labels]
    known = set(order.tolist())
    values = [float(v) if i in known else None for i, v in enumerate(posts["teacher"])]
    brands = [["ABC"[one]] for one in posts["brand"]]
    return estimator(posts["student"].tolist(), values, SCORE, p=labels / len(values), brands=brands), order[:count]


@pytest.mark.slow
def test_three_levels_hold() -> None:
    rng = np.random.default_rng(0)
    posts = world(rng)
    truth = posts["people"].mean()
    bias = [(posts["teacher"] - posts["people"])[posts["brand"] == one].mean() for one in range(3)]
    held, biases, by_teacher, widths = [], [], [], []
    for _ in range(120):
        est, chosen = drawn(rng, posts, 500, 150)
        found = est.human(codes({i: {"x": float(posts["people"][i])} for i in chosen}, 0.3), by="brand")
        own = found.rows[0]
        held.append(own["people"]["low"] <= truth <= own["people"]["high"])
        by_teacher.append(own["teacher"]["low"] <= truth <= own["teacher"]["high"])
        widths.append((own["people"]["high"] - own["people"]["low"]) / (3.92 * posts["people"].std() / 150**0.5))
        biases += [r["bias"]["low"] <= b <= r["bias"]["high"] for r, b in zip(found.rows[1:], bias, strict=True)]
        assert found.rows[3]["decided"]  # brand C
    assert 0.90 <= np.mean(held) <= 0.99
    assert 0.92 <= np.mean(biases) <= 0.98
    assert np.mean(by_teacher) < 0.1  # the teacher's own interval is about what the teacher says
    assert np.mean(widths) < 0.6  # of a survey of people alone


@pytest.mark.slow
def test_people_who_differ_widen_what_is_known() -> None:
    rng = np.random.default_rng(1)
    posts = world(rng)
    truth, spreads, held, alone = posts["people"].mean(), [], [], []
    for _ in range(80):
        est, chosen = drawn(rng, posts, 500, 150)
        habits = rng.normal(0, 0.5, 6)
        said = {
            i: {
                f"c{c}": float(np.clip(posts["people"][i] + habits[c] + rng.normal(0, 0.5), 0, 10))
                for c in rng.permutation(6)[:2]
            }
            for i in chosen
        }
        found = est.human(codes(said, 0.3))
        own = found.rows[0]["people"]
        held.append(own["low"] <= truth <= own["high"])
        assert found.coder_sd is not None
        spreads.append(found.coder_sd)
        one = est.human(codes({i: dict([next(iter(answers.items()))]) for i, answers in said.items()}, 0.3))
        assert one.note == NOT_SHARED
        alone.append(one.rows[0]["people"]["low"] <= truth <= one.rows[0]["people"]["high"])
    assert np.mean(spreads) == pytest.approx(0.5, abs=0.08)
    assert 0.88 <= np.mean(held) <= 1
    assert np.mean(alone) < np.mean(held)


def test_a_brand_that_one_person_coded_has_that_persons_habit() -> None:
    """Six people, each with a brand of their own and a tenth of the posts shared by all; the teacher is right."""
    rng, decided = np.random.default_rng(6), 0
    for _ in range(30):
        brand = rng.integers(0, 6, 1200)
        truth = np.clip(rng.normal(5, 1.5, 1200), 0, 10)
        est = estimator(truth.tolist(), truth.tolist(), SCORE, brands=[[f"B{one}"] for one in brand])
        habits = rng.normal(0, 0.5, 6)
        said = {
            i: {f"c{c}": float(truth[i] + habits[c]) for c in (range(6) if i % 10 == 0 else [brand[i]])}
            for i in rng.permutation(1200)[:400].tolist()
        }
        decided += any(row["decided"] for row in est.human(codes(said, 1 / 3), by="brand").rows)
    assert decided <= 5


def test_classes_and_posts_like_these() -> None:
    rng = np.random.default_rng(2)
    labels = ["yes" if one else "no" for one in rng.random(300) < 0.3]
    said = {i: {"x": labels[i] if i % 5 else "yes"} for i in range(100)}
    est = estimator(labels, labels, CLASSES, target="posts_like_these", author=[f"u{i // 3}" for i in range(300)])
    row = est.human(codes(said, 1 / 3), estimand="yes").rows[0]
    assert row["people"]["low"] < row["people"]["value"] < row["people"]["high"] <= 1
    assert row["bias"]["value"] < 0
    assert est.human(codes(said, 1 / 3), estimand="no").rows[0]["bias"]["value"] == pytest.approx(-row["bias"]["value"])


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    est = estimator([5.0] * 40, [5.0] * 40, SCORE)
    with pytest.raises(DataError, match="nobody coded a labelled post"):
        est.human()
    with pytest.raises(DataError, match="nobody coded a labelled post"):
        est.human(codes({99: {"x": 1.0}}, 0.5))
    with pytest.raises(DataError, match="none of 10 coded posts has a chance to be coded"):
        est.human(codes({i: {"x": 1.0} for i in range(10)}, None))
    with pytest.raises(DataError, match=r"p is 1\.5"):
        est.human(codes({1: {"x": 1.0}}, 1.5))
    learnt = estimator([5.0] * 40, [5.0] * 40, SCORE, learnt=[True] * 20 + [False] * 20, held_out_p=0.5)
    with pytest.raises(DataError, match="needs a student of cross-fitting"):
        learnt.human(codes({30: {"x": 1.0}}, 0.5))
    picked = codes({i: {"y": 0.0} for i in range(20, 30)}, None)
    both = pa.concat_tables([codes({i: {"x": 4.0} for i in range(10)}, 0.5), picked])
    assert est.human(both).coded == 10, "posts that were picked have no part"
    few = est.human(codes({i: {"x": 1.0} for i in range(3)}, 0.5)).rows[0]
    assert few["people"]["value"] is None
    path = tmp_path / "t.csv"
    path.write_text("post_id,coder,value,p\na,x,1,2\n")
    with pytest.raises(DataError, match=r"line 2: p is '2', must be above 0"):
        read_chances(path)


def test_codes_go_into_a_table_of_their_own(tmp_path: Path) -> None:
    write_humans(tmp_path / "t.csv", {"a": {"1": 4.0, "2": 5.0}, "b": {"1": 3.0}}, {"a": 0.25})
    assert write_people(tmp_path / "t.csv", SCORE, tmp_path / "t.parquet") == read_humans(tmp_path / "t.csv", SCORE)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == [
        {"post_id": "a", "people": [{"coder": "1", "value": 4.0}, {"coder": "2", "value": 5.0}], "people_p": 0.25},
        {"post_id": "b", "people": [{"coder": "1", "value": 3.0}], "people_p": None},
    ]
    write_people(tmp_path / "none.csv", CLASSES, tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_findings_tell_of_people() -> None:
    rng = np.random.default_rng(3)
    posts = world(rng)
    est, chosen = drawn(rng, posts, 500, 200)
    est.codes = codes({i: {"x": float(posts["people"][i])} for i in chosen}, 0.4)
    predictions = est.predictions
    table, rankings = brand_table(est, est.posts, min_posts=10)
    found = findings(est, predictions, table, rankings, min_posts=10)
    assert found["people"]["coded"] == 200
    assert [row["name"] for row in found["people"]["by"]["mean"]] == ["all", "A", "B", "C"]
    assert any(words.startswith("By people's codes the mean score would be") for words in found["answers"])
    assert "Of C the teacher says more than people do (the mean score)." in found["answers"]
    est.codes = codes({i: {"x": 1.0} for i in chosen}, None)
    found = findings(est, predictions, table, rankings, min_posts=10)
    assert "has a chance to be coded" in found["people"]["why_not"]
