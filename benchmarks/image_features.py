"""What blocks of an image encoder, and larger ones, tell beside captions: a logistic regression on MVSA's sentiment.

    python benchmarks/image_features.py --mvsa /data/mvsa_single

Features of frozen encoders (centre crop and whole picture averaged) beside those of the packaged text encoder; each
block of features standardised by the posts that are learnt from, and weighed alike. Grouped 5-fold of all posts, the
strength of three with the least log loss. Prints a line a set of features, and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import kfold
import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch.nn import functional as F

from assay import images
from assay.config import ImageBranch
from assay.encode.blocks import blocks_of
from assay.encode.image_encoders import LITE, load_image_encoder
from assay.errors import run_main
from assay.posts import read
from assay.progress import progress
from assay.splits import split

STRENGTHS = (0.3, 1.0, 3.0)
CHUNK = 32  # pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvsa", required=True, help="MVSA-single")
    parser.add_argument("--encoders", nargs="*", choices=list(LITE), default=list(LITE), help="default: all three")
    parser.add_argument("--quick", action="store_true", help="400 posts, the first encoder alone")
    args = parser.parse_args()
    params = kfold.params_of(quick=args.quick, path=args.mvsa)
    with tempfile.TemporaryDirectory(prefix="assay-features-") as work:
        data = kfold.Prepared(params, "sentiment", Path(work), baselines=False)
        y, folds = labels_and_folds(data)
        pictures = [row["images"][0] for row in read(Path(work) / "sample", ["images"]).to_pylist()]
        blocks = {"text": data.features.text}
        for name in args.encoders[: 1 if args.quick else None]:
            blocks |= {f"{name[-5:]} {at}": found for at, found in blocks_of_pictures(name, pictures).items()}
    found = {}
    for name, parts in variants(list(blocks)).items():
        found[name] = figures(y, out_of_fold([blocks[part] for part in parts], y, folds))
        print(name, found[name], flush=True)
    print(json.dumps(found))


def labels_and_folds(data: kfold.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """The class and the fold of each post, in the order of its features."""
    value = {row["post_id"]: row["value"] for row in data.labels}
    fold = {}
    for number in range(5):
        task = kfold.fold_of(data.task, 5, number)
        for row in split(data.sample, data.labels, task.split, task.target).to_pylist():
            if row["split"] == "test":
                fold[row["post_id"]] = number
    names = list(data.task.target.groups)
    return np.array([names.index(value[i]) for i in data.ids]), np.array([fold[i] for i in data.ids])


def blocks_of_pictures(name: str, pictures: list[bytes]) -> dict[str, np.ndarray]:
    """Vectors [n, width] of an encoder's own output and of its later blocks."""
    branch = ImageBranch(encoder=name, views=["crop", "whole"])
    own = load_image_encoder(branch)
    count = len(blocks_of(own.model) or [])
    later = list(range(4, count + 1))
    encoder = load_image_encoder(branch.model_copy(update={"layers": later}))
    widths = [load_image_encoder(branch.model_copy(update={"layers": [at]})).dim - own.dim for at in later]
    encoder.speed_up()
    said = []
    for start in progress(range(0, len(pictures), CHUNK), what=name, unit="chunk"):
        some = [images.decode(data, images.MAX_PIXELS) for data in pictures[start : start + CHUNK]]
        said.append(encoder.encode(some))
    parts = np.split(np.concatenate(said), np.cumsum([own.dim, *widths])[:-1], axis=1)
    return dict(zip(["own", *map(str, later)], parts, strict=True))


def variants(names: list[str]) -> dict[str, list[str]]:
    """Sets of blocks, by what they are called."""
    found = {}
    for lite in dict.fromkeys(name.split()[0] for name in names if name != "text"):
        own = ["text", f"{lite} own"]
        found[lite] = own
        found |= {f"{lite}, block {at}": [*own, f"{lite} {at}"] for at in (4, 5, 6, 7)}
        found[f"{lite}, blocks 5 to 7"] = [*own, *(f"{lite} {at}" for at in (5, 6, 7))]
    every = [name for name in names if name == "text" or name.endswith("own")]
    return found | ({"all three": every} if len(every) > 2 else {})


def out_of_fold(blocks: list[np.ndarray], y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities [n, 3] of the strength with the least log loss."""
    best: tuple[float, np.ndarray] | None = None
    for strength in STRENGTHS:
        said = np.zeros((len(y), 3))
        for fold in range(5):
            learn, held = folds != fold, folds == fold
            x = np.hstack([standardised(block, learn) for block in blocks])
            said[held] = fitted(x[learn], y[learn], x[held], strength)
        loss = float(-np.log(said[np.arange(len(y)), y]).mean())
        if best is None or loss < best[0]:
            best = loss, said
    assert best is not None
    return best[1]


def figures(y: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Accuracy, weighted F1, ROC-AUC and log loss."""
    told = said.argmax(1)
    found = {
        "accuracy": (told == y).mean(),
        "f1_weighted": f1_score(y, told, average="weighted"),
        "auroc": roc_auc_score(y, said, multi_class="ovr"),
        "log_loss": -np.log(np.maximum(said[np.arange(len(y)), y], 1e-9)).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def standardised(block: np.ndarray, learn: np.ndarray) -> np.ndarray:
    """[n, width], some 1 long each."""
    return np.asarray((block - block[learn].mean(0)) / (block[learn].std(0) + 1e-6) / block.shape[1] ** 0.5)


def fitted(x: np.ndarray, y: np.ndarray, held: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities [m, 3] of a logistic regression with a ridge penalty."""
    inputs, wanted = torch.from_numpy(x).float(), torch.from_numpy(y)
    weight, bias = torch.zeros(x.shape[1], 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        found = F.cross_entropy(inputs @ weight + bias, wanted) + weight.square().sum() / (2 * strength * len(y))
        found.backward()  # type: ignore[no-untyped-call]
        return found

    solver.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return (torch.from_numpy(held).float() @ weight + bias).softmax(1).numpy()


if __name__ == "__main__":
    run_main(main)
