"""Encoders as graphs: they say what PyTorch says, are kept, made anew where broken, and refused where they differ."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.config import ImageBranch, Student, TextBranch
from assay.encode import graph
from assay.encode.extract import Extractor, PostInputs
from assay.encode.image_encoders import load_image_encoder
from assay.encode.text_encoders import load_text_encoder
from assay.errors import SettingsError
from tests.checkpoints import save_clip
from tests.conftest import picture

TEXTS = ["a fine day", "", "never again, what a rude and careless place this is!", "ok " * 200]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    monkeypatch.setenv("ASSAY_RUNTIME", "openvino")
    return home / "graphs"


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def test_packaged_encoders_say_what_pytorch_says(fast: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (90 + 10 * i, 120, 3), dtype=np.uint8)) for i in range(11)]
    image = load_image_encoder(ImageBranch(encoder="packaged/efficientnet-lite0", views=["crop", "whole"]))
    text = load_text_encoder(TextBranch(encoder="packaged/minilm-l6", layers=[3, 6]))
    before = image.encode(pictures), text.encode(TEXTS)
    for encoder in (image, text):
        encoder.speed_up()
        assert encoder._graph is not None
    assert off(image.encode(pictures), before[0]) < 1e-4
    assert off(text.encode(TEXTS), before[1]) < 1e-4
    assert off(image.encode(pictures[:1]), before[0][:1]) < 1e-4
    kept = sorted(path.name for path in fast.iterdir())
    assert len(kept) == 2
    load_text_encoder(TextBranch(encoder="packaged/minilm-l6", layers=[3, 6])).speed_up()
    assert sorted(path.name for path in fast.iterdir()) == kept  # found again


def test_encoders_of_transformers_and_many_threads(fast: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    save_clip(folder)
    text = load_text_encoder(TextBranch(encoder=str(folder), max_tokens=16, pooling="pooler"))
    image = load_image_encoder(ImageBranch(encoder=str(folder)))
    before = text.encode(TEXTS[:3]), image.encode([Image.new("RGB", (40, 40), (i * 20, 9, 9)) for i in range(4)])
    text.speed_up()
    image.speed_up()
    assert image._graph is not None
    assert off(image.encode([Image.new("RGB", (40, 40), (i * 20, 9, 9)) for i in range(4)]), before[1]) < 1e-4
    found: list[np.ndarray] = [np.zeros(0)] * 8

    def ask(i: int) -> None:
        found[i] = text.encode(TEXTS[:3])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert all(off(one, before[0]) < 1e-4 for one in found)


def test_a_graph_has_run_before_threads_can_share_it(fast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first call is no place for two."""
    ran: list[tuple[int, str]] = []
    call = graph.Graph.__call__

    def counted(self: graph.Graph, given: dict[str, np.ndarray]) -> np.ndarray | None:
        ran.append((id(self), threading.current_thread().name))
        return call(self, given)

    monkeypatch.setattr(graph.Graph, "__call__", counted)
    for _ in range(2):  # made, and kept from before
        ran.clear()
        encoder = load_image_encoder(ImageBranch(encoder="packaged/colour-grid"))
        encoder.speed_up()
        assert (id(encoder._graph), threading.current_thread().name) in ran


def test_features_come_by_the_graph(fast: Path) -> None:
    student = Student.model_validate({"text": {"encoder": "packaged/minilm-l6"}})
    found, _ = Extractor(student, image_px=64)([PostInputs("a day", []), PostInputs("a night", [])])
    assert len(list(fast.iterdir())) == 1
    assert found.has_text.all()


def test_a_broken_graph_is_made_anew_and_another_refused(
    fast: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ImageBranch(encoder="packaged/colour-grid")
    encoder = load_image_encoder(settings)
    encoder.speed_up()
    assert encoder._graph is not None
    path = next(fast.iterdir()) / "graph.xml"
    path.write_text(path.read_text()[:200])
    encoder = load_image_encoder(settings)
    encoder.speed_up()
    assert encoder._graph is not None
    assert len(path.read_text()) > 200
    assert not capsys.readouterr().err

    convert = graph._convert
    monkeypatch.setattr(graph, "FORMAT", "other")

    def wrong(network: graph._Named, example: dict[str, torch.Tensor]) -> object:
        return convert(
            graph._Named(network.model, lambda given: 1.1 * network(*given.values()), list(example)), example
        )

    monkeypatch.setattr(graph, "_convert", wrong)
    encoder = load_image_encoder(settings)
    encoder.speed_up()
    assert encoder._graph is None
    assert "differs from PyTorch by" in capsys.readouterr().err
    assert encoder.encode([Image.new("RGB", (64, 64))]).shape == (1, 192)

    def broken(network: graph._Named, example: dict[str, torch.Tensor]) -> object:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(graph, "_convert", broken)
    encoder.speed_up()
    assert encoder._graph is None
    assert "no graph of this encoder (RuntimeError: no such operator); PyTorch is used" in capsys.readouterr().err


def test_what_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("ASSAY_RUNTIME", "tensorrt")
    with pytest.raises(SettingsError, match="ASSAY_RUNTIME=tensorrt: no such runtime; allowed: auto, torch, openvino"):
        graph.wanted()
    monkeypatch.setattr(graph, "_installed", lambda: None)
    monkeypatch.setenv("ASSAY_RUNTIME", "openvino")
    with pytest.raises(SettingsError, match="it is not installed"):
        graph.wanted()
    monkeypatch.setenv("ASSAY_RUNTIME", "auto")
    encoder = load_image_encoder(ImageBranch(encoder="packaged/colour-grid"))
    encoder.speed_up()
    assert encoder._graph is None
    assert picture()
    assert not (home / "graphs").exists()
