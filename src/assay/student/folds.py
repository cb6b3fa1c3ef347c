"""Inner cross-validation: how long to train, what to calibrate on, and a teacher for self-distillation.

A small val split misleads. With `train.inner_folds: k` the posts of train and val together are cut
into k folds of whole leakage groups; k students each leave one fold out and stop early on it. The
final student learns from all of these posts for the mean of their best epochs. Every post then has a
prediction by a student that never saw it: these serve for calibration where there is no calibration
split, and with `train.self_distil` as soft targets of the final student (Furlanello et al., 2018).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import Student, Train
from assay.errors import DataError
from assay.splits import grouped_folds
from assay.student.blend import both, fit_linear, raw_of, weigh
from assay.student.fit import EVAL_ROWS, Fitted, device_of, fit, raw_outputs
from assay.student.model import Inputs, Start, StudentModel
from assay.student.parts import Part
from assay.student.resume import Curve
from assay.student.team import Team
from assay.student.towers import Towers
from assay.targets import Target


def fit_with_folds(
    pool: Part,
    *,
    student: Student,
    targets: dict[str, Target],
    settings: Train,
    checkpoint: Path | None,
    on_epoch: Callable[[Curve], None] | None,
    new_towers: Callable[[], Towers | None],
    start: Start | None = None,
) -> Fitted:
    """Fit on each k - 1 folds, then on all; `inner` of the result holds the out-of-fold predictions."""
    groups = len(np.unique(pool.group))
    if groups < settings.inner_folds:
        raise DataError(f"train.inner_folds {settings.inner_folds}: only {groups} leakage groups; label more posts")
    place = assign_folds(pool, targets, settings.inner_folds, settings.seed)
    guesses: dict[str, np.ndarray] = {}
    scratch = StudentModel(student, targets, pool.features.image.shape[1], pool.features.text.shape[1])
    raw = np.zeros((len(pool), len(scratch.share)), np.float32), np.zeros((len(pool), len(scratch.share)), np.float32)
    curves: list[list[Curve]] = []
    epochs: list[int] = []
    kept: list[Path] = []
    for number in range(settings.inner_folds):
        rows = np.flatnonzero(place == number)
        done = checkpoint.with_name(f"{checkpoint.stem}.fold{number}.npz") if checkpoint else None
        found = kept_arrays(done) or _one_fold(
            pool.take(np.flatnonzero(place != number)),
            pool.take(rows),
            number,
            student=student,
            targets=targets,
            settings=settings,
            checkpoint=checkpoint,
            towers=new_towers(),
            start=start,
        )
        if done and Team().is_main:
            keep_arrays(done, found)
            kept.append(done)
        for name in targets:
            whole = guesses.setdefault(name, np.zeros((len(pool), *found[name].shape[1:]), np.float32))
            whole[rows] = found[name]
        if scratch.linear is not None:
            raw[0][rows], raw[1][rows] = found["raw layers"], found["raw linear"]
        curves.append(json.loads(str(found["curves"])))
        epochs.append(int(found["best_epoch"]) + 1)
    weighed = weigh(scratch, raw, pool, targets, settings)
    if weighed:
        mixed = scratch.answers(torch.from_numpy(both(scratch, raw))[None])
        guesses |= {name: mixed[name] for name in weighed}
    if settings.self_distil:
        soft = {name: guess.reshape(len(pool), -1) for name, guess in guesses.items()}
        pool = replace(pool, soft=soft)
        settings = settings.model_copy(update={"soft_targets": settings.self_distil})

    def with_val(curve: Curve) -> None:
        if on_epoch:
            on_epoch(curve | mean_curve(curves, int(curve["epoch"]), "val_"))

    fitted = fit(
        pool,
        None,
        student=student,
        targets=targets,
        settings=settings,
        checkpoint=checkpoint,
        on_epoch=with_val,
        towers=new_towers(),
        epochs=max(1, round(float(np.mean(epochs)))),
        start=start,
    )
    fitted.curves = [curve | mean_curve(curves, int(curve["epoch"]), "val_") for curve in fitted.curves]
    fit_linear(fitted.model, pool, targets, settings.seed)
    fitted.model.share.copy_(scratch.share)
    fitted.inner, fitted.weighed, fitted.stopped = (
        guesses,
        weighed,
        f"the mean best epoch of {settings.inner_folds} inner folds",
    )
    for path in kept:
        path.unlink(missing_ok=True)
    return fitted


def assign_folds(pool: Part, targets: dict[str, Target], folds: int, seed: int) -> np.ndarray:
    """The fold of each post; groups stay whole, strata of the first task are spread."""
    task, target = next(iter(targets.items()))
    return grouped_folds(target.strata_with_gaps(pool.values[task]), pool.group, folds, seed)


def _one_fold(
    rest: Part,
    held: Part,
    number: int,
    *,
    student: Student,
    targets: dict[str, Target],
    settings: Train,
    checkpoint: Path | None,
    towers: Towers | None,
    start: Start | None,
) -> dict[str, Any]:
    fitted = fit(
        rest,
        held,
        student=student,
        targets=targets,
        settings=settings,
        checkpoint=checkpoint.with_name(f"{checkpoint.stem}.fold{number}.pt") if checkpoint else None,
        towers=towers,
        what=f"fold {number + 1} of {settings.inner_folds}",
        start=start,
    )
    found: dict[str, Any] = dict(predict_part(fitted, held, settings))
    if fitted.model.linear is not None:
        fit_linear(fitted.model, rest, targets, settings.seed)
        found["raw layers"], found["raw linear"] = raw_of(fitted.model, held.features)
    return found | {"best_epoch": fitted.best_epoch, "curves": json.dumps(fitted.curves)}


def predict_part(fitted: Fitted, part: Part, settings: Train) -> dict[str, np.ndarray]:
    """Predictions by task of posts, through the encoders that learnt where there are such."""
    device = device_of(settings)
    model = fitted.model.to(device)
    raw = raw_outputs(model, part, Inputs(part.features, model), fitted.towers, device)
    found = model.answers(raw)
    model.to("cpu")
    return found


def vectors_of(fitted: Fitted, part: Part, settings: Train) -> dict[str, np.ndarray]:
    """The features of the posts that have a modality, by modality, as a trained student sees them, [n, d]."""
    features = part.features
    image, text = features.image, features.text
    if fitted.towers is not None:
        device = device_of(settings)
        fitted.towers.eval().to(device)
        inputs = Inputs(features, fitted.model)
        with torch.inference_mode():
            filled = [
                fitted.towers.fill(inputs.rows(rows).to(device), [part.posts[i] for i in rows.tolist()])
                for rows in torch.split(torch.arange(len(part)), EVAL_ROWS)
            ]
        image, text = (torch.cat([getattr(one, name) for one in filled]).cpu().numpy() for name in ("image", "text"))
    return replace(features, image=image, text=text).by_modality()


def mean_curve(curves: list[list[Curve]], epoch: int, start: str = "") -> Curve:
    """Mean figures, those whose names have this start, of the folds that still ran at this epoch."""
    there = [curve[epoch] for curve in curves if epoch < len(curve)]
    names = [name for name in (there[0] if there else {}) if name.startswith(start)]
    return {name: float(np.mean([c[name] for c in there])) for name in names}


def keep_arrays(path: Path, found: dict[str, Any]) -> None:
    """Keep arrays in a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    with open(partial, "wb") as file:
        np.savez(file, **found)
    partial.replace(path)


def kept_arrays(path: Path | None) -> dict[str, Any] | None:
    """The arrays of such a file; None where there is none."""
    if path is None or not path.exists():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}
