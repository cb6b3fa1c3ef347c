"""Posts that are unlike those a student learnt from: the level holds, foreign posts are named, odd files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.errors import ModelError
from assay.student.familiar import FILE, Familiar


def cloud(count: int, seed: int, *, shift: float = 0.0, dims: int = 300) -> np.ndarray:
    """Posts around a few directions of many, as features lie."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(12, dims))
    found = rng.normal(size=(count, 12)) @ basis + rng.normal(size=(count, dims)) + 3
    found[:, : dims // 6] += shift
    return found.astype(np.float32)


def everywhere(count: int) -> dict[str, np.ndarray]:
    return dict.fromkeys(("image", "text"), np.ones(count, bool))


def test_the_level_holds_and_foreign_posts_are_named() -> None:
    shares, foreign = [], []
    for seed in range(20):
        train, held, new = (cloud(n, 10 * seed + i) for i, n in enumerate((300, 200, 400)))
        found = Familiar.fit({"image": train, "text": train[:, ::-1]}, {"image": held, "text": held[:, ::-1]})
        assert found is not None
        shares.append(float(found({"image": new, "text": new[:, ::-1]}, everywhere(400))[1].mean()))
        other = cloud(400, seed, shift=6.0)
        foreign.append(float(found({"image": other, "text": other[:, ::-1]}, everywhere(400))[1].mean()))
    assert np.mean(shares) <= 0.012, "at most about one in a hundred ordinary posts"
    assert np.mean(foreign) > 0.95


def test_p_values_are_uniform_or_larger() -> None:
    pooled = []
    for seed in range(30):
        found = Familiar.fit({"text": cloud(200, 3 * seed)}, {"text": cloud(99, 3 * seed + 1)})
        assert found is not None
        pooled.append(found({"text": cloud(100, 3 * seed + 2)}, {"text": np.ones(100, bool)})[0])
    p = np.concatenate(pooled)
    for level in (0.02, 0.05, 0.1, 0.25, 0.5):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 30 / 30)


def test_one_modality_alone_and_none() -> None:
    found = Familiar.fit({"image": cloud(100, 1), "text": cloud(100, 2)}, {"image": cloud(60, 3), "text": cloud(60, 4)})
    assert found is not None
    both = {"image": cloud(3, 5), "text": cloud(3, 6)}
    has = {"image": np.array([True, False, False]), "text": np.array([True, True, False])}
    p, unlike = found(both, has)
    alone = found.seen["text"].p_values(both["text"][1:2])
    assert p[1] == alone[0], "a single modality is not doubled"
    assert np.isnan(p[2])
    assert not unlike[2]
    assert 0 < p[0] <= 1


def test_too_few_posts_say_nothing() -> None:
    assert Familiar.fit({"text": cloud(19, 1)}, {"text": cloud(60, 2)}) is None
    assert Familiar.fit({"text": cloud(60, 1)}, {"text": cloud(49, 2)}) is None
    same = Familiar.fit({"text": np.ones((40, 8), np.float32)}, {"text": np.ones((60, 8), np.float32)})
    assert same is not None
    rows = np.ones((2, 8), np.float32) * np.array([[1], [-1]], np.float32)
    p, unlike = same({"text": rows}, {"text": np.ones(2, bool)})
    assert p.tolist() == [1, pytest.approx(1 / 61)]
    assert unlike.tolist() == [False, True]


def test_the_modality_with_few_held_out_posts_decides_for_its_own_alone() -> None:
    texts, both = [], []
    for seed in range(24):
        found = Familiar.fit(
            {"image": cloud(200, seed), "text": cloud(200, seed + 50)},
            {"image": cloud(60, seed + 100), "text": cloud(800, seed + 150)},
        )
        assert found is not None
        new = {"image": cloud(500, seed + 200), "text": cloud(500, seed + 250)}
        alone = {"image": np.zeros(500, bool), "text": np.ones(500, bool)}
        texts.append(float(found(new, alone)[1].mean()))
        both.append(float(found(new, everywhere(500))[1].mean()))
    assert np.mean(texts) <= 0.013, "a text alone is judged by the 800 texts"
    assert np.mean(both) <= 1 / 61 + 0.005 + 0.012, "beyond all 60 pictures, or half of the level for the text"


def test_it_lies_in_the_model_folder(tmp_path: Path) -> None:
    assert Familiar.load(tmp_path, {"text": 300}) is None
    made = Familiar.fit({"text": cloud(100, 1)}, {"text": cloud(60, 2)})
    assert made is not None
    made.save(tmp_path)
    back = Familiar.load(tmp_path, {"text": 300})
    assert back is not None
    new, has = {"text": cloud(50, 3)}, {"text": np.ones(50, bool)}
    assert np.array_equal(made(new, has)[0], back(new, has)[0])
    assert (tmp_path / FILE).stat().st_size < 100_000


@pytest.mark.parametrize("fault", ["size", "nan", "name", "variance", "empty", "cut", "dtype"])
def test_a_file_that_does_not_fit(tmp_path: Path, fault: str) -> None:
    made = Familiar.fit({"text": cloud(100, 1)}, {"text": cloud(60, 2)})
    assert made is not None
    made.save(tmp_path)
    tensors = load_file(tmp_path / FILE)
    if fault == "size":
        tensors["text.mean"] = tensors["text.mean"][1:]
    elif fault == "nan":
        tensors["text.basis"][0, 0] = np.nan
    elif fault == "name":
        tensors["sound.mean"] = tensors.pop("text.mean")
    elif fault == "variance":
        tensors["text.variance"][0] = -1
    elif fault == "empty":
        tensors["text.held"] = np.zeros(0, np.float32)
    elif fault == "dtype":
        tensors["text.held"] = tensors["text.held"].astype(np.int32)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, tmp_path / FILE)
    if fault == "cut":
        (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    with pytest.raises(ModelError, match="train again"):
        Familiar.load(tmp_path, {"text": 300})
