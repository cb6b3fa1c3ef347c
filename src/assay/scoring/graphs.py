"""A model folder with the graphs of its encoders, to be deployed: small, and no worse by what is known of it.

Graphs are compared with the student in PyTorch on posts of its sample, or drawn ones where there are too few. In
single precision they must agree; with small weights (pictures and the trained part in half precision, texts in eight
bits), and where encoders are computed in bf16, the student must not be decided to be worse, on the posts that it was
judged by, than what is allowed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from assay.corpora.demo import ensure_drawn
from assay.encode.encoders import Encoder, default_device
from assay.encode.extract import PostInputs, sample_inputs
from assay.encode.graph import Precision, Weights, has_bf16, wanted, write
from assay.encode.image_encoders import ImageEncoder
from assay.encode.text_encoders import TextEncoder
from assay.errors import ModelError, SettingsError
from assay.images import content_hash
from assay.measure.judged import Judged, read_judged
from assay.measure.metrics import Figure
from assay.measure.paired import Pair, verdicts
from assay.places import home, with_extra
from assay.posts import stream
from assay.progress import progress, say
from assay.scoring.exported import FOLDER, write_facts
from assay.scoring.predict import Predictor
from assay.student.model import own
from assay.student.trained import FOLDS, WEIGHTS
from assay.targets import NUMBER, Target

Kind = Literal["auto", "fast", "small", "full"]
LEAST_POSTS = 500
LARGE = 4096  # numbers of a tensor whose size counts
TOLERANCE = 0.002  # of a score's range, or of a probability, in single precision
LOSS = 0.005  # of the headline figure, that small weights may cost
SMALL: dict[str, Weights] = {"image": "fp16", "text": "int8"}  # eight bits ruin the vectors of an EfficientNet
KINDS: dict[str, tuple[dict[str, Weights], Precision]] = {  # what weights are kept in, what is computed in
    "fast": (SMALL, "bf16"),
    "small": (SMALL, "f32"),
    "full": ({"image": "fp32", "text": "fp32"}, "f32"),
}


@dataclass(frozen=True)
class Known:
    """What a repository knows of a task: its sample, and what its student was judged by (see evaluate)."""

    task: str
    sample: Path
    errors: Path


def known_of(model: Path, task: str) -> Known | None:
    """What lies in the repository of a model folder; None where it is of none."""
    root = model.resolve().parent.parent
    found = Known(task, root / "data" / "sample" / task, root / "metrics" / task / "errors.parquet")
    return found if found.sample.is_dir() and found.errors.is_file() else None


def export_graphs(model: Path, out: Path, *, weights: Kind = "auto", known: Known | None = None) -> dict[str, Any]:
    """Write a model folder with graphs to `out`; returns what its graph.json says.

    `known`: what to compare on; by default what the repository of the model has. auto: the first of `KINDS`
    by which the student is not decided to lose more than `LOSS` of its headline figure; the last where nothing is
    known to judge it by.
    SettingsError where OpenVINO or NNCF is lacking, or ASSAY_RUNTIME=torch; ModelError where an encoder has no graph,
    or one differs.
    """
    _check_installed()
    if out.exists() and any(out.iterdir()):
        raise SettingsError(f"export: {out} is there already; name a folder that is not")
    plain = Predictor.load(model, cached=False, graphs={})
    if known is None and len(plain.targets) == 1:
        known = known_of(model, plain.trained.task)
    if weights == "auto" and known is None:
        say("export: no posts here that this student was judged by; its weights stay in single precision")
        weights = "full"
    posts = _posts(known, plain.max_images)
    reference = _raw(plain, posts)
    for kind in _tried(weights):
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            _write(model, partial, plain, kind)
            told: dict[str, Any] = dict(zip(("weights", "precision"), KINDS[kind], strict=True))
            told |= {"posts": len(posts), "mib": _mib(partial)}
            write_facts(partial, told)
            graphed = Predictor.load(partial, cached=False)
            _must_run(graphed, model)
            told["largest_difference"] = _largest(plain, reference, _raw(graphed, posts))
            if kind == "full":
                _must_agree(told["largest_difference"])
            elif known:
                told["headline"] = _lost(plain, graphed, known)
                if weights == "auto" and told["headline"]["is_worse"]:
                    say(f"export: {kind} graphs cost too much ({told['headline']}); slower ones are tried instead")
                    continue
            found = write_facts(partial, told)
            if out.exists():
                out.rmdir()
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        most = max(told["largest_difference"].values())
        say(f"export: {out}, {told['mib']} MiB, at most {most:.2g} from PyTorch on {len(posts)} posts")
        return found
    raise AssertionError("single precision is always taken")


def _tried(weights: Kind) -> list[str]:
    """The kinds of graphs to try, fastest first; SettingsError for one that this machine cannot be asked for."""
    if weights == "fast" and not has_bf16():
        raise SettingsError("export: this processor has no bf16 to compare in; say --weights small, or auto")
    if weights != "auto":
        return [weights]
    return [kind for kind in KINDS if kind != "fast" or has_bf16()]


def _must_run(graphed: Predictor, model: Path) -> None:
    """ModelError where the graphs are not what answers: nothing would be compared."""
    for encoder in graphed.encoders():
        if isinstance(encoder, ImageEncoder | TextEncoder) and not encoder.has_graph:
            raise ModelError(f"{model}: a graph of its encoders cannot be run on this machine")


def _check_installed() -> None:
    if default_device().type != "cpu":
        raise SettingsError("export: graphs are for CPUs, and are made on one; hide the GPU (CUDA_VISIBLE_DEVICES=)")
    if wanted() == "torch":
        raise SettingsError("export: ASSAY_RUNTIME=torch leaves no graph to compare; unset it")
    try:
        import nncf as _  # noqa: F401
        import openvino as __  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"export --graph needs {error.name}: {with_extra('fast')}") from error


def _write(model: Path, folder: Path, plain: Predictor, kind: str) -> None:
    """The model folder without what only this repository needs, and a graph of each encoder."""
    weights, precision = KINDS[kind]
    (folder / FOLDER).mkdir(parents=True)
    for path in sorted(model.iterdir()):
        if path.is_file() and path.name != FOLDS:
            shutil.copyfile(path, folder / path.name)
    if weights is SMALL:
        _halve(folder / WEIGHTS)
    branches: tuple[tuple[str, Encoder | None], ...] = tuple(zip(("image", "text"), plain.encoders(), strict=True))
    for name, encoder in branches:
        if encoder is None:
            continue
        if not isinstance(encoder, ImageEncoder | TextEncoder):
            raise ModelError(f"{model}: its {name} encoder has no graph; it runs on PyTorch alone")
        try:
            write(encoder.traced(), folder / FOLDER / f"{name}.xml", weights=weights[name], precision=precision)
        except Exception as error:  # of tracing, of conversion, of compression
            said = " ".join(str(error).split())[:160]
            raise ModelError(f"{model}: its {name} encoder has no graph ({type(error).__name__}: {said})") from error


def _halve(path: Path) -> None:
    """Keep the large tensors of a safetensors file in half precision, where all of their numbers can be."""
    kept = load_file(path)
    for name, one in kept.items():
        half = one.to(torch.float16)
        if one.dtype == torch.float32 and one.numel() >= LARGE and bool(torch.isfinite(half).all()):
            kept[name] = half
    save_file(kept, path)


def _posts(known: Known | None, most_images: int) -> list[PostInputs]:
    """Posts to compare on: of the sample, and drawn ones where these are few."""
    found: list[PostInputs] = []
    if known:
        for rows in stream(known.sample, ["text", "images", "image_hashes"], 64):
            found += map(sample_inputs, rows)
            if len(found) >= LEAST_POSTS:
                return found[:LEAST_POSTS]
    root = home() / "drawn-posts"
    ensure_drawn(root, posts=LEAST_POSTS + 20, seed=1)
    for path in sorted(root.rglob("*.jpg")):
        data, text = path.read_bytes(), f"a picture with the number {path.stem.replace('-', ' ')}"
        found.append(PostInputs(text, [(content_hash(data), data)][:most_images]))
    return found[:LEAST_POSTS]


def _raw(predictor: Predictor, posts: Sequence[PostInputs]) -> dict[str, np.ndarray]:
    """What each student of a model says of posts, [students, n, …] by task."""
    found: dict[str, list[np.ndarray]] = {}
    with progress(what="export", total=len(posts)) as bar:
        for start in range(0, len(posts), 64):
            features, _ = predictor.features(posts[start : start + 64])
            for task, said in predictor.trained.model.each(features).items():
                found.setdefault(task, []).append(said)
            bar.update(len(posts[start : start + 64]))
    return {task: np.concatenate(parts, axis=1) for task, parts in found.items()}


def _largest(plain: Predictor, one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of an answer by task, as a share of a score's range or in probability."""
    found = {}
    for task, target in plain.targets.items():
        apart = float(np.abs(one[task].mean(0) - other[task].mean(0)).max())
        spans = target.span(target.headline) if target.shape == NUMBER else 1.0
        found[task] = float(f"{apart / spans:.3g}")
    return found


