"""SageMaker: training in the container's layout, the archive in the real toolkit, calls checked by botocore."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.errors import DataError, ModelError, SettingsError
from assay.scoring.predict import Predictor
from assay.serve.sagemaker import input_fn, model_fn, output_fn, predict_fn
from assay.serve.sagemaker.hyperparameters import parse, student_of, task_of
from assay.serve.sagemaker.pack import pack, requirements, source_dir
from assay.serve.sagemaker.train import train
from tests import warm
from tests.checkpoints import save_clip, save_siglip
from tests.conftest import ROOT, picture
from tests.environments import kept
from tests.serving import BIAS, MOODS, b64, make_model

WORDS = [
    "river",
    "stone",
    "lamp",
    "paper",
    "cloud",
    "bread",
    "window",
    "garden",
    "train",
    "coffee",
    "winter",
    "music",
    "market",
    "coat",
    "letter",
    "bridge",
]


def channel(folder: Path, rows: int, seed: int) -> Path:
    """A channel as a job gets it: a table, and pictures in images/; words say the label, so that it can be learnt."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    table = []
    for i in range(rows):
        labels = [name for name, p in (("racist", 0.4), ("sexist", 0.3)) if rng.random() < p]
        text = " ".join([*rng.choice(WORDS, 6), *(f"very {name}" for name in labels), str(rng.integers(10**6))])
        cells = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((96, 96), Image.Resampling.NEAREST).save(folder / "images" / f"{i}.png")
        table.append({"text": text, "image_path": f"{i}.png", "labels": ",".join(labels)})
    table[0]["image_path"] = "gone.png"  # a row that lost its picture stays, with a reason
    pd.DataFrame(table).to_csv(folder / "data.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a training job, run as the container runs it: our code from the source folder, in a process."""
    ml = tmp_path_factory.mktemp("ml")
    code = source_dir(ml / "code")
    env = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "ASSAY_HOME": str(ml / "home"),
        "SM_CHANNEL_TRAIN": str(channel(ml / "input/data/train", 150, 1)),
        "SM_CHANNEL_VALIDATION": str(channel(ml / "input/data/validation", 60, 2)),
        "SM_MODEL_DIR": str(ml / "model"),
        "SM_OUTPUT_DATA_DIR": str(ml / "output/data"),
    }
    words = ["--class-names", "racist,sexist", "--epochs", "12", "--batch-size", "16", "--name", "hate"]
    done = subprocess.run(
        [warm.folder() / "python", str(code / "train.py"), *words], cwd=code, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "val_loss=" in done.stderr + done.stdout
    figures = json.loads((ml / "output/data/evaluate.json").read_text())
    assert figures["n"] >= 50
    assert figures["f1_macro"]["value"] > 0.6
    return ml / "model"


@pytest.mark.slow
def test_a_training_job_leaves_a_model(trained: Path) -> None:
    predictor = Predictor.load(trained, cached=False)
    assert list(predictor.targets["hate"].names) == ["racist", "sexist"]  # type: ignore[union-attr]
    assert "very racist" not in (trained / "README.md").read_text()
    with tarfile.open(pack(trained, trained.parent / "packed.tar.gz")) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    assert {str(path.relative_to(trained)) for path in (trained / "code").rglob("*.py")} <= set(names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": None}, "SM_CHANNEL_TRAIN is not set"),
        ({"label_column": "target"}, "no column target"),
        ({"empty": True}, "one table"),
    ],
)
def test_bad_channels_get_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = channel(tmp_path / "train", 5, 3)
    if change.pop("empty", False):
        (folder / "data.csv").unlink()
    args = parse(["--class-names", "racist,sexist", "--train", str(folder), "--model-dir", str(tmp_path / "model")])
    for name, value in change.items():
        setattr(args, name, value)
    with pytest.raises(DataError, match=said):
        train(args)


@pytest.mark.parametrize(
    ("words", "save"),
    [
        (["--backend", "clip", "--head", "fusion", "--lr_encoder", "1e-3", "--lr-head", "0.005"], save_clip),
        (["--backend", "clip", "--head", "fusion", "--batch-size", "128", "--fusion-dim", "16"], save_clip),
        (["--backend", "auto", "--head", "fusion", "--weighted-sampling", "true"], save_clip),
        (["--backend", "clip", "--head", "mtl", "--uncertainty-weights", "true", "--loss-type", "focal"], save_clip),
        (
            ["--backend", "siglip", "--head", "fusion", "--augment", "true", "--aug-scale-min", "0.7"],
            save_siglip,
        ),
        (["--freeze-encoder", "true"], save_clip),
    ],
    ids=["clip fusion", "larger batch", "weighted", "clip mtl", "siglip", "frozen"],
)
def test_encoders_that_are_named_train_and_answer(words: list[str], save: Any, tmp_path: Path) -> None:
    """Of CLIP with 77 positions and SigLIP with its own: lengths and pooling follow the encoder."""
    save(tmp_path / "encoder")
    args = [*words, "--encoder-name", str(tmp_path / "encoder"), "--class-names", "racist,sexist", "--epochs", "1"]
    args += ["--train", str(channel(tmp_path / "train", 24, 1)), "--validation", str(channel(tmp_path / "val", 12, 2))]
    args += [] if "--batch-size" in words else ["--batch-size", "8"]
    train(parse([*args, "--model-dir", str(tmp_path / "model")]))
    predictor = Predictor.load(tmp_path / "model", cached=False)
    student = predictor.trained.student
    assert student.tuned == ([] if words[0] == "--freeze-encoder" else ["image", "text"])
    assert student.head.kind == ("multitask" if "mtl" in words else "mlp" if "fusion" in words else "auto")
    assert predictor.predict(text="a word").status == "text_only"


