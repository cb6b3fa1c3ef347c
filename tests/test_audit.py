"""The audit's parts: prompts, tests and intervals on hand-worked cases, measures, verdicts, perceived bands."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import config
from assay.audit.findings import overall, verdict
from assay.audit.inference import Draws, mean_interval, mean_test, p_value, rank_correlation, reach
from assay.audit.measures import Measures, vendi
from assay.audit.perceived import _exact, _shares
from assay.audit.probe import Probe
from assay.audit.prompts import prompts, read_activities, take
from assay.audit.spaces import Space, _space
from assay.config import Audit, AuditEncoder, ImageBranch, Statistics
from assay.errors import DataError
from assay.measure.many import adjust
from tests.conftest import ROOT

ACTIVITIES = ROOT / "data/audits/age/activities.csv"
STATISTICS = Statistics(bootstrap=400, permutations=999, probe_permutations=199)


def shipped(**changes: Any) -> Audit:
    """The shipped audit with changes; `take`: of so many activities."""
    whole = config.load(ROOT / "params.yaml").audits["age"].model_dump(by_alias=True)
    if "take" in changes:
        changes["images"] = whole["images"] | {"take": changes.pop("take")}
    return Audit.model_validate(whole | changes)


def space(vectors: np.ndarray, there: np.ndarray | None = None, **settings: Any) -> Space:
    """A space of vectors [A, G, R, d], all replicates of one template."""
    there = np.ones(vectors.shape[:3:2], bool) if there is None else there
    encoder = AuditEncoder(image=ImageBranch(encoder="packaged/colour-grid"), **({"center": False} | settings))
    return _space("toy", "images", encoder, ["t"] * vectors.shape[2], vectors.astype(np.float32), there)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# ------------------------------------------------------------------------------------- prompts


def test_activities_are_many_and_carry_their_codes() -> None:
    import csv

    rows = list(csv.DictReader(ACTIVITIES.read_text(encoding="utf-8").splitlines()))
    assert len(rows) >= 500
    assert len({row["activity"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    assert len({row["category"] for row in rows}) == 10
    assert all(len(row["atus"]) == 4 and row["atus"].isdigit() for row in rows)
    assert all(len(row["hetus"]) == 2 and row["hetus"].isdigit() for row in rows)


def test_prompts_differ_in_the_words_for_the_group_alone() -> None:
    audit = shipped()
    found = prompts(audit, read_activities(ACTIVITIES)[:3])
    assert len(found) == 3 * 2 * 4
    by_group = {p.group: p.text for p in found[:4]}
    assert by_group == {
        "neutral": "An ultra realistic portrait photo of a person sleeping in a bed",
        "young": "An ultra realistic portrait photo of a 25 years-old young person sleeping in a bed",
        "middle": "An ultra realistic portrait photo of a 45 year-old middle-aged person sleeping in a bed",
        "older": "An ultra realistic portrait photo of a 75 years-old older person sleeping in a bed",
    }


def test_take_keeps_every_category_and_grows() -> None:
    activities = read_activities(ACTIVITIES)
    small, large = take(activities, 60, 1), take(activities, 120, 1)
    assert (len(small), len(large)) == (60, 120)
    assert len({one.category for one in small}) == 10
    assert len({a.id for a in small} & {a.id for a in large}) > 50
    assert take(activities, None, 1) == take(activities, 10_000, 1) == activities
    assert len(take(activities, 3, 1)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,activity\na,b\n", "lacks the column category"),
        ("id,category,activity\na,c,\n", "line 2: id, category and activity must not be empty"),
        ("id,category,activity\na,c,x\na,c,y\n", "line 3: the id 'a' was there before"),
        ("id,category,activity\n", "holds no activities"),
    ],
)
def test_broken_activities_are_told_by_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_activities(tmp_path / "a.csv")
    with pytest.raises(DataError, match="not there"):
        read_activities(tmp_path / "none.csv")


# ----------------------------------------------------------------------------------- inference


def test_sign_flips_equal_full_enumeration() -> None:
    values = np.array([0.9, -0.2, 0.4, 0.7, 0.1, -0.3, 0.8, 0.5])
    flips = np.array(list(itertools.product([-1, 1], repeat=len(values))))
    exact = float((np.abs(flips @ values) >= abs(values.sum()) - 1e-9).mean())
    found = mean_test(values, Draws.of(8, Statistics(permutations=20_000)), STATISTICS)
    assert found["p"] == pytest.approx(exact, abs=0.01)
    assert found["value"] == pytest.approx(0.3625)
    assert found["effect"] == pytest.approx(0.3625 / values.std(ddof=1))
    reach(found, 1, STATISTICS)
    # t quantiles of 7 degrees of freedom: (2.3646 + 0.8960) sd / sqrt(8)
    assert found["detectable"] == pytest.approx(3.2606 * values.std(ddof=1) / np.sqrt(8), rel=1e-3)
    reach(found, 7, STATISTICS)  # 2 / 2^8 is above 0.05 / 7
    assert found["detectable"] is None


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("none", [0.01, 0.04, 0.03]),
        ("holm", [0.03, 0.06, 0.06]),  # 3 x 0.01; 2 x 0.03; then 1 x 0.04, raised to 0.06
        ("bh", [0.03, 0.04, 0.04]),  # 0.01 x 3/1; 0.03 x 3/2 = 0.045, lowered to 0.04; 0.04
    ],
)
def test_corrections(method: str, wanted: list[float]) -> None:
    assert adjust([0.01, 0.04, 0.03], method) == pytest.approx(wanted)
    assert adjust([], method) == []


def test_p_value_counts_the_observed_and_ties() -> None:
    assert p_value(2.0, np.array([1.0, -2.0, 0.5])) == pytest.approx(2 / 4)
    assert p_value(2.0, np.array([1.0, -2.0, 0.5]), two_sided=False) == pytest.approx(1 / 4)


@pytest.mark.parametrize("n", [10, 40])
def test_intervals_hold_the_mean_as_often_as_they_say(n: int) -> None:
    """Over 400 skewed samples a 95 % interval may miss the mean up to 9 % of the time, as known for few units."""
    rng, held = np.random.default_rng(n), 0
    for _ in range(400):
        values = rng.exponential(size=n)
        low, high = mean_interval(values, Draws.of(n, STATISTICS).weights)
        held += low <= 1 <= high
    assert 0.90 <= held / 400 <= 0.99


@pytest.mark.parametrize(("value", "n"), [(0.7, 7), (0.1, 3), (0.0, 9), (1e-20, 11)])
def test_intervals_of_what_does_not_vary(value: float, n: int) -> None:
    low, high = mean_interval(np.full(n, value), Draws.of(n, STATISTICS).weights)
    assert low == high == pytest.approx(value)


def test_rank_correlation() -> None:
    x = np.arange(12.0)
    assert rank_correlation(x, x**3)["value"] == pytest.approx(1)
    assert rank_correlation(x, np.ones(12))["value"] is None
    found = rank_correlation(x, np.random.default_rng(0).permutation(x))
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["neutral", "young"], "comparisons": []}, "leave nothing to compare"),
        ({"groups": ["neutral", "a_vs_b", "older", "middle"]}, "'a_vs_b' must be made of letters and digits"),
        ({"reference": "nobody"}, "reference: 'nobody' is not there; allowed: neutral"),
        ({"comparisons": [["neutral", "young"]]}, "neither of them the reference"),
        ({"use": ["none"]}, "use: 'none' is not there"),
    ],
)
def test_settings_that_make_no_audit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shipped(**changes)


# ------------------------------------------------------------------------------------ measures


def test_lean_and_position_by_hand() -> None:
    """Reference at 30 degrees, groups at 0 and 90: cos 30 - cos 60, a third of the way."""
    angles = np.radians([30.0, 0.0, 90.0])
    one = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # [G, 2]
    found = Measures(space(np.broadcast_to(one[None, :, None], (6, 3, 1, 2)).copy()), STATISTICS)
    lean = found.lean(0, 1, 2)
    assert lean["value"] == pytest.approx(np.sqrt(3) / 2 - 0.5, abs=1e-5)
    # 1/2 - (0.366) / (2 (1 - 0)): the projection on the way from (1, 0) to (0, 1)
    assert lean["position"]["value"] == pytest.approx(0.5 - (np.sqrt(3) / 2 - 0.5) / 2, abs=1e-5)
    near = found.nearness(0, 1)
    assert near["same_seed"]["value"] == pytest.approx(np.sqrt(3) / 2, abs=1e-5)
    assert set(near) == {"same_seed"}  # one seed: no floor
    assert found.separation(1, 2)["value"] is None


def test_measures_against_plain_loops() -> None:
    """Nearness, floor, SC-WEAT, separation, dispersion and centroids of random vectors, written out once more."""
    vectors = noise((5, 3, 3, 4))
    toy = space(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    found = Measures(toy, STATISTICS)
    k = np.einsum("agrd,ahsd->agrhs", unit, unit)
    others = [(r, s) for r in range(3) for s in range(3) if r != s]
    assert found.nearness(0, 1)["same_seed"]["value"] == pytest.approx(
        np.mean([k[a, 0, r, 1, r] for a in range(5) for r in range(3)]), abs=1e-5
    )
    floor = np.mean([k[a, 0, r, 0, s] for a in range(5) for r, s in others])
    assert found.nearness(0, 1)["floor"]["value"] == pytest.approx(floor, abs=1e-5)
    differences = [k[a, 0, :, 1, :].mean() - k[a, 0, :, 2, :].mean() for a in range(5)]
    variances = [np.mean([np.var([*k[a, 0, r, 1], *k[a, 0, r, 2]], ddof=1) for r in range(3)]) for a in range(5)]
    wanted = np.mean(differences) / np.sqrt(np.mean(variances))
    assert found.single_category(0, 1, 2)["value"] == pytest.approx(wanted, abs=1e-4)
    contrast = k[:, 1, :, 1] + k[:, 2, :, 2] - k[:, 1, :, 2] - k[:, 2, :, 1]
    apart = np.mean([contrast[a, r, s] / 2 for a in range(5) for r, s in others])
    assert found.separation(1, 2)["value"] == pytest.approx(apart, abs=1e-5)
    means = unit.mean(2)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    across = 1 - np.mean([means[i, 1] @ means[j, 1] for i, j in pairs])
    assert found.dispersion(1)["across"]["value"] == pytest.approx(across, abs=1e-5)
    gaps = means[:, 1] - means[:, 2]
    squared = np.mean([gaps[i] @ gaps[j] for i, j in pairs])
    assert found.centroids(1, 2)["value"] == pytest.approx(np.sign(squared) * np.sqrt(abs(squared)), abs=1e-5)
    assert found.dispersion_gap(1, 2)["across"]["value"] == pytest.approx(
        across - (1 - np.mean([means[i, 2] @ means[j, 2] for i, j in pairs])), abs=1e-5
    )


def test_vendi_score_is_that_of_its_authors() -> None:
    from vendi_score import vendi as theirs

    vectors = noise((7, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vendi(vectors @ vectors.T) == pytest.approx(theirs.score_dual(vectors), rel=1e-6)
    assert vendi(np.ones((4, 4))) == pytest.approx(1)
    assert vendi(np.eye(4)) == pytest.approx(4)


def test_a_common_direction_is_taken_off_by_centring() -> None:
    vectors = noise((8, 3, 2, 16)) + 10
    raw, centred = (Measures(space(vectors, center=on), STATISTICS).nearness(0, 1) for on in (False, True))
    assert raw["same_seed"]["value"] > 0.97
    assert abs(centred["same_seed"]["value"]) < 0.2


def test_replicates_that_are_not_there_change_nothing() -> None:
    """Activities of one template less give the same figures as a space without the gap."""
    vectors = noise((6, 3, 2, 8))
    there = np.ones((6, 3), bool)
    there[:, 2] = False
    padded = np.concatenate([vectors, np.full((6, 3, 1, 8), 7.0)], axis=2)
    a = Measures(space(vectors), STATISTICS)
    b = Measures(space(np.where(there[:, None, :, None], padded, 0), there), STATISTICS)
    for name in ("lean", "single_category"):
        assert getattr(a, name)(0, 1, 2)["value"] == pytest.approx(getattr(b, name)(0, 1, 2)["value"], abs=1e-5)
    assert a.separation(1, 2)["value"] == pytest.approx(b.separation(1, 2)["value"], abs=1e-5)
    assert a.dispersion(1)["vendi"]["value"] == pytest.approx(b.dispersion(1)["vendi"]["value"], abs=1e-5)


def test_nothing_is_found_in_noise_and_a_shift_is() -> None:
    vectors = noise((40, 3, 2, 12), seed=3)
    found = Measures(space(vectors), STATISTICS)
    assert found.lean(0, 1, 2)["p"] > 0.05
    assert found.separation(1, 2)["p"] > 0.05
    assert found.centroids(1, 2)["p"] > 0.05
    vectors[:, 0, :, 0] += 2
    vectors[:, 1, :, 0] += 2
    found = Measures(space(vectors), STATISTICS)
    for figure in (found.lean(0, 1, 2), found.single_category(0, 1, 2), found.separation(1, 2), found.centroids(1, 2)):
        assert figure["p"] < 0.01
        assert figure["low"] > 0
        assert figure["value"] > figure["floor"]


def test_dispersion_tells_uniformity_from_shift() -> None:
    """A group that moved as a whole is not more uniform; one that shrank is."""
    base = noise((60, 1, 3, 12), seed=4)
    away = np.zeros(12)
    away[0] = 3
    moved, shrunk = base + away, 0.3 * base + away
    found = Measures(space(np.concatenate([base, moved, shrunk], axis=1)), STATISTICS)
    gap = found.dispersion_gap(2, 1)
    for name in ("across", "within", "vendi"):
        assert gap[name]["high"] < 0
        assert gap[name]["p"] < 0.01
    rejected = 0
    for seed in range(20):
        both = space(noise((60, 2, 3, 12), seed) + away)
        rejected += Measures(both, STATISTICS).dispersion_gap(1, 0)["across"]["p"] < 0.05
    assert rejected <= 4


def test_results_by_category_and_weat() -> None:
    vectors = noise((30, 3, 1, 10), seed=5)
    vectors[:10, 0, 0, 0] += 6
    vectors[:, 1, 0, 0] += 6  # the first ten activities lean toward the first group, the others do not
    names = ["a"] * 10 + ["b"] * 17 + ["c"] * 3
    found = Measures(space(vectors), STATISTICS).by_category(0, 1, 2, names, 5)
    assert found["a"]["low"] > 0
    assert found["a"]["weat"]["p"] < 0.01
    assert found["a"]["weat"]["value"] > 1
    assert found["c"] == {"value": None, "low": None, "high": None, "p": None, "activities": 3, "too_few": True}


def test_probe_reads_groups_of_unseen_activities_or_finds_chance() -> None:
    vectors = noise((40, 2, 2, 20), seed=6)
    draws = Draws.of(40, STATISTICS)
    chance = Probe(space(vectors), draws, STATISTICS).accuracy([0, 1])
    assert chance["p"] > 0.05
    assert chance["chance"] == 0.5
    vectors[:, 1, :, 3] += 4
    told = Probe(space(vectors), draws, STATISTICS).accuracy([0, 1])
    assert told["value"] > 0.9
    assert told["p"] == pytest.approx(1 / 200)


# ------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("figure", "wanted"),
    [
        ({"value": 0.2, "low": 0.1, "high": 0.3, "p_adjusted": 0.01}, "toward x"),
        ({"value": -0.2, "low": -0.3, "high": -0.1, "p_adjusted": 0.01}, "toward y"),
        ({"value": 0.2, "low": 0.1, "high": 0.3, "p_adjusted": 0.06}, "not decided"),
        ({"value": 0.2, "low": -0.1, "high": 0.3, "p_adjusted": 0.01}, "not decided"),
    ],
)
def test_verdict_needs_test_and_interval(figure: dict[str, float], wanted: str) -> None:
    assert verdict({"lean": figure}, "x", "y", 0.05) == wanted


def test_verdict_without_a_reference() -> None:
    apart = {"value": 0.2, "low": 0.1, "high": 0.3, "p_adjusted": 0.01}
    assert verdict({"centroids": apart}, "x", "y", 0.05) == "told apart"
    assert verdict({"centroids": apart | {"low": -0.1}}, "x", "y", 0.05) == "not decided"


@pytest.mark.parametrize(
    ("said", "wanted", "count"),
    [
        (["toward x", "toward x"], "toward x", 2),
        (["toward x", "not decided"], "toward x", 1),
        (["toward x", "toward y"], "not decided: encoders contradict each other", 0),
        (["not decided", "not decided"], "not decided", 2),
    ],
)
def test_overall_verdict(said: list[str], wanted: str, count: int) -> None:
    spaces = {
        str(i): {"kind": "images", "control": False, "comparisons": {"x_vs_y": {"verdict": one}}}
        for i, one in enumerate(said)
    }
    spaces["colour"] = {"kind": "images", "control": True, "comparisons": {"x_vs_y": {"verdict": "toward y"}}}
    spaces["words"] = {"kind": "prompts", "control": False, "comparisons": {"x_vs_y": {"verdict": "toward y"}}}
    told = {"verdict": wanted, "spaces_that_say_so": count, "spaces": len(said)}
    assert overall(spaces, "x_vs_y") == told | {"controls": []}  # another verdict, or none
    spaces["colour"]["comparisons"]["x_vs_y"]["verdict"] = "toward x"
    assert overall(spaces, "x_vs_y") == told | {"controls": ["colour"] if wanted == "toward x" else []}
    spaces["colour"]["comparisons"]["x_vs_y"]["verdict"] = "not decided"
    assert overall(spaces, "x_vs_y") == told | {"controls": []}


# ----------------------------------------------------------------------------- perceived bands


@pytest.mark.slow
def test_shares_are_corrected_and_their_intervals_hold() -> None:
    """A student that calls a tenth of all wrongly: its own share is off, the corrected one holds the truth."""
    audit = shipped()
    assert audit.perceived is not None
    rng, held, width, plain, truth = np.random.default_rng(0), 0, 0.0, 0.0, 0.3
    for _ in range(150):
        activity = np.repeat(np.arange(100), 4)
        y = (rng.random(400) < truth).astype(int)
        wrong = rng.random(400) < 0.2
        f = np.where(wrong & (y == 0), 0.9, np.where(y == 1, 0.9, 0.1))
        known = np.where(rng.permutation(400) < 100, y, -1)
        predicted = np.stack([1 - f, f, np.zeros(400)], axis=1)
        place = np.stack([activity, np.zeros(400, int), np.zeros(400, int)], axis=1)
        found = _shares(predicted, known, place, 0, audit.perceived, audit)[audit.perceived.names[1]]
        held += found["low"] <= truth <= found["high"]
        width += found["high"] - found["low"]
        plain += found["labelled_only"]["high"] - found["labelled_only"]["low"]
        assert found["student_only"] > 0.37
    assert 0.88 <= held / 150 <= 1.0
    assert width < 0.9 * plain


def test_all_or_none_is_not_certain() -> None:
    low, high = _exact(np.ones(20), 20)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 20))
    assert _exact(np.zeros(20), 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