def _must_agree(largest: dict[str, float]) -> None:
    for task, apart in largest.items():
        if not apart <= TOLERANCE:
            raise ModelError(
                f"export: {task}: graphs in single precision differ from PyTorch by {apart:.2g} of the range, over "
                f"{TOLERANCE:g}; nothing is written. Please report this"
            )


def _lost(plain: Predictor, graphed: Predictor, known: Known) -> dict[str, Any]:
    """The headline figure of both on the posts that the student was judged by, and their paired difference."""
    task, target = known.task, plain.targets[known.task]
    ids, test = read_judged(known.errors, target)
    wanted = dict.fromkeys(ids)
    rows = {
        row["post_id"]: sample_inputs(row)
        for batch in stream(known.sample, ["post_id", "text", "images", "image_hashes"], 64)
        for row in batch
        if row["post_id"] in wanted
    }
    fold_of = plain.trained.fold_of
    if any(one not in rows or (fold_of and one not in fold_of) for one in ids):
        raise ModelError(f"{known.errors} is of another sample or student; run `dvc repro evaluate@{task}` first")
    posts = [rows[post_id] for post_id in ids]
    folds = np.array([fold_of[one] for one in ids], np.int64) if fold_of else None
    sides = [own(_raw(one, posts)[task], folds).astype(float) for one in (plain, graphed)]
    return {"posts": len(ids), **headline(test, target, sides)}


def headline(test: Judged, target: Target, sides: list[np.ndarray]) -> dict[str, Any]:
    """The headline figure of two sets of predictions, their difference, and whether the second is decided to be worse.

    Worse: the whole 95 % interval of the paired difference lies below `LOSS` of the first one's figure.
    """
    cuts = test.thresholds.get("student")
    pair = Pair(test.y, test.weights, test.group, ([sides[0]], [sides[1]]), ([cuts], [cuts]))
    row = next(one for one in verdicts(pair, target, margin=LOSS) if one["metric"] == target.headline)
    allowed = LOSS * abs(Figure.of(row["a"]).value)
    kept = {"metric": row["metric"], "a": row["a"], "b": row["b"], "difference": row["difference"]}
    return {**kept, "allowed": round(allowed, 6), "is_worse": Figure.of(row["difference"]).high < -allowed}


def _mib(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20, 1)