def test_a_file_says_what_words_do_not(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text(
        "backend: siglip\nhead: mtl\nfusion_dim: 64\nlr_encoder: 2e-5\nlr_head: 5e-4\nweight_decay: 0.02\n"
        "warmup_ratio: 0.05\nloss_type: focal\nfocal_gamma: 1.5\naugment: true\naug_scale_min: 0.7\nepochs: 8\n"
        "class_names: [racist, sexist]\n"
    )
    args = parse(["--config", str(file), "--epochs", "3"])
    task, student = task_of(args, official=False), student_of(args)
    assert (task.train.epochs, task.train.lr, task.train.lr_text, task.train.lr_image) == (3, 5e-4, 2e-5, 2e-5)
    assert (task.train.loss, task.train.focal_gamma, task.train.warmup) == ("focal", 1.5, 0.05)
    assert (task.train.augment, task.train.augment_scale) == ("photo", [0.7, 1.0])
    assert student.image is not None
    assert student.text is not None
    assert student.image.encoder == student.text.encoder == "transformers/google/siglip2-base-patch16-224"
    assert (student.fusion.kind, student.fusion.dim, student.head.kind) == ("gated", 64, "multitask")
    for line, said in (
        ("fusion_size: 3", "fusion_size is unknown; allowed: name, class-names"),
        ("backend: bert", "backend: 'bert'; allowed: clip, siglip, auto"),
        ("epochs: many", "epochs: invalid literal"),
    ):
        file.write_text(line + "\n")
        with pytest.raises(SettingsError, match=said):
            parse(["--config", str(file), "--class-names", "a,b"])
    for words, said in (
        (["--kind", "classes", "--loss-type", "asymmetric"], "hyperparameters: .*asymmetric"),
        (["--backend", "clip", "--aug-scale-min", "0.9", "--aug-scale-max", "0.8"], "augment_scale"),
        (["--augment", "true"], "augment: pictures change for an encoder that learns"),
    ):
        with pytest.raises(SettingsError, match=said):
            task_of(parse(["--class-names", "a,b", *words]), official=False)
    with pytest.raises(SettingsError, match="class-names is not given"):
        parse([])


# -------------------------------------------------------------------------------------- handlers


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("sagemaker") / "moods", MOODS)


