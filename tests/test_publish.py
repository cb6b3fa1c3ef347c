"""Models taken elsewhere: a repository of the Hub (uploaded to a stub of it), ONNX graphs."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.config import LexicalBranch
from assay.errors import ModelError, SettingsError
from assay.scoring.export import export_onnx
from assay.scoring.predict import Predictor
from assay.scoring.publish import hub_folder, publish
from assay.student.lexical import hash_grams
from assay.student.trained import load_trained, model_digest
from tests.checkpoints import tiny_student
from tests.conftest import picture
from tests.serving import BIAS, MOODS, make_model
from tests.test_encoders import PACKAGED


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights beside its figures."""
    root = tmp_path_factory.mktemp("publish")
    found = make_model(root / "models" / "moods", MOODS, {"set_q90": 0.8})
    metrics = root / "metrics" / "moods"
    metrics.mkdir(parents=True)
    figures = {"f1_weighted": {"value": 0.81, "low": 0.7, "high": 0.9}, "n": 100}
    figures |= {"model": model_digest(found)[:16]}
    (metrics / "evaluate.json").write_text(json.dumps(figures))
    (found / "seed-2").mkdir()
    return found


def test_a_repository_of_the_hub_is_a_model_with_a_card(model: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    folder = hub_folder(model, tmp_path / "hub", repository="team/moods")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "evaluate.json",
        "model.safetensors",
    ]
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "assay"
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].metric_value == 0.81
    assert 'snapshot_download("team/moods")' in card.text
    image = picture(size=(300, 200))
    wanted = Predictor.load(model, cached=False).predict(text="a good day", image=image)
    assert Predictor.load(folder, cached=False).predict(text="a good day", image=image) == wanted
    hub_folder(model, folder)  # once more over the first
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(ModelError, match="not empty"):
        hub_folder(model, tmp_path / "full")


@pytest.mark.slow
@pytest.mark.parametrize("refuse", [0, 403])
def test_a_model_is_uploaded(model: Path, tmp_path: Path, refuse: int) -> None:
    """The real client against a stub of the Hub; the commit is a stream of JSON lines, which the stub keeps."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    files: dict[str, bytes] = {}
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            chunked = self.headers.get("Transfer-Encoding") == "chunked"
            body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            found: dict[str, Any] = {"url": f"{url}/team/moods", "name": "team/moods", "id": "1"}
            if "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                found = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            if "/commit/" in self.path:
                for line in body.splitlines():
                    one = json.loads(line)
                    if one["key"] == "file":
                        files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                found = {"commitUrl": f"{url}/team/moods/commit/abc", "commitOid": "abc", "success": True}
            data = json.dumps(found).encode()
            self.send_response(refuse or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.do_POST()

        def _chunks(self) -> bytes:
            out = io.BytesIO()
            while size := int(self.rfile.readline(), 16):
                out.write(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return out.getvalue()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    env = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path / "hf")}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    words = [sys.executable, "-m", "assay", "push", str(model), "--to", "hub", "--repo", "team/moods"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    server.shutdown()
    assert "hf_secret" not in done.stdout + done.stderr
    assert any("Bearer hf_secret" in line for line in seen)
    if refuse:
        assert done.returncode == 1
        assert "the Hub refused (403)" in done.stderr
        assert "Traceback" not in done.stderr
        return
    assert done.returncode == 0, done.stderr + "\n".join(seen)
    assert set(files) == {"README.md", "config.json", "evaluate.json", "model.safetensors"}
    assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()


def test_nothing_is_uploaded_without_a_name_or_a_token(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SettingsError, match="give user/name"):
        publish(model, tmp_path / "a", "moods", private=False, onnx=False)
    assert not (tmp_path / "a").exists()
    with pytest.raises(SettingsError, match="HF_TOKEN is not set"):
        publish(model, tmp_path / "a", "team/moods", private=False, onnx=False)


def half_linear(folder: Path) -> None:
    """Let half of a student's answer be a linear model's."""
    trained = load_trained(folder)
    for member in trained.model.members:
        assert member.linear is not None
        assert member.linear.grams is not None
        member.share.fill_(0.5)
        drawn = torch.Generator().manual_seed(1)
        for weight in (member.linear.weight, member.linear.grams.weight.data):
            weight.copy_(torch.randn(weight.shape, generator=drawn) / 20)
    trained.save(folder, "card")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "tiny"), [(MOODS, False), (BIAS, True)], ids=["classes", "score"])
def test_graphs_answer_as_the_predictor_does(target: Any, tiny: bool, tmp_path: Path) -> None:
    """A post goes through the three graphs by hand, as export.json says, and meets the predictor's answer."""
    import onnxruntime

    made = make_model(tmp_path / "task", target, student=tiny_student(tmp_path) if tiny else PACKAGED)
    half_linear(made)
    told = export_onnx(made, tmp_path / "onnx")
    graphs = {
        name: onnxruntime.InferenceSession(str(tmp_path / "onnx" / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("image", "text", "head")
    }
    predictor = Predictor.load(made, cached=False)
    image, text = predictor.encoders()
    file, caption = picture(size=(256, 200)), "a day that was better than most"
    shown = Image.open(io.BytesIO(file)).convert("RGB")
    views = []
    for view in told["image"]["views"]:
        square = np.asarray(image.square(shown, view), np.float32) / 255  # type: ignore[union-attr]
        views.append(
            (square - np.array(told["image"]["mean"], np.float32)) / np.array(told["image"]["std"], np.float32)
        )
    pixels = np.stack(views).transpose(0, 3, 1, 2).astype(np.float32)
    tokens = text.tokenize([caption])  # type: ignore[union-attr]
    given = {
        "image": graphs["image"].run(None, {"pixels": pixels})[0].mean(0, keepdims=True),
        "text": graphs["text"].run(None, {name: tokens[name].long().numpy() for name in told["text"]["inputs"]})[0],
        "has_image": np.array([True]),
        "has_text": np.array([True]),
    }
    if told["grams"]:
        given["grams"] = hash_grams([caption], LexicalBranch.model_validate(told["grams"])).toarray()
    found = graphs["head"].run(None, given)[0][0]
    wanted = predictor.predict(text=caption, image=file)
    if wanted.probabilities is None:
        assert float(found) == pytest.approx(wanted.value, abs=0.02)
    else:
        assert found.tolist() == pytest.approx(list(wanted.probabilities.values()), abs=0.01)
    assert all(off < 1e-4 for off in told["off"].values())
