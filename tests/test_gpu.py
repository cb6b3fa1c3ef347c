"""What a GPU computes is what a processor computes, and what learns on one is used on the other; skipped without one.

Tests of other files run on the GPU by themselves where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.config import ImageBranch, TextBranch
from assay.encode import encoders
from assay.encode.image_encoders import load_image_encoder
from assay.encode.text_encoders import load_text_encoder
from assay.scoring.predict import Predictor
from tests import checkpoints
from tests.conftest import picture
from tests.test_sections import SHIPPED, Task, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA here")

NEAR = 0.02  # of a vector's length: bf16 has 8 bits


def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, as on a machine without a GPU."""
    monkeypatch.setitem(encoders.GPUS, "cuda", lambda: False)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far vectors are apart, in their own length; the furthest."""
    lengths = np.linalg.norm(other, axis=1).clip(1e-6)
    return float((np.linalg.norm(one - other, axis=1) / lengths).max())


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    rough = [Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)) for _ in range(9)]
    return [one.resize((300, 200), Image.Resampling.BICUBIC) for one in rough]


@pytest.mark.parametrize("save", [checkpoints.save_clip, checkpoints.save_siglip, checkpoints.save_vit])
def test_image_encoders_see_the_same(save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    settings = ImageBranch(encoder=str(tmp_path), views=["crop", "whole"], layers=[1])
    encoder = load_image_encoder(settings)
    assert encoder.device.type == "cuda"
    on_cpu(monkeypatch)
    assert apart(encoder.encode(pictures()), load_image_encoder(settings).encode(pictures())) < NEAR


def test_the_packaged_image_encoder_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ImageBranch(encoder="packaged/efficientnet-lite0", layers=[5, 6, 7], views=["crop", "whole"])
    seen = load_image_encoder(settings).encode(pictures())
    on_cpu(monkeypatch)
    assert apart(seen, load_image_encoder(settings).encode(pictures())) < NEAR


def test_the_packaged_text_encoder_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TextBranch(encoder="packaged/minilm-l6", layers=[3, 4, 5, 6])
    texts = ["A man is eating food.", "so", "Someone has a meal. " * 9, "na ja"]
    read = load_text_encoder(settings).encode(texts)
    on_cpu(monkeypatch)
    assert apart(read, load_text_encoder(settings).encode(texts)) < NEAR


@pytest.fixture(scope="module")
def task(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / "home"))
        return Task("sentiment", folder, drawn)


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"precision": "fp16", "ema": 0.9},
        {"precision": "fp32", "grad_checkpointing": True, "augment": "meme"},
        {"compile": True, "grad_accumulation": 2},
    ],
    ids=["bf16", "fp16 and averaged weights", "checkpointed", "compiled"],
)
def test_encoders_that_learnt_on_a_gpu_answer_on_a_processor(
    train: dict[str, Any], task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = tiny(SHIPPED.students["clip_gated"], tmp_path)
    learning = {
        name: getattr(student, name).model_copy(update={"frozen": False, "lora": None}) for name in ("image", "text")
    }
    folder = task.learn(student.model_copy(update=learning), tmp_path / "learnt", device="cuda", **train)
    posts: list[tuple[str, list[bytes]]] = [(text, []) for text in ("good day", "bad", "good bad day")]
    posts += [("good", [picture(size=(80, 60))]), ("", [picture(size=(40, 90))])]
    there = [one.probabilities or {} for one in Predictor.load(folder, cached=False).predict_many(posts)]
    on_cpu(monkeypatch)
    here = [one.probabilities or {} for one in Predictor.load(folder, cached=False).predict_many(posts)]
    assert there
    assert [sorted(one) for one in there] == [sorted(one) for one in here]
    for one, other in zip(there, here, strict=True):
        assert max(abs(one[name] - other[name]) for name in one) < NEAR


def test_frozen_students_of_cross_fitting_learn_on_a_gpu(task: Task, tmp_path: Path) -> None:
    student = tiny(SHIPPED.students["clip_gated"], tmp_path)
    frozen = {name: getattr(student, name).model_copy(update={"frozen": True}) for name in ("image", "text")}
    folder = task.learn(student.model_copy(update=frozen), tmp_path / "frozen", device="cuda")
    assert len(Predictor.load(folder).trained.model.members) == 2
    assert 0 <= task.judged(tmp_path / "frozen")["accuracy"]["value"] <= 1
