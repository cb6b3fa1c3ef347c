"""Students: encoders of every source, missing modalities, learning, resuming, saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.config import ClassesTarget, Head, ImageBranch, ScoreTarget, Student, TextBranch, Train
from assay.errors import DataError, EncoderError, ModelError
from assay.student import encoders
from assay.student.features import Extractor, Features, PostInputs
from assay.student.fit import Part, fit
from assay.student.model import StudentModel, Trained, load_trained
from tests.conftest import picture

SCORE = ScoreTarget(kind="score")
CLASSES = ClassesTarget(kind="classes", names=["a", "b", "c"])
PACKAGED = Student(
    image=ImageBranch(encoder="packaged/efficientnet-lite0"), text=TextBranch(encoder="packaged/minilm-l6")
)
SMALL = Student(image=PACKAGED.image, text=PACKAGED.text, head=Head(hidden=[16], dropout=0.1))


# ---------------------------------------------------------------------------------------- encoders


def test_packaged_image_encoder_sees_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights with their classifier still name a drawn traffic-light-like scene consistently:
    two crops of one picture are closer than two pictures."""
    encoder = encoders.load_image_encoder(ImageBranch(encoder="packaged/efficientnet-lite0"))
    rng = np.random.default_rng(0)
    a, b = (Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize((300, 260)) for _ in range(2))
    vectors = encoder.encode([a, a.crop((8, 8, 292, 252)), b])
    assert vectors.shape == (3, 1280)
    cosine = np.corrcoef(vectors)
    assert cosine[0, 1] > 0.9 > cosine[0, 2]
    assert encoder.pixels(Image.new("RGB", (50, 500))).shape == (3, 224, 224)
    monkeypatch.setattr(encoders, "EFFICIENTNET_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not the expected 0000"):
        encoders.load_image_encoder(ImageBranch(encoder="packaged/efficientnet-lite0"))


def test_packaged_text_encoder_knows_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoders.load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell."]
    vectors = encoder.encode(texts)
    cosine = np.corrcoef(vectors)
    assert vectors.shape == (3, 384)
    assert cosine[0, 1] > 0.5 > cosine[0, 2]
    assert np.allclose(encoder.encode(texts[::-1])[::-1], vectors, atol=1e-4)
    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not the expected"):
        encoders.load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))


def _save_resnet(folder: Path) -> None:
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext import ConvNextImageProcessor

    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875).save_pretrained(folder)


