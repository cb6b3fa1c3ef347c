"""The train stage's work: tables and features in, a calibrated model folder out."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from assay.config import ClassesTarget, Student, Target, Task
from assay.errors import DataError
from assay.measure import calibrate
from assay.places import home
from assay.student import features as feature_files
from assay.student.card import write_card
from assay.student.features import Features
from assay.student.fit import Curve, Fitted, Part, checkpoint_key, fit
from assay.student.model import Trained


def learn(
    name: str,
    task: Task,
    student: Student,
    *,
    features: Path,
    labels: Path,
    split: Path,
    out: Path,
    on_epoch: Callable[[Curve], None] | None = None,
) -> Trained:
    """Train, calibrate and save the student of a task; returns it."""
    ids, known, made = feature_files.load(features)
    parts = parts_by_split(ids, known, labels, split, task.target)
    key = checkpoint_key(
        name,
        student.model_dump(),
        task.target.model_dump(),
        task.train.model_dump(),
        made,
        feature_files.code_digest(*(str(path) for path in sorted(Path(__file__).parent.glob("*.py")))),
        *(getattr(part.features, f) for part in parts.values() for f in ("image", "text", "has_image", "has_text")),
        *(array for part in parts.values() for array in (part.values, part.weights)),
    )
    fitted = fit(
        parts["train"],
        parts["val"],
        student=student,
        target=task.target,
        settings=task.train,
        checkpoint=home() / "checkpoints" / f"{key}.pt",
        on_epoch=on_epoch,
    )
    calibration = calibrate_student(fitted, parts.get("calibration") or parts["val"], task.target)
    trained = Trained(
        fitted.model,
        name,
        student,
        task.target,
        made["encoders"],
        preprocessing={"image_px": made["image_px"], "max_images": made["max_images"]},
        calibration=calibration,
        versions=_versions(),
        training=_training(task, fitted, parts),
    )
    trained.save(out, write_card(trained, task))
    return trained


def parts_by_split(ids: list[str], features: Features, labels: Path, split: Path, target: Target) -> dict[str, Part]:
    """Features, targets and weights of each split; posts without text and image are left out."""
    label = {
        row["post_id"]: row for row in pq.read_table(labels, columns=["post_id", "value", "inclusion_p"]).to_pylist()
    }
    place = {post_id: i for i, post_id in enumerate(ids)}
    rows: dict[str, list[int]] = {}
    for row in pq.read_table(split, columns=["post_id", "split"]).to_pylist():
        at = place.get(row["post_id"])
        if at is None:
            raise DataError(f"post {row['post_id']} is in the split but has no features; run `dvc repro`")
        if features.has_image[at] or features.has_text[at]:
            rows.setdefault(row["split"], []).append(at)
    return {
        name: Part(
            features.take(np.array(at)),
            targets([label[ids[i]]["value"] for i in at], target),
            np.array([1 / label[ids[i]]["inclusion_p"] for i in at]),
        )
        for name, at in rows.items()
    }


def targets(values: list[Any], target: Target) -> np.ndarray:
    """Label values as numbers: scores float32 [n], or class numbers int64 [n]."""
    if isinstance(target, ClassesTarget):
        return np.array([target.names.index(value) for value in values], dtype=np.int64)
    return np.array(values, dtype=np.float32)


def calibrate_student(fitted: Fitted, part: Part, target: Target) -> dict[str, float]:
    """Fit the temperature into the model (classes), or measure its 90 % residual (scores); returns the figures."""
    predicted = fitted.model.predict(part.features)
    if isinstance(target, ClassesTarget):
        found = calibrate.temperature(part.values, predicted)
        torch.nn.init.constant_(fitted.model.output.temperature, found)  # type: ignore[arg-type]
        return {"temperature": round(found, 6), "posts": len(part.values)}
    half = calibrate.residual_quantile(part.values, predicted)
    return {"posts": len(part.values)} | ({"residual_q90": round(half, 6)} if half is not None else {})


def _training(task: Task, fitted: Fitted, parts: dict[str, Part]) -> dict[str, Any]:
    return {
        "settings": task.train.model_dump(),
        "posts": {name: len(part.values) for name, part in sorted(parts.items())},
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.curves),
        "stopped": fitted.stopped,
        "best": {k: round(v, 6) for k, v in fitted.curves[fitted.best_epoch].items()},
    }


def _versions() -> dict[str, str]:
    packages = ("assay", "torch", "timm", "transformers", "tokenizers", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
