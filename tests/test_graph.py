"""Encoders as graphs: they say what PyTorch says, are kept, made anew where broken, and refused where they differ."""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.config import ImageBranch, Student, TextBranch
from assay.encode import graph
from assay.encode.encoders import apply_learnt
from assay.encode.extract import Extractor, PostInputs
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.encode.text_encoders import TextEncoder, load_text_encoder
from assay.errors import ModelError, SettingsError
from assay.measure.judged import Judged
from assay.scoring import graphs as deployed
from assay.scoring.exported import graphs_of
from assay.scoring.predict import Predictor
from assay.student.model import StudentModel
from assay.student.trained import Trained
from tests.checkpoints import save_clip
from tests.conftest import Repository, picture
from tests.test_encoders import PACKAGED
from tests.test_scoring import TARGET, packaged  # noqa: F401 - a fixture

TEXTS = ["a fine day", "", "never again, what a rude and careless place this is!", "ok " * 200]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    monkeypatch.setenv("ASSAY_RUNTIME", "openvino")
    return home / "graphs"


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.slow
def test_packaged_encoders_say_what_pytorch_says(fast: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (90 + 10 * i, 120, 3), dtype=np.uint8)) for i in range(11)]
    image = load_image_encoder(
        ImageBranch(encoder="packaged/efficientnet-lite0", views=["crop", "whole"], layers=[5, 6])
    )
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


POSTS = [PostInputs("a fine day", [("one", picture())]), PostInputs("so rude", [("two", picture((9, 90, 200)))])]


@pytest.mark.slow
@pytest.mark.skipif(not graph.has_bf16(), reason="this processor has no bf16")
def test_a_corpus_in_bf16_has_features_of_its_own(fast: Path, home: Path) -> None:
    single, half = (Extractor(PACKAGED, image_px=64, precision=one)(POSTS)[0] for one in ("f32", "bf16"))
    for one, other in ((single.image, half.image), (single.text, half.text)):
        assert 0 < off(other, one) < 0.1
    assert len(list((home / "features").glob("*.sqlite"))) == 4
    assert len(list(fast.iterdir())) == 2  # one file a graph, whatever it is computed in


@pytest.mark.slow
def test_bf16_is_single_precision_where_it_cannot_be_had(
    fast: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "has_bf16", lambda: False)
    single, half = (Extractor(PACKAGED, image_px=64, precision=one)(POSTS)[0] for one in ("f32", "bf16"))
    assert np.array_equal(single.image, half.image)
    assert np.array_equal(single.text, half.text)
    assert len(list((home / "features").glob("*.sqlite"))) == 2


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


# ---------------------------------------------------------------------- graphs that come with a model


