"""A model folder as a repository of the Hugging Face Hub: files, metrics, and a card that the Hub can read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from assay.errors import ModelError, SettingsError
from assay.progress import say
from assay.scoring.export import export_onnx
from assay.student.trained import Trained, load_trained, model_digest

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_TASKS = {"number": "regression", "name": "classification", "names": "multi-label-classification"}


def hub_folder(model: Path, out: Path, *, repository: str | None = None, onnx: bool = False) -> Path:
    """Write the repository of a model folder to `out`; ModelError where `out` holds something else.

    Students of other seeds stay behind. `onnx` adds graphs below onnx/.
    """
    trained = load_trained(model)
    if out.exists() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise ModelError(f"{out}: not empty, and no model in it; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(model.iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors"):
            shutil.copyfile(path, out / path.name)
    figures = evaluated(model)
    if figures is not None:
        (out / "evaluate.json").write_text(json.dumps(figures, indent=1) + "\n")
    if onnx:
        export_onnx(model, out / "onnx")
    card = (model / "README.md").read_text() if (model / "README.md").is_file() else f"# Student `{trained.name}`\n"
    (out / "README.md").write_text(_front(trained, figures) + card + _use(repository or "user/name"))
    return out


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder of `hub_folder` and return its address; the token comes from HF_TOKEN.

    SettingsError where there is no token or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    token = os.environ.get("HF_TOKEN")
    if not token:
        raise SettingsError("HF_TOKEN is not set; export a token with write access to the Hub")
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Student of assay")
    except HFValidationError as error:
        raise SettingsError(f"--repo {repository}: {' '.join(str(error).split())[:160]}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise SettingsError(f"the Hub refused ({status}); check HF_TOKEN and --repo {repository}") from error
    except OSError as error:
        raise SettingsError(f"the Hub cannot be reached: {type(error).__name__}; try again") from error
    return str(done.commit_url)


def publish(model: Path, out: Path, repository: str | None, *, private: bool, onnx: bool) -> None:
    """The command: write the folder, and upload it where a repository is named."""
    if repository is not None and not REPOSITORY.fullmatch(repository):
        raise SettingsError(f"--repo {repository!r} is no repository; give user/name")
    folder = hub_folder(model, out, repository=repository, onnx=onnx)
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    say(f"push: {folder}, {files} files")
    if repository is not None:
        say(f"push: {push(folder, repository, private=private)}")


def figure_files(model: Path) -> list[Path]:
    """Where the figures of a model may stand: of a task, of a joint student."""
    here = model.resolve()
    root = here.parent.parent / "metrics"
    return [root / here.name / "evaluate.json", root / "joint" / here.name / "evaluate.json"]


def evaluated(model: Path, version: str | None = None) -> dict[str, Any] | None:
    """The evaluate.json of a model, in the metrics folder beside its models folder.

    None where there is none, or where it judged another version than `version` (default: that of the folder).
    """
    version = version or model_digest(model)[:16]
    for path in figure_files(model):
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text())
            return found if isinstance(found, dict) and found.get("model") == version else None
    return None


def _front(trained: Trained, evaluated: dict[str, Any] | None) -> str:
    """The card's head, in YAML: what the Hub shows and searches by."""
    kinds = sorted({HUB_TASKS[target.shape] for target in trained.targets.values()})
    front: dict[str, Any] = {
        "library_name": "assay",
        "tags": ["assay", "multimodal", "image-and-text", "social-media", *kinds],
    }
    results = []
    for task, target in trained.targets.items():
        own = (evaluated or {}).get(task, evaluated or {}) if len(trained.targets) > 1 else evaluated or {}
        figure = own.get(target.headline)
        if isinstance(figure, dict) and figure.get("value") is not None:
            name = f"{target.headline} [{figure['low']}, {figure['high']}]"
            metric = {"type": target.headline, "value": figure["value"], "name": name}
            data = {"name": f"held-out posts of {task}", "type": task, "split": "test"}
            results.append({"task": {"type": HUB_TASKS[target.shape]}, "dataset": data, "metrics": [metric]})
    if results:
        front["model-index"] = [{"name": trained.name, "results": results}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _use(repository: str) -> str:
    return f"""
## Use it
```python
from huggingface_hub import snapshot_download
from assay import Predictor

predictor = Predictor.load(snapshot_download("{repository}"))
print(predictor.predict(text="a good day", image="picture.jpg"))
```
"""
