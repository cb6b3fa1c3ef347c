"""Every section of `students` as params.yaml ships it, trained end to end on tiny checkpoints of its real classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from assay import config
from assay.config import ImageBranch, Lora, Student, TextBranch, Train
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.encode.extract import embed
from assay.encode.image_encoders import load_image_encoder
from assay.errors import DataError, EncoderError, ModelError, SettingsError
from assay.images import MAX_PIXELS
from assay.measure.evaluate import evaluate
from assay.posts import read, write_table
from assay.sampling import write_sample
from assay.scoring.ablate import ablate, as_table
from assay.scoring.explain import explain, page
from assay.scoring.judge import judge, speed_and_size
from assay.scoring.predict import Predictor
from assay.splits import split
from assay.student.augment import drop_words, image_change
from assay.student.learn import Lesson, learn
from assay.student.towers import Towers
from assay.teacher.annotate import annotate
from tests import checkpoints
from tests.conftest import ROOT, picture

SHIPPED = config.load(ROOT / "params.yaml")
COLUMNS = ("post_id", "text", "author", "text_sig", "image_sig", "split")
TINY: dict[str, Callable[[Path], None]] = {
    "timm/resnet18": checkpoints.save_timm,
    "timm/resnet50": checkpoints.save_timm,
    "timm/vit": checkpoints.save_timm_vit,
    "transformers/distilbert": checkpoints.save_distilbert,
    "transformers/bert": checkpoints.save_bert,
    "transformers/openai/clip": checkpoints.save_clip,
    "transformers/google/siglip2": checkpoints.save_siglip,
    "transformers/sentence-transformers": checkpoints.save_bert,
}


class Task:
    """Labelled posts of the drawn corpus, as the stages before training leave them."""

    def __init__(self, name: str, folder: Path, drawn: Path) -> None:
        self.name, self.folder = name, folder
        self.settings = SHIPPED.tasks[name]
        ingest(Instagram(drawn), Rules("d", b"k", "header"), posts=folder / "posts", problems=folder / "q.parquet")
        size = self.settings.sample.model_copy(update={"posts": 130, "design": "random"})
        write_sample(folder / "posts", drawn, self.sample, settings=size, max_pixels=MAX_PIXELS)
        annotate(
            self.sample,
            self.labels,
            settings=self.settings.annotate,
            target=self.settings.target,
            rubric=ROOT / "rubrics" / f"{name}.md",
        )
        labels = read_labels(self.labels)
        posts = read(self.sample, COLUMNS).to_pylist()
        write_table(split(posts, labels, self.settings.split, self.settings.target), self.split)

    @property
    def sample(self) -> Path:
        return self.folder / "sample" / self.name

    @property
    def labels(self) -> Path:
        return self.folder / "labels" / f"{self.name}.parquet"

    @property
    def split(self) -> Path:
        return self.folder / "split" / f"{self.name}.parquet"

    def learn(self, student: Student, out: Path, **train: Any) -> Path:
        """Embed and train; the model folder."""
        features = out / "features" / self.name
        embed(self.sample, features, student=student, image_px=256, max_images=4)
        folds = {"crossfit": 0 if student.tuned else 2}
        settings = Train(**({"lr": 0.001, "epochs": 2, "batch_size": 32} | folds | train))
        target = {self.name: self.settings.target}
        labels = {self.name: self.labels}
        lesson = Lesson(self.name, target, student, settings, features, labels, self.split, self.sample)
        learn(lesson, out / "model", lambda _: "card", None)
        return out / "model"

    def judged(self, out: Path) -> dict[str, Any]:
        """What evaluate would write."""
        features = out / "features" / self.name
        slices = ["brand", "length"]
        _, test = judge(out / "model", self.sample, features, self.labels, self.split, task=self.name, slices=slices)
        return evaluate(test, self.settings.target, replicates=50, min_slice=5)


def read_labels(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, columns=["post_id", "status", "value"]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def home_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that what the packaged encoders say of a post is computed once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tasks(drawn: Path, home_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    """Classes and labels on the same drawn posts."""
    folder = tmp_path_factory.mktemp("task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(home_folder))
        return {name: Task(name, folder / name, drawn) for name in ("sentiment", "hateful")}


def tiny(student: Student, folder: Path) -> Student:
    """The section with every hub name replaced by a tiny checkpoint of the same class."""
    update: dict[str, Any] = {}
    for name in ("image", "text"):
        branch = getattr(student, name)
        save = next((s for key, s in TINY.items() if branch and branch.encoder.startswith(key)), None)
        if save:
            path = folder / branch.encoder.replace("/", "_")
            save(path)
            more = {"max_tokens": 8} if name == "text" else {}
            update[name] = branch.model_copy(update={"encoder": str(path), **more})
    return student.model_copy(update=update)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SHIPPED.students) - {"packaged_tuned"}))
def test_every_shipped_student_trains_and_answers(name: str, tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["hateful" if "multitask" in name else "sentiment"]
    student = tiny(SHIPPED.students[name], tmp_path)
    model = task.learn(student, tmp_path / "out")
    found = task.judged(tmp_path / "out")
    assert 0 <= found[("f1_macro" if "multitask" in name else "accuracy")]["value"] <= 1
    assert found["slices"]["by"]["length"]
    files = {path.name for path in model.iterdir()}
    familiar = {"familiar.safetensors"} & files  # where enough posts were held out
    assert files == {
        "config.json",
        "README.md",
        "model.safetensors",
        *familiar,
        *(f"{b}.safetensors" for b in student.tuned),
        *([] if student.tuned else ["folds.parquet"]),  # an encoder that learns is not cross-fitted
    }
    predictor = Predictor.load(model)
    both = predictor.predict(text="good day", image=picture())
    assert both.status == ("ok" if student.image and student.text else "image_only" if student.image else "text_only")
    speed, size = speed_and_size(model, task.sample)
    assert speed["posts_per_s"] > 0
    assert size["parameters"] > size["parameters_trained"]


# ---------------------------------------------------------------------------------- fine-tuning


TUNED = Student(
    image=ImageBranch(encoder="packaged/efficientnet-lite0", frozen=False, freeze_layers=5),
    text=TextBranch(encoder="packaged/minilm-l6", frozen=False, freeze_layers=4, max_tokens=16),
)


@pytest.mark.slow
def test_encoders_learn_and_the_folder_knows_it(tasks: dict[str, Task], tmp_path: Path) -> None:
    """Both packaged encoders, with augmentation, averaged weights and resume; predictions come back from the folder."""
    task = tasks["sentiment"]
    settings = {"augment": "meme", "text_dropout": 0.1, "ema": 0.5, "precision": "bf16", "lr_text": 0.001}
    model = task.learn(TUNED, tmp_path, **settings)
    kept = json.loads((model / "config.json").read_text())
    made = json.loads((tmp_path / "features" / task.name / "made.json").read_text())
    for branch in ("image", "text"):
        assert kept["encoders"][branch]["identity"] != made["encoders"][branch]["identity"]
    predictor = Predictor.load(model)
    first = predictor.predict(text="what a wonderful morning", image=picture())
    assert Predictor.load(model).predict(text="what a wonderful morning", image=picture()) == first
    (model / "text.safetensors").write_bytes((model / "image.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"text\.safetensors: .* is no weight of this encoder"):
        Predictor.load(model).predict(text="other words")


@pytest.mark.parametrize("save", [checkpoints.save_clip, checkpoints.save_siglip, checkpoints.save_bert])
def test_lora_learns_adapters_and_merges_them(save: Any, tasks: dict[str, Task], tmp_path: Path) -> None:
    save(tmp_path / "m")
    lora = Lora(rank=2, alpha=4)
    text = TextBranch(encoder=str(tmp_path / "m"), frozen=False, lora=lora, max_tokens=8)
    settings = {"lr_text": 0.01, "grad_checkpointing": True}
    model = tasks["sentiment"].learn(Student(text=text), tmp_path / "out", **settings)
    learnt = load_file(model / "text.safetensors")
    assert learnt
    assert all("lora" not in name for name in learnt)
    assert np.isfinite(list((Predictor.load(model).predict(text="good day").probabilities or {}).values())).all()


def test_lora_adapts_the_convolutions_over_single_places_behind_frozen_blocks() -> None:
    image = ImageBranch(encoder="packaged/efficientnet-lite0", frozen=False, freeze_layers=5, lora=Lora(rank=2))
    towers = Towers(Student(image=image), Train(), image_px=64)
    learning = {n.split("model.", 1)[1]: p for n, p in towers.models["image"].named_parameters() if p.requires_grad}
    assert {n.split(".lora_")[0].split(".")[-1] for n in learning} == {"conv_head", "conv_pw", "conv_pwl"}
    assert {n.split(".")[2] for n in learning if ".blocks." in f".{n}"} == {"5", "6"}
    pixels, encoder = torch.rand(2, 3, 64, 64), towers.image
    assert encoder is not None
    before = encoder.vectors(pixels)
    before.square().sum().backward()
    assert all(p.grad is not None for p in learning.values())
    for name, one in learning.items():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.1)
    after, learnt = encoder.vectors(pixels), towers.learnt()["image"]
    plain = load_image_encoder(image)
    changed = plain.model.load_state_dict(learnt, strict=False)
    assert (after - before).abs().max() > 0.01
    assert not changed.unexpected_keys
    near = 1e-3 if encoder.device.type == "cpu" else 0.1  # a GPU rounds what it multiplies to 10 bits (TF32)
    assert torch.allclose(plain.vectors(pixels), after, atol=near)


def test_layers_are_frozen_by_count(tmp_path: Path) -> None:
    checkpoints.save_bert(tmp_path / "bert")
    for count, wanted in ((0, {"embeddings", "0", "1"}), (1, {"1"})):
        text = TextBranch(encoder=str(tmp_path / "bert"), frozen=False, freeze_layers=count, max_tokens=8)
        towers = Towers(Student(text=text), Train(), image_px=64)
        learning = {n for n, p in towers.models["text"].named_parameters() if p.requires_grad}
        assert {n.split(".")[2] if n.startswith("encoder") else n.split(".")[0] for n in learning} - {
            "pooler"
        } == wanted
    wrong = TextBranch(encoder=str(tmp_path / "bert"), frozen=False, freeze_layers=2, max_tokens=8)
    with pytest.raises(EncoderError, match=r"the encoder has 2 layers; allowed: 0 to 1"):
        Towers(Student(text=wrong), Train(), image_px=64)
    target = Lora(targets=["nothing_like_it"])
    odd = TextBranch(encoder=str(tmp_path / "bert"), frozen=False, lora=target, max_tokens=8)
    with pytest.raises(EncoderError, match="no such linear layers"):
        Towers(Student(text=odd), Train(), image_px=64)


def test_augmentation_keeps_shape_and_words() -> None:
    torch.manual_seed(0)
    image = Image.new("RGB", (200, 120), "white")
    assert image_change("none", (0.6, 1.0))(image) is image
    assert image_change("meme", (0.6, 1.0))(image).size == (200, 120)
    assert image_change("photo", (0.6, 1.0))(image).size != (0, 0)
    square = Image.new("RGB", (200, 200), "white")
    small, whole = (image_change("photo", scale)(square).size for scale in ((0.2, 0.21), (1.0, 1.0)))
    assert small[0] * small[1] < 0.3 * 200**2 < 0.9 * 200**2 < whole[0] * whole[1]
    words = "one two three four five six seven eight"
    kept = drop_words(words, 0.5).split()
    assert 0 < len(kept) < 8
    assert [word for word in words.split() if word in kept] == kept
    assert drop_words(words, 0.0) == words
    assert drop_words("alone", 0.9) == "alone"


def test_a_gpu_that_is_not_there_and_a_class_of_one_are_one_line(tasks: dict[str, Task], tmp_path: Path) -> None:
    text = SHIPPED.students["text_only"]
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match=r"train\.device: cuda, but no such GPU"):
            tasks["sentiment"].learn(text, tmp_path / "gpu", device="cuda")
    task = tasks["sentiment"]
    table = pq.read_table(task.labels)
    values = ["neutral" if v == "neutral" and i < 3 else "positive" for i, v in enumerate(table["value"].to_pylist())]
    at = table.schema.get_field_index("value")
    write_table(table.set_column(at, table.schema.field(at), pa.array(values)), tmp_path / "labels.parquet")
    embed(task.sample, tmp_path / "f", student=text, image_px=256, max_images=4)
    target, labels = {"s": task.settings.target}, {"s": tmp_path / "labels.parquet"}
    lesson = Lesson("s", target, text, Train(), tmp_path / "f", labels, task.split)
    with pytest.raises(DataError, match=r"too few posts in train of the classes .*negative 0"):
        learn(lesson, tmp_path / "m", lambda _: "", None)


# ------------------------------------------------------------------------- explain, ablate, seeds


@pytest.fixture(scope="module")
def trained(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged student on labels, with n-grams and two seeds."""
    folder = tmp_path_factory.mktemp("trained")
    lexical = config.LexicalBranch(buckets=4096)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / "home"))
        student = SHIPPED.students["packaged"].model_copy(update={"lexical": lexical})
        tasks["hateful"].learn(student, folder, epochs=12, seeds=[2])
    return folder