@pytest.mark.slow
def test_a_folder_to_deploy_agrees_is_checked_and_falls_back(
    packaged: Path,  # noqa: F811
    fast: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(deployed, "LEAST_POSTS", 40)
    out = tmp_path / "deployed"
    told = deployed.export_graphs(packaged, out)
    assert "in single precision" in capsys.readouterr().err  # nothing is known to judge it by
    assert told["weights"] == {"image": "fp32", "text": "fp32"}
    assert told["posts"] == 40
    assert told["largest_difference"]["t"] <= 1e-4
    assert told["files"].keys() == {"image.bin", "image.xml", "text.bin", "text.xml"}
    predictor = Predictor.load(out)
    posts = [("a caption", [picture((i, 9, 80))]) for i in range(3)]
    wanted = [one.value for one in Predictor.load(packaged, graphs={}).predict_many(posts)]
    assert [one.value for one in predictor.predict_many(posts)] == pytest.approx(wanted, abs=1e-2)
    encoders = predictor.encoders()
    assert all(isinstance(one, ImageEncoder | TextEncoder) and one._graph is not None for one in encoders)
    assert not fast.exists()  # this machine has made none of its own
    with pytest.raises(SettingsError, match="is there already"):
        deployed.export_graphs(packaged, out)
    (out / "graph" / "text.bin").write_bytes(b"another")
    assert graphs_of(out) is None
    assert "text.bin is not as it was written" in capsys.readouterr().err
    (out / "graph" / "graph.json").write_text("[]")
    assert graphs_of(out) is None
    assert "cannot be read" in capsys.readouterr().err
    assert [one.value for one in Predictor.load(out).predict_many(posts)] == pytest.approx(wanted, abs=1e-2)


@pytest.mark.slow
def test_small_weights_are_small_have_features_of_their_own_and_are_not_those_of_another_model(
    packaged: Path,  # noqa: F811
    fast: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(deployed, "LEAST_POSTS", 40)
    told = deployed.export_graphs(packaged, tmp_path / "small", weights="small")
    assert told["mib"] <= 45
    assert 0 < told["largest_difference"]["t"] < 0.1
    predictor = Predictor.load(tmp_path / "small")
    predictor.predict(text="a caption", image=picture())
    Predictor.load(packaged).predict(text="a caption", image=picture())
    assert len(list((home / "features").glob("*.sqlite"))) == 4
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    (tmp_path / "small" / "config.json").write_text(json.dumps(config | {"name": "another"}))
    assert graphs_of(tmp_path / "small") is None
    assert "of another model" in capsys.readouterr().err


@pytest.mark.parametrize("has", [False, True], ids=["without bf16", "as this processor has"])
def test_a_graph_is_computed_in_what_it_says_where_the_processor_can(
    has: bool, fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))
    wanted = encoder.encode(TEXTS)
    if not has:
        monkeypatch.setattr(graph, "has_bf16", lambda: False)
    for precision in ("bf16", "f32"):
        graph.write(encoder.traced(), tmp_path / "text.xml", weights="fp32", precision=precision)  # type: ignore[arg-type]
        encoder.speed_up(tmp_path / "text.xml")
        assert encoder._graph is not None
        really = precision if has and graph.has_bf16() else "f32"
        told = encoder._graph._compiled.get_property("INFERENCE_PRECISION_HINT")
        assert told.to_string() == really
        assert off(encoder.encode(TEXTS), wanted) < (0.05 if really == "bf16" else 1e-4)


@pytest.mark.slow
def test_bf16_is_tried_first_where_a_processor_has_it_and_refused_where_not(
    packaged: Path,  # noqa: F811
    fast: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deployed, "has_bf16", lambda: True)
    assert deployed._tried("auto") == ["fast", "small", "full"]
    monkeypatch.setattr(deployed, "has_bf16", lambda: False)
    assert deployed._tried("auto") == ["small", "full"]
    with pytest.raises(SettingsError, match="no bf16 to compare in; say --weights small, or auto"):
        deployed.export_graphs(packaged, tmp_path / "out", weights="fast")


@pytest.mark.slow
def test_the_stage_writes_a_judged_student_to_deploy_and_dvc_keeps_it(
    small_run: Path, tmp_path: Path, fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "LEAST_POSTS", 40)
    repository = Repository(tmp_path / "work", tmp_path / "its-home", like=small_run)
    repository.params(lambda raw: raw.update(deploy=["sentiment"]))
    repository.run("dvc", "repro", "-q", "settings", "digests")
    said = repository.run("dvc", "repro", "--dry").stdout
    assert [line.split("'")[1] for line in said.splitlines() if line.startswith("Running")] == ["export@sentiment"]
    command = next(line.split() for line in said.splitlines() if "stages/export.py" in line)
    monkeypatch.chdir(repository.folder)
    monkeypatch.syspath_prepend("stages")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # which a stage changes
    monkeypatch.setattr(sys, "argv", command[command.index("python") + 1 :])
    runpy.run_path("stages/export.py", run_name="__main__")
    repository.run("dvc", "commit", "-fq", "export@sentiment")
    assert repository.repro() == []
    changed = repository.run("git", "status", "--porcelain").stdout.splitlines()
    assert {line[3:] for line in changed} == {"dvc.lock", "params.yaml"}
    told = repository.json("deployed/sentiment/graph/graph.json")
    assert told["headline"]["posts"] > 100
    assert told["mib"] <= 45
    assert Predictor.load(repository.folder / "deployed/sentiment").predict(text="a fine day").status == "text_only"


@pytest.mark.slow
def test_encoders_that_learnt_run_by_the_graphs_of_their_model(
    tmp_path: Path,
    fast: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = Extractor(PACKAGED, image_px=256).facts
    learning = PACKAGED.model_copy(update={"text": TextBranch(encoder="packaged/minilm-l6", frozen=False)})
    made = StudentModel(learning, {"t": TARGET}, facts["image"]["dim"], facts["text"]["dim"])
    encoder = load_text_encoder(TextBranch(encoder="packaged/minilm-l6"))
    weights = {name: one + 0.5 for name, one in encoder.model.state_dict().items() if name.endswith("dense.bias")}
    trained = Trained(made, "t", learning, {"t": TARGET}, facts, {"image_px": 256, "max_images": 4}, {}, {}, {})
    trained.learnt = {"text": weights}
    trained.save(tmp_path / "model", "card")
    apply_learnt(encoder, tmp_path / "model" / "text.safetensors")
    facts["text"]["identity"] = encoder.identity
    trained.save(tmp_path / "model", "card")
    monkeypatch.setattr(deployed, "LEAST_POSTS", 40)
    deployed.export_graphs(tmp_path / "model", tmp_path / "out")
    predictor = Predictor.load(tmp_path / "out")
    assert getattr(predictor.encoders()[1], "_graph", None) is not None
    plain = Predictor.load(tmp_path / "model", graphs={})
    assert predictor.predict(text="a day").value == pytest.approx(plain.predict(text="a day").value, abs=0.01)


def test_a_loss_is_decided_by_the_paired_interval() -> None:
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 10, 400)
    first = y + rng.normal(0, 1, 400)
    test = Judged(y, np.ones(400), np.arange(400), first, {})
    for apart, worse in ((0.0, False), (0.002, False), (2.0, True)):
        found = deployed.headline(test, TARGET, [first, first + rng.normal(0, apart, 400)])
        assert found["is_worse"] is worse
        assert found["difference"]["low"] <= found["difference"]["value"] <= found["difference"]["high"]


@pytest.mark.slow
def test_graphs_that_differ_are_refused_and_nothing_is_left(
    packaged: Path,  # noqa: F811
    fast: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deployed, "LEAST_POSTS", 20)
    monkeypatch.setitem(deployed.KINDS, "full", ({"image": "int8", "text": "int8"}, "f32"))
    monkeypatch.setattr(deployed, "TOLERANCE", 1e-9)
    with pytest.raises(ModelError, match=r"differ from PyTorch by .* nothing is written"):
        deployed.export_graphs(packaged, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "assay-home"}
    monkeypatch.setenv("ASSAY_RUNTIME", "torch")
    with pytest.raises(SettingsError, match="ASSAY_RUNTIME=torch"):
        deployed.export_graphs(packaged, tmp_path / "out")
    monkeypatch.delenv("ASSAY_RUNTIME")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(SettingsError, match=r"needs nncf: pip install -e '.*\[fast\]'"):
        deployed.export_graphs(packaged, tmp_path / "out")
