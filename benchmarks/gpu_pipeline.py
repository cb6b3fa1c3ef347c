"""Posts a second of the stages themselves, with CLIP ViT-B/32, on the device that they choose by themselves.

    python benchmarks/gpu_pipeline.py            # on a machine with a GPU
    python benchmarks/gpu_pipeline.py --quick    # a small encoder and few posts anywhere, to see that it runs

A corpus of drawn pictures and captions, as a table beside a folder of JPEG files, goes through the stages' own code:
ingest, sample, annotate (from a column), embed, split, train, infer. Weights are random, of the real classes and
sizes. Nothing is kept from one measurement to the next. The last line is one JSON object:

- `embed`, `infer`: posts a second with frozen encoders, from packed samples and from files
- `train_s`: seconds of five students of cross-fitting on these features
- `learn`, `learn_lora`: posts a second of the train stage with both encoders learning, all of their weights or LoRA
- `seconds`, `peak_gpu_mib`: of each step; the most memory of the GPU that tensors took
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_train_infer import NAMES, WORDS, drawn_pictures, save_clip
from kfold import Prepared, fold_of, params_of, trained_on

from assay.config import Infer
from assay.encode.encoders import default_device
from assay.encode.extract import embed
from assay.errors import run_main
from assay.images import MAX_PIXELS
from assay.progress import cores
from assay.scoring.corpus import infer

COLUMNS = "{id: id, text: text, image: image, gold: {labels: labels}}"


def write_corpus(folder: Path, posts: int) -> None:
    """A table of drawn posts, each with a picture file of its own; what a caption says decides its labels."""
    rng = np.random.default_rng(0)
    pictures = drawn_pictures(rng, 640, 480, quality=85)
    (folder / "images").mkdir(parents=True)
    with (folder / "posts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "image", "labels"])
        for number in range(posts):
            name = f"images/{number:06d}.jpg"
            (folder / name).write_bytes(pictures[number % 64] + number.to_bytes(4, "big"))  # no two files alike
            words = rng.choice(WORDS, int(rng.integers(6, 40)))
            labels = [label for label, word in zip(NAMES, WORDS, strict=False) if word in words]
            table.writerow([number, " ".join(words), name, json.dumps(labels)])


def prepared(work: Path, corpus: Path, clip: Path, labelled: int, **changes: str) -> Prepared:
    """The corpus walked up to its features, with the student that `changes` of its sections give."""
    frozen = {
        "image.encoder": str(clip),
        "image.layers": "null",
        "image.views": "[crop]",
        "text.encoder": str(clip),
        "text.layers": "null",
        "text.pooling": "pooler",
        "text.max_tokens": "40",
        "sample.design": "random",
        "sample.posts": str(labelled),
    }
    told = [f"{key}={value}" for key, value in (frozen | changes).items()]
    params = params_of(
        quick=False, path=str(corpus), kind="table", columns=COLUMNS, column="labels", target="labels", set=told
    )
    return Prepared(params, "sentiment", work, baselines=False)


def timed(what: str, run: Callable[[], Any], found: dict[str, Any]) -> Any:
    """What a step gives; its seconds under its name, and the GPU's memory beside it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        found["peak_gpu_mib"][what] = torch.cuda.max_memory_allocated() >> 20
    found["seconds"][what] = round(time.perf_counter() - started, 2)
    return result


def measure(work: Path, posts: int, labelled: int, epochs: int, *, small: bool) -> dict[str, Any]:
    """All figures on this machine."""
    save_clip(work / "clip", small)
    write_corpus(work / "corpus", posts)
    found: dict[str, Any] = {"seconds": {}, "peak_gpu_mib": {}}
    corpus, clip = work / "corpus", work / "clip"

    def home(name: str) -> None:
        os.environ["ASSAY_HOME"] = str(work / "home" / name)

    home("walk")
    data = timed("walk", lambda: prepared(work / "walk", corpus, clip, labelled), found)
    sample = {"image_px": data.task.sample.image_px, "max_images": data.task.sample.max_images}
    home("embed")  # once more, now that all is warm, with nothing kept
    timed("embed", lambda: embed(data.work / "sample", work / "features", student=data.student, **sample), found)
    task = fold_of(data.task, 5, 0)
    trained, _ = timed("train", lambda: trained_on(data, task, 1), found)
    trained.save(work / "model", card="")
    home("infer")
    outs = {data.name: work / "predictions"}
    split = data.work / "split.parquet"

    def score() -> dict[str, Any]:
        figures, _ = infer(
            work / "model", data.work / "posts", corpus, split, outs, settings=Infer(cache=0), max_pixels=MAX_PIXELS
        )
        return figures

    scored = timed("infer", score, found)
    took = found["seconds"]
    found |= {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else str(default_device()),
        "cores": cores(),
        "posts": posts,
        "labelled": labelled,
        "scored": scored["scored"],
        "embed": round(labelled / took["embed"], 1),
        "infer": round(posts / took["infer"], 1),
        "train_s": took["train"],
    }
    learning = {"image.frozen": "false", "text.frozen": "false", "train.crossfit": "0", "train.epochs": str(epochs)}
    learning |= {"train.patience": str(epochs), "train.batch_size": "64"}
    lora = {"image.lora": "{rank: 8}", "text.lora": "{rank: 8}"}
    for name, more in (("learn", {}), ("learn_lora", lora)):
        home(name)
        data = prepared(work / name, corpus, clip, labelled, **learning, **more)
        _, parts = timed(name, lambda data=data: trained_on(data, fold_of(data.task, 5, 0), 1), found)  # type: ignore[misc]
        found[name] = round(epochs * len(parts["train"]) / took[name], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=16_384)
    parser.add_argument("--labelled", type=int, default=4_096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny model and 300 posts, to see that it runs")
    args = parser.parse_args()
    posts, labelled, epochs = (300, 200, 1) if args.quick else (args.posts, args.labelled, args.epochs)
    with tempfile.TemporaryDirectory(prefix="assay-gpu-") as work:
        print(json.dumps(measure(Path(work), posts, labelled, epochs, small=args.quick)))


if __name__ == "__main__":
    run_main(main)