def test_seeds_stand_beside_the_model_and_are_judged(trained: Path, tasks: dict[str, Task]) -> None:
    found = tasks["hateful"].judged(trained)
    assert found["seeds"]["seeds"] == [1, 2]
    assert found["seeds"]["auroc_macro"]["sd"] is not None
    assert {"before", "after"} == set(found["ece"])
    assert (trained / "model" / "seed-2" / "model.safetensors").is_file()


@pytest.mark.slow
def test_explanations_are_complete_and_drawn(trained: Path, tmp_path: Path) -> None:
    """Attributions of the picture sum to the change of the raw output from a grey picture; so do those of words."""
    predictor = Predictor.load(trained / "model")
    text = "Old people should stay off the road after noon. Best day."
    found = explain(predictor, text=text, image=picture(size=(120, 90)), answer="otherhate", steps=64)
    assert [word for word, _ in found.words] == text.split()
    assert found.heat is not None
    assert found.heat.shape == (224, 224)
    scale = sum(abs(value) for value in found.modality.values())
    assert found.gap["words"] < 0.1 * scale + 0.05
    assert set(found.modality) == {"picture", "words", "n-grams"}
    shown = page(found)
    assert "data:image/png;base64," in shown
    assert "Old</span>" in shown
    hostile = explain(predictor, text="<script>alert(1)</script> day", steps=4)
    assert "<script>alert" not in page(hostile)
    with pytest.raises(SettingsError, match="allowed: racist"):
        explain(predictor, text="x", answer="nothing")
    with pytest.raises(DataError, match="nothing to explain"):
        explain(predictor, text="")


def test_ablation_from_one_command(trained: Path, tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["hateful"]
    data = tmp_path / "data"
    for name, source in (("labels", task.labels), ("split", task.split), ("sample", task.sample)):
        (data / name).mkdir(parents=True)
        (data / name / source.name).symlink_to(source)
    (data / "features").symlink_to(trained / "features")
    quick = task.settings.model_copy(update={"train": Train(lr=0.001, epochs=3)})
    found = ablate("hateful", quick, SHIPPED.students["packaged"], data, [1, 2])
    assert set(found["variants"]) == {"both", "text", "image"}
    assert found["seeds"] == [1, 2]
    assert "| both |" in as_table(found)
    with pytest.raises(SettingsError, match="one modality only"):
        ablate("hateful", quick, SHIPPED.students["text_only"], data, [1])
