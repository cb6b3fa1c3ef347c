"""The lean over all images: by hand, its power, and what it leaves undecided; the probe's folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.audit.findings import verdict
from assay.audit.measures import Measures, studentised
from assay.audit.probe import Probe
from tests.test_audit import STATISTICS, noise, space


def test_the_lean_over_all_images_is_the_projection_on_the_way_between_groups() -> None:
    """By hand from pairs of different activities; a kernel's error is that of its jackknife."""
    vectors = noise((9, 3, 1, 6), seed=8)
    made = space(vectors, center=False)
    assert made.vectors is not None
    n, a, b = (made.vectors[:, i, 0].astype(float) for i in range(3))
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    by_hand = np.mean([(n[i] - (a[i] + b[i]) / 2) @ (a[j] - b[j]) for i, j in pairs])
    way = np.mean([(a[i] - b[i]) @ (a[j] - b[j]) for i, j in pairs])
    found = Measures(made, STATISTICS).lean_all(0, 1, 2)
    assert found["value"] == pytest.approx(by_hand, abs=1e-6)
    assert (
        found["position"]["value"] is None
        if way <= 0
        else found["position"]["value"] == pytest.approx(0.5 - by_hand / way, rel=1e-4)
    )
    products = np.random.default_rng(2).normal(size=(30, 30)) + np.random.default_rng(3).normal(size=30)
    signs = np.vstack([np.ones(30), np.random.default_rng(4).choice([-1.0, 1.0], size=(5, 30))])
    means, errors = studentised(products, signs)
    for row, mean in zip(signs, means, strict=True):
        own = products * row
        assert mean == pytest.approx((own.sum() - np.trace(own)) / 870)
    even = (products + products.T) / 2
    left = [np.delete(np.delete(even, i, 0), i, 1) for i in range(30)]
    jackknife = np.array([(one.sum() - np.trace(one)) / (29 * 28) for one in left])
    assert errors[0] == pytest.approx(np.sqrt(29 / 30 * ((jackknife - jackknife.mean()) ** 2).sum()), rel=0.15)


def test_the_lean_over_all_images_sees_more_and_is_no_lean_halfway() -> None:
    """Forty images a group: a shift that one image a pair hardly shows; a reference between two groups, one of them
    tighter than the other, has none; neither has one where nothing differs."""
    found: dict[str, list[dict[str, Any]]] = {"shift": [], "one each": [], "halfway": [], "nothing": []}
    for seed in range(40):
        vectors = noise((40, 3, 1, 24), seed)
        found["nothing"].append(Measures(space(vectors), STATISTICS).lean_all(0, 1, 2))
        vectors[:, 1, :, 0] += 1.2
        vectors[:, 2, :, 0] -= 1.2
        vectors[:, 1] *= 0.6
        found["halfway"].append(Measures(space(vectors), STATISTICS).lean_all(0, 1, 2))
        vectors[:, 0, :, 0] += 0.6
        measures = Measures(space(vectors), STATISTICS)
        found["shift"].append(measures.lean_all(0, 1, 2))
        found["one each"].append(measures.lean(0, 1, 2))
    decided = {
        name: sum(one["p"] < 0.05 and not one["low"] <= 0 <= one["high"] for one in every)
        for name, every in found.items()
    }
    assert decided["shift"] >= 32
    assert decided["shift"] > decided["one each"]
    assert decided["nothing"] <= 6
    assert decided["halfway"] <= 6


def test_a_verdict_follows_either_lean_and_none_where_they_contradict() -> None:
    no = {"value": 0.2, "low": -0.1, "high": 0.3, "p_adjusted": 0.2}
    yes = {"value": 0.2, "low": 0.1, "high": 0.3, "p_adjusted": 0.01}
    assert verdict({"lean": no, "lean_all": yes}, "x", "y", 0.05) == "toward x"
    assert verdict({"lean": yes, "lean_all": no}, "x", "y", 0.05) == "toward x"
    against = yes | {"value": -0.2, "low": -0.3, "high": -0.1}
    assert verdict({"lean": yes, "lean_all": against}, "x", "y", 0.05) == "not decided"
    assert verdict({"lean": no, "lean_all": no}, "x", "y", 0.05) == "not decided"


def test_the_probe_is_the_same_for_any_number_of_permutations() -> None:
    made = space(noise((23, 3, 1, 12), seed=6))
    draws = Measures(made, STATISTICS).draws
    told = [
        Probe(made, draws, STATISTICS.model_copy(update={"probe_permutations": count})).accuracy([1, 2])["value"]
        for count in (19, 99, 199)
    ]
    assert len(set(told)) == 1