def _save_vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def _save_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    words = {
        "hidden_size": 12,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 300,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    CLIPModel(CLIPConfig(vision_config=vision, text_config=words)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def _save_timm(folder: Path) -> None:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("test_resnet", num_classes=0), folder)


@pytest.mark.parametrize(
    "save", [_save_resnet, _save_vit, _save_clip, _save_timm], ids=["resnet", "vit", "clip", "timm"]
)
def test_image_encoders_load_from_a_folder(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "m")
    encoder = encoders.load_image_encoder(ImageBranch(encoder=str(tmp_path / "m")))
    vectors = encoder.encode([Image.new("RGB", (70, 50), c) for c in ("red", "blue")])
    assert vectors.shape == (2, encoder.dim)
    assert np.isfinite(vectors).all()
    assert encoders.load_image_encoder(ImageBranch(encoder=str(tmp_path / "m"))).identity == encoder.identity


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "day", "bad"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


@pytest.mark.parametrize("kind", ["distilbert", "bert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_text_encoders_load_from_a_folder(kind: str, pooling: Any, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

    if kind == "distilbert":
        model: Any = DistilBertModel(DistilBertConfig(vocab_size=10, dim=16, n_layers=1, n_heads=2, hidden_dim=16))
    else:
        model = BertModel(
            BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        )
    model.save_pretrained(tmp_path)
    _tokenizer(tmp_path)
    encoder = encoders.load_text_encoder(TextBranch(encoder=str(tmp_path), max_tokens=8, pooling=pooling))
    vectors = encoder.encode(["good day", "bad", "good day " * 40])
    assert vectors.shape == (3, 16)
    assert np.allclose(encoder.encode(["good day"])[0], vectors[0], atol=1e-5)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            lambda: encoders.load_image_encoder(ImageBranch(encoder="packaged/nothing")),
            "allowed: packaged/efficientnet-lite0",
        ),
        (lambda: encoders.load_text_encoder(TextBranch(encoder="packaged/nothing")), "allowed: packaged/minilm-l6"),
        (
            lambda: encoders.load_text_encoder(TextBranch(encoder="packaged/minilm-l6", max_tokens=1024)),
            "max_tokens 1024 is over the 512",
        ),
        (lambda: encoders.load_image_encoder(ImageBranch(encoder="timm/no_such_model")), "cannot be loaded"),
        (lambda: encoders.load_text_encoder(TextBranch(encoder="/no/such/folder")), "cannot be loaded"),
    ],
)
def test_encoders_that_cannot_be_had(load: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
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
    monkeypatch.setattr("assay.student.features.load_image_encoder", never)
    monkeypatch.setattr("assay.student.features.load_text_encoder", never)
    again, _ = Extractor(PACKAGED, image_px=256, known=known)(posts[:4])
    assert np.array_equal(again.image, first.image[:4])
    assert np.array_equal(again.text, first.text[:4])


def test_a_changed_encoder_is_noticed() -> None:
    known = Extractor(PACKAGED, image_px=256).facts
    known["text"] = {"identity": "another", "dim": 384}
    with pytest.raises(EncoderError, match="train again"):
        Extractor(PACKAGED, image_px=256, known=known)([PostInputs("new words", [])])


# ------------------------------------------------------------------------------------------- model


def part(n: int, target: Any, seed: int = 0) -> Part:
    """Features in which text and image each carry half of the answer; some posts lack one."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, n), rng.integers(0, 2, n)
    image = (rng.normal(0, 0.3, (n, 6)) + a[:, None]).astype(np.float32)
    text = (rng.normal(0, 0.3, (n, 5)) + b[:, None]).astype(np.float32)
    has_image, has_text = rng.random(n) < 0.95, rng.random(n) < 0.95
    image[~has_image], text[~has_text] = 0, 0
    values = (a + b).astype(np.int64) if target.kind == "classes" else (a + b).astype(np.float32) * 4
    return Part(Features(image, text, has_image, has_text), values, np.ones(n))


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (SCORE, Train(lr=0.01, epochs=30, metric="mae")),
        (SCORE, Train(lr=0.01, epochs=30, loss="huber", schedule="cosine_restarts", metric="r2", grad_accumulation=2)),
        (CLASSES, Train(lr=0.01, epochs=30, metric="f1_weighted", class_weights="balanced", label_smoothing=0.05)),
        (CLASSES, Train(lr=0.01, epochs=30, schedule="constant", warmup=0.0, clip_norm=0.0)),
    ],
    ids=["mse", "huber, restarts, accumulation", "classes weighted", "constant rate"],
)
def test_it_learns(target: Any, settings: Train) -> None:
    fitted = fit(part(300, target), part(80, target, 1), student=SMALL, target=target, settings=settings)
    test = part(200, target, 2)
    predicted = fitted.model.predict(test.features)
    if target.kind == "classes":
        assert np.allclose(predicted.sum(1), 1, atol=1e-4)
        assert (predicted.argmax(1) == test.values).mean() > 0.85
    else:
        assert predicted.min() >= 0
        assert predicted.max() <= 10
        assert np.abs(predicted - test.values).mean() < 1.0
    assert fitted.curves[0]["train_loss"] > fitted.curves[-1]["train_loss"]


@pytest.mark.parametrize(
    "head", [Head(hidden=[]), Head(hidden=[8], batch_norm=True), Head(hidden=[8], linear_skip=True, input_dropout=0.2)]
)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_heads_and_single_modalities(head: Head, modality: str) -> None:
    student = Student(**{modality: getattr(PACKAGED, modality), "head": head})
    features = part(97, CLASSES).features
    if modality == "image":
        features = Features(features.image, np.zeros((97, 0), np.float32), features.has_image, np.zeros(97, bool))
    else:
        features = Features(np.zeros((97, 0), np.float32), features.text, np.zeros(97, bool), features.has_text)
    data = Part(features, part(97, CLASSES).values, np.ones(97))
    fitted = fit(data, data, student=student, target=CLASSES, settings=Train(lr=0.01, epochs=3, batch_size=32))
    assert np.isfinite(fitted.model.predict(features)).all()


def test_absence_is_an_input_of_its_own() -> None:
    """A post without a picture is not a post with a black picture."""
    model = fit(part(200, SCORE), part(50, SCORE), student=SMALL, target=SCORE, settings=Train(lr=0.01, epochs=5)).model
    one = part(1, SCORE).features
    absent = Features(np.zeros_like(one.image), one.text, np.array([False]), one.has_text)
    black = Features(np.zeros_like(one.image), one.text, np.array([True]), one.has_text)
    junk = Features(np.full_like(one.image, 99), one.text, np.array([False]), one.has_text)
    assert model.predict(absent) != pytest.approx(model.predict(black))
    assert model.predict(absent) == pytest.approx(model.predict(junk))


class Killed(Exception):
    pass


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    train, val, settings = part(200, CLASSES), part(60, CLASSES, 1), Train(lr=0.005, epochs=12, patience=20)
    whole = fit(train, val, student=SMALL, target=CLASSES, settings=settings)
    path = tmp_path / "run.pt"

    def kill(curve: dict[str, float]) -> None:
        if curve["epoch"] == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(train, val, student=SMALL, target=CLASSES, settings=settings, checkpoint=path, on_epoch=kill)
    seen: list[float] = []
    resumed = fit(
        train,
        val,
        student=SMALL,
        target=CLASSES,
        settings=settings,
        checkpoint=path,
        on_epoch=lambda c: seen.append(c["epoch"]),
    )
    assert resumed.resumed_at == 5
    assert seen == list(range(12))
    assert resumed.curves == whole.curves
    assert np.array_equal(resumed.model.predict(val.features), whole.model.predict(val.features))
    assert not path.exists()


def test_patience_and_the_best_epoch() -> None:
    rng = np.random.default_rng(0)
    noise = Part(part(60, CLASSES).features, rng.integers(0, 3, 60), np.ones(60))
    fitted = fit(
        part(60, CLASSES), noise, student=SMALL, target=CLASSES, settings=Train(lr=0.05, epochs=60, patience=3)
    )
    assert fitted.stopped == "patience"
    assert len(fitted.curves) == fitted.best_epoch + 4
    losses = [c["val_loss"] for c in fitted.curves]
    assert losses.index(min(losses)) == fitted.best_epoch


def test_bad_training_input_is_one_line() -> None:
    empty = part(10, CLASSES)
    empty = Part(empty.features.take(np.array([], int)), empty.values[:0], empty.weights[:0])
    with pytest.raises(DataError, match="no labelled posts"):
        fit(part(10, CLASSES), empty, student=SMALL, target=CLASSES, settings=Train())
    same = Part(part(40, CLASSES).features, np.zeros(40, np.int64), np.ones(40))
    with pytest.raises(DataError, match=r"train.metric auroc is undefined on the val split \(40 posts"):
        fit(part(90, CLASSES), same, student=SMALL, target=CLASSES, settings=Train(metric="auroc"))
    with pytest.raises(DataError, match=r"lower train\.lr"):
        fit(part(100, SCORE), part(20, SCORE), student=SMALL, target=SCORE, settings=Train(lr=1e30, clip_norm=0.0))


def test_a_model_folder_comes_back_whole_and_without_pickle(tmp_path: Path) -> None:
    model = StudentModel(SMALL, CLASSES, 6, 5)
    facts: Any = {"image": {"identity": "i", "dim": 6}, "text": {"identity": "t", "dim": 5}}
    Trained(model, "t", SMALL, CLASSES, facts, {"image_px": 256, "max_images": 4}, {"temperature": 1.0}, {}, {}).save(
        tmp_path / "m", "# card"
    )
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = load_trained(tmp_path / "m")
    features = part(20, CLASSES).features
    assert np.array_equal(loaded.model.predict(features), model.predict(features))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"encoders": {"text": facts["text"]}}))
    with pytest.raises(ModelError, match="size mismatch"):
        load_trained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        load_trained(tmp_path / "m")
    with pytest.raises(ModelError, match="dvc repro train@"):
        load_trained(tmp_path / "none")
    assert torch.get_num_threads() >= 1