def test_the_handlers_keep_the_shape_of_requests_and_answers(moods: Path) -> None:
    model = model_fn(str(moods))
    image = picture(size=(300, 200))
    body = {"instances": [{"text": "a good day", "image_base64": b64(image)}, {"text": "a bad one"}]}
    answer = json.loads(output_fn(predict_fn(input_fn(json.dumps(body), "application/json; charset=utf-8"), model)))
    first, second = answer["predictions"]
    wanted = Predictor.load(moods, cached=False).predict(text="a good day", image=image)
    assert first["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-4)
    assert first["class_predictions"] == {name: name == wanted.value for name in MOODS.names}
    assert (first["status"], second["status"]) == ("ok", "text_only")


def test_a_score_has_its_interval(tmp_path: Path) -> None:
    model = model_fn(str(make_model(tmp_path / "bias", BIAS, {"residual_q90": 2.0}).parent))  # one folder below
    found = predict_fn(input_fn(b'{"instances": [{"text": "hello"}]}'), model)[0]
    assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert "class_predictions" not in found


def test_an_instance_that_fails_has_a_reason_and_spoils_no_other(moods: Path) -> None:
    bad = [
        {"text": "x", "image_base64": "?"},
        {"image_base64": b64(b"no picture")},
        {"text": ""},
        {"text": 5},
        {"text": "x", "image_path": "/etc/passwd"},
        "x",
        {"text": "y" * 100_001},
    ]
    body = json.dumps({"instances": [*bad, {"text": "fine"}]})
    found = predict_fn(input_fn(body), model_fn(str(moods)))
    codes = [one["reason"].split(":")[0] for one in found[:-1]]
    assert codes == [
        *("bad_base64", "undecodable_image", "no_content", "bad_instance", "bad_instance", "bad_instance"),
        "text_too_long",
    ]
    assert found[-1]["status"] == "text_only"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{}", "application/json", "instances"),
        (b"[", "application/json", "not JSON"),
        (b"\xff", "application/json", "not JSON"),
        (b'{"instances": []}', "application/json", "instances"),
        (json.dumps({"instances": [{}] * 257}), "application/json", "at most 256"),
        (b"a,b", "text/csv", "send application/json"),
    ],
)
def test_requests_that_cannot_be_read_are_refused(body: bytes | str, kind: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        input_fn(body, kind)
    with pytest.raises(ValueError, match="answers are application/json"):
        output_fn([], "text/csv")


def test_the_archive_holds_model_code_and_requirements(moods: Path, tmp_path: Path) -> None:
    first, again = pack(moods, tmp_path / "a" / "model.tar.gz"), pack(moods, tmp_path / "b.tar.gz")
    with tarfile.open(first) as archive:
        names = set(archive.getnames())
    assert {"config.json", "model.safetensors", "code/inference.py", "code/requirements.txt"} <= names
    assert "code/assay/scoring/predict.py" in names
    with tarfile.open(again) as archive:
        assert set(archive.getnames()) == names
    assert "pydantic" in requirements()
    assert "dvc" not in requirements()
    with pytest.raises(ModelError, match=r"no config\.json"):
        pack(tmp_path, tmp_path / "c.tar.gz")


# --------------------------------------------------- the toolkit and the SDK, in their own environment


@pytest.fixture(scope="module")
def toolkit() -> Path:
    """An environment with SageMaker's packages, which also sees those of this one (torch weighs gigabytes)."""
    packages = ("sagemaker-core==2.27.0", "sagemaker-inference==1.10.1", "multi-model-server==1.1.11")
    folder = kept("sagemaker-2.27.0", *packages)
    # the toolkit installs a model's requirements into its environment, newer setuptools among them, and lives by older
    again = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "setuptools==80.9.0"]
    subprocess.run(again, check=True)
    own = next(path for path in sys.path if path.endswith("site-packages"))
    place = next((folder / "lib").glob("python*")) / "site-packages"
    (place / "project.pth").write_text(f"{own}\n")
    return folder


@pytest.fixture
def endpoint(toolkit: Path, trained: Path, tmp_path: Path) -> Iterator[str]:
    """What the training job left, served as it is by SageMaker's toolkit on loopback."""
    if shutil.which("java") is None:
        pytest.skip("SageMaker's model server needs java")
    model = tmp_path / "ml" / "model"
    shutil.copytree(trained, model)  # SageMaker's archive of a job is the folder that the job left
    port = 18_080 + os.getpid() % 1000
    env = {
        **os.environ,
        "PATH": f"{toolkit / 'bin'}:{os.environ['PATH']}",
        "SAGEMAKER_BASE_DIR": str(tmp_path / "ml"),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": str(model / "code"),
        "TEMP": str(tmp_path),
    }
    start = "from sagemaker_inference import model_server; model_server.start_model_server()"
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [str(toolkit / "bin/python"), "-c", start],
            env=env,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 180
        while True:
            try:
                if httpx2.get(f"{url}/ping").status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            if server.poll() is not None or time.monotonic() > until:
                raise AssertionError((tmp_path / "log").read_text()[-4000:])
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, 15)
        subprocess.run([str(toolkit / "bin/multi-model-server"), "--stop"], env=env, capture_output=True, check=False)


@pytest.mark.slow
def test_the_archive_is_served_by_the_real_toolkit(endpoint: str, trained: Path) -> None:
    image = picture(size=(120, 90))
    body = {"instances": [{"text": "river stone very racist", "image_base64": base64.b64encode(image).decode()}]}
    answer = httpx2.post(f"{endpoint}/invocations", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    told = answer.json()["predictions"][0]
    wanted = Predictor.load(trained, cached=False).predict(text="river stone very racist", image=image)
    assert told["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-3)
    assert told["class_predictions"] == {name: name in wanted.value for name in ("racist", "sexist")}  # type: ignore[operator]
    for sent, kind, status in ((b"[", "application/json", 400), (b"a,b", "text/csv", 415)):
        refused = httpx2.post(f"{endpoint}/invocations", content=sent, headers={"Content-Type": kind}, timeout=60)
        assert refused.status_code == status, refused.text
    assert httpx2.get(f"{endpoint}/ping").status_code == 200


@pytest.mark.slow
def test_calls_of_the_sdk_fit_the_service(toolkit: Path) -> None:
    """In the SDK's environment, every request of job and endpoint against botocore's models of the service."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x"}
    done = subprocess.run(
        [str(toolkit / "bin/python"), str(ROOT / "tests" / "sagemaker_calls.py")],
        env={**env, "AWS_SECRET_ACCESS_KEY": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "all calls fit" in done.stdout
