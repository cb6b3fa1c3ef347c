"""Two revisions compared: verdicts on students that are known to differ or not, findings that moved, revisions."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from assay.cli import compare as command
from assay.config import ClassesTarget, LabelsTarget, ScoreTarget
from assay.errors import DataError, SettingsError
from assay.measure.judged import Judged, as_columns, read_judged
from assay.measure.moved import moved
from assay.measure.pages import template
from assay.measure.paired import Pair, pair_up, verdicts
from assay.posts import write_table
from assay.scoring.compare import compare
from assay.scoring.revisions import opened
from assay.targets import Target
from tests.conftest import ROOT
from tests.estimators import estimator

SCORE = ScoreTarget(kind="score", min=0, max=10, bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])
LABELS = LabelsTarget(kind="labels", names=["x", "y"])


def pair_of(
    seed: int, *, off: float = 0.0, noise: float = 1.0, n: int = 300, seeds: int = 1, luck: float = 0.0
) -> Pair:
    """Scores, and two students that err alike; the second by `off` more, and each seed of either by its own luck."""
    random = np.random.default_rng(seed)
    y = np.clip(random.normal(5, 2, n), 0, 10)
    shared = random.normal(0, noise, n)

    def said(more: float) -> np.ndarray:
        own = random.normal(0, noise, n) * (1 + more)
        return np.asarray(y + (shared + own) / 2**0.5 + random.normal(0, luck))

    sides = [said(0.0) for _ in range(seeds)], [said(off) for _ in range(seeds)]
    return Pair(y, np.ones(n), np.arange(n) // 2, sides, ([None] * seeds, [None] * seeds))


def told(pair: Pair, **more: Any) -> dict[str, Any]:
    return {row["metric"]: row for row in verdicts(pair, SCORE, replicates=150, **more)}


def test_verdicts_on_what_is_known() -> None:
    better, worse = told(pair_of(1, off=-0.7, n=800)), told(pair_of(1, off=0.7, n=800))
    assert better["mae"]["verdict"] == better["rmse"]["verdict"] == "better"
    assert worse["mae"]["verdict"] == "worse"
    assert better["mae"]["difference"]["value"] > 0 > worse["mae"]["difference"]["value"]  # less error is better
    same = pair_of(2)
    twin = Pair(same.y, same.weights, same.group, (same.said[0], same.said[0]), same.cuts)
    assert {row["verdict"] for row in told(twin).values()} == {"equivalent"}
    assert told(pair_of(2, n=60))["mae"]["verdict"] == "not decided"
    assert told(pair_of(3, n=600), margin=0.2)["mae"]["verdict"] == "equivalent"
    assert told(pair_of(2, n=12))["mae"]["verdict"] == "not known"  # six groups


def test_equal_students_are_rarely_told_apart() -> None:
    """Of 80 pairs of equal students, some metric is called better or worse in about one of twenty."""
    wrong = sum(
        any(row["verdict"] in ("better", "worse") for row in told(pair_of(seed)).values()) for seed in range(80)
    )
    assert wrong <= 9


def test_the_luck_of_seeds_counts_where_it_is_known() -> None:
    """Equal recipes whose seeds differ: single fits are told apart, as they may be; recipes are not."""
    one = [told(pair_of(seed, luck=0.7))["mae"]["verdict"] for seed in range(30)]
    three = [told(pair_of(seed, luck=0.7, seeds=3))["mae"]["verdict"] for seed in range(30)]
    assert sum(one != "not decided" for one in one) > 8
    assert sum(one in ("better", "worse") for one in three) <= 5


@pytest.mark.parametrize("target", [SCORE, CLASSES, LABELS], ids=lambda target: target.kind)
def test_what_was_judged_comes_back(target: Target, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    n, width = 20, len(target.groups)
    y = {
        "score": random.uniform(0, 10, n),
        "classes": random.integers(0, width, n),
        "labels": random.integers(0, 2, (n, width)).astype(np.float32),
    }[target.kind]
    said = random.uniform(0, 1, n if target.kind == "score" else (n, width))
    test = Judged(y, random.uniform(1, 2, n), np.arange(n), said, {})
    test.seeds = {1: said, 7: said / 2}
    if target.kind == "labels":
        test.thresholds["student"] = np.array([0.4, 0.6])
        test.seed_thresholds = {1: np.array([0.4, 0.6]), 7: random.uniform(0, 1, (n, width))}
    ids = [str(i) for i in range(n)]
    write_table(pa.table({"post_id": ids} | as_columns(test)), tmp_path / "errors.parquet")
    again, back = read_judged(tmp_path / "errors.parquet", target)
    assert again == ids
    for name in ("y", "weights", "group", "student"):
        assert np.array_equal(getattr(back, name), getattr(test, name)), name
    assert all(np.array_equal(back.seeds[seed], test.seeds[seed]) for seed in (1, 7))
    if target.kind == "labels":
        assert np.array_equal(back.thresholds["student"], np.tile([0.4, 0.6], (n, 1)))
        assert np.array_equal(back.seed_thresholds[7], test.seed_thresholds[7])
    with pytest.raises(DataError, match="another target"):
        read_judged(tmp_path / "errors.parquet", CLASSES if target is not CLASSES else SCORE)
    write_table(pa.table({"post_id": ids}), tmp_path / "old.parquet")
    with pytest.raises(DataError, match="earlier version"):
        read_judged(tmp_path / "old.parquet", target)


def test_posts_are_paired_by_id() -> None:
    """In another order, with other posts beside them, and with groups that only one side knows."""
    y = np.arange(6.0)
    a = Judged(y, np.ones(6), np.array([0, 0, 1, 1, 2, 3]), y + 1, {})
    b = Judged(y[::-1].copy(), np.full(6, 2.0), np.array([9, 8, 7, 7, 5, 4]), y[::-1] - 1, {})
    pair, other = pair_up((list("abcdef"), a), (list("fedcxy"), b))
    assert other == 0
    assert pair.y.tolist() == [2, 3, 4, 5]
    assert (pair.said[0][0] - pair.y).tolist() == [1] * 4
    assert (pair.said[1][0] - pair.y).tolist() == [-1] * 4
    assert pair.weights.tolist() == [2.0] * 4
    c, d, e, f = pair.group.tolist()
    assert c == d
    assert len({d, e, f}) == 3
    with pytest.raises(DataError, match="held out by both"):
        pair_up((["a"], a), (["z"], b))


def test_a_difference_of_findings_is_known_better_than_the_findings() -> None:
    random = np.random.default_rng(4)
    y = random.uniform(0, 10, 400)
    labels = [float(v) if i < 200 else None for i, v in enumerate(y)]
    brands = [["A"] if i % 2 else ["B"] for i in range(400)]
    noise = random.normal(0, 2, 400)
    first, second = (
        estimator(np.clip(y + noise + more, 0, 10).tolist(), labels, SCORE, p=0.5, brands=brands)
        for more in (random.normal(0, 0.1, 400), random.normal(0, 0.1, 400))
    )
    rows = {row["estimand"]: row for row in moved(first, second)}
    mean = rows["mean"]
    assert mean["difference"]["value"] == pytest.approx(mean["b"]["value"] - mean["a"]["value"], abs=2e-4)
    width, apart = (mean[one]["high"] - mean[one]["low"] for one in ("a", "difference"))
    assert 0 < apart < width / 5
    assert [row["name"] for row in moved(first, second, "brand") if row["estimand"] == "mean"] == ["A", "B"]
    assert moved(first, first)[0]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(DataError, match="same posts"):
        moved(first, estimator([1.0] * 10, [1.0] * 10, SCORE))


@pytest.mark.slow
def test_differences_of_findings_hold() -> None:
    """Over samples of 150 of 600 posts, two students of known means: the true difference of both is 0."""
    random = np.random.default_rng(5)
    y = random.uniform(0, 10, 600)
    says = [np.clip(y + random.normal(more, 2, 600), 0, 10) for more in (0.5, -1.0)]
    held = 0
    for _ in range(150):
        drawn = random.permutation(600) < 150
        labels = [float(v) if one else None for v, one in zip(y, drawn, strict=True)]
        sides = [estimator(said.tolist(), labels, SCORE, p=0.25) for said in says]
        figure = moved(*sides)[0]["difference"]
        held += figure["low"] <= 0 <= figure["high"]
    assert 0.90 <= held / 150 <= 0.99


FOUND: dict[str, Any] = {
    "task": "t",
    "a": "HEAD",
    "b": "[red]mine[/red]<script>",
    "question": "another rubric",
    "changed": {
        "settings": [{"key": "tasks.t.train.lr", "a": 0.1, "b": None}],
        "rubric": True,
        "teacher": False,
        "corpus": False,
        "code": ["train"],
    },
    "labels": {"a": 9, "b": 9, "both": 8, "other": 3, "agreement": {"alpha": {"value": 0.5, "low": 0.4, "high": 1.0}}},
    "judged": {"a": 9, "b": 9, "both": 8},
    "scope": "these two fits alone",
    "metrics": [
        {
            "metric": "mae",
            "higher_is_better": False,
            "a": {"value": 1.0, "low": 0.9, "high": 1.1},
            "b": {"value": None, "low": None, "high": None},
            "difference": {"value": None, "low": None, "high": None},
            "margin": 0.1,
            "p": None,
            "verdict": None,
        }
    ],
    "findings": [
        {
            "estimand": "mean",
            "name": "all",
            "a": {"value": 1.0, "low": 0.9, "high": 1.1},
            "b": {"value": 2.0, "low": 1.9, "high": 2.1},
            "difference": {"value": 1.0, "low": 0.9, "high": 1.1},
            "p": 0.0,
            "decided": True,
        }
    ],
    "brands": [],
    "notes": ["findings: none"],
}  # fmt: skip


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    command._print(FOUND)
    shown = capsys.readouterr().out
    assert "[red]mine[/red]<script> against HEAD" in shown
    assert "another question: another rubric" in shown
    assert "no verdict" in shown
    assert "+1.000 [+0.900, +1.100]" in shown
    assert "moved" in shown
    assert "tasks.t.train.lr: 0.1 -> null" in shown
    made = template("compare.html").render(**FOUND)
    assert "[red]mine[/red]<script>" not in made
    assert "there is no verdict" in made
    assert "0.500" in made
    assert Console().encoding  # rich is there


def test_a_revision_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no git repository"), opened("HEAD", "t", tmp_path):
        pass
    subprocess.run("git init -q && git commit -qm a --allow-empty", shell=True, cwd=tmp_path, check=True)
    with pytest.raises(SettingsError, match="is no DVC repository"), opened("HEAD", "t", tmp_path):
        pass
    subprocess.run("dvc init -q && git add -A && git commit -qm b", shell=True, cwd=tmp_path, check=True)
    with pytest.raises(SettingsError, match="no revision 'nosuch'"), opened("nosuch", "t", tmp_path):
        pass
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    with pytest.raises(SettingsError, match=r"HEAD: params\.yaml"), opened("HEAD", "t", tmp_path):
        pass
    with pytest.raises(SettingsError, match="workspace has no task 't'; it has gender_bias"):
        compare("workspace", "HEAD", "t", root=tmp_path)
    with pytest.raises(DataError, match=r"workspace has no data/labels/sentiment\.parquet; run `dvc repro"):
        compare("workspace", "HEAD", "sentiment", root=tmp_path)
    with pytest.raises(SettingsError, match="--margin 2"):
        compare("workspace", "HEAD", "sentiment", root=tmp_path, margin=2)
