"""Cross-fitting: k students, each without one fold of whole leakage groups, so that every labelled post has a
prediction by a student that never saw it.

A part of what a student learns from decides when it stops. Temperature and thresholds of the student without fold j are
fitted on the out-of-fold predictions of the other folds: nothing that a post is judged by was fitted on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import Student, Train
from assay.errors import DataError
from assay.progress import say
from assay.splits import grouped_folds
from assay.student.fit import Fitted, fit
from assay.student.folds import assign_folds, fit_with_folds, keep_arrays, kept_arrays, mean_curve
from assay.student.model import Ensemble, StudentModel
from assay.student.parts import Part
from assay.student.resume import Curve
from assay.student.team import Team
from assay.targets import Target

DEFAULT = 5
STOPPING = 8  # one in so many of what a student learns from tells when to stop


@dataclass
class CrossFitted:
    """Students by fold, and what each labelled post was told by the one that never saw it."""

    model: Ensemble
    fold: np.ndarray  # int64 [n], of the posts of the pool
    curves: list[Curve]  # means over the folds that still ran
    best_epoch: int  # the mean
    calibration: dict[str, dict[str, Any]]  # by task, over all out-of-fold predictions
    of_folds: list[dict[str, dict[str, Any]]]  # by fold and task, over those of the other folds


def folds_wanted(student: Student, settings: Train) -> int:
    """How many folds params ask for: 0 is one student, judged by a test split."""
    if settings.crossfit is not None:
        return settings.crossfit
    return 0 if student.tuned else DEFAULT


def crossfit(
    pool: Part,
    *,
    student: Student,
    targets: dict[str, Target],
    settings: Train,
    folds: int,
    checkpoint: Path | None,
    on_epoch: Callable[[Curve], None] | None = None,
) -> CrossFitted:
    """Fit a student without each fold of the pool; DataError where there are too few leakage groups.

    `on_epoch` gets the figures of every epoch of the first student, while it learns.
    """
    groups = len(np.unique(pool.group))
    if groups < folds:
        say(f"train: {groups} leakage groups make {groups} folds, not {folds}")
        folds = groups
    if folds < 2:
        raise DataError("train.crossfit: all labelled posts are one leakage group; label more posts, or set it to 0")
    place = assign_folds(pool, targets, folds, settings.seed)
    sizes = pool.features.image.shape[1], pool.features.text.shape[1]
    members: list[StudentModel] = []
    guesses: dict[str, np.ndarray] = {}
    curves: list[list[Curve]] = []
    epochs: list[int] = []
    kept: list[Path] = []
    for number in range(folds):
        rows = np.flatnonzero(place == number)
        done = checkpoint.with_name(f"{checkpoint.stem}.cross{number}.npz") if checkpoint else None
        found = kept_arrays(done)
        if found is None:
            own = checkpoint.with_name(f"{checkpoint.stem}.cross{number}.pt") if checkpoint else None
            rest = pool.take(np.flatnonzero(place != number))
            what = f"student {number + 1} of {folds}"
            given: dict[str, Any] = {"student": student, "targets": targets, "settings": settings}
            given |= {"checkpoint": own, "on_epoch": on_epoch if number == 0 else None}
            fitted = _fit(rest, given, what)
            found = {name: tensor.numpy() for name, tensor in fitted.model.state_dict().items()}
            found |= {"curves": json.dumps(fitted.curves), "best_epoch": fitted.best_epoch}
        elif number == 0 and on_epoch:
            for curve in json.loads(str(found["curves"])):
                on_epoch(curve)
        if done and Team().is_main:
            keep_arrays(done, found)
            kept.append(done)
        curves.append(json.loads(str(found.pop("curves"))))
        epochs.append(int(found.pop("best_epoch")) + 1)
        member = StudentModel(student, targets, *sizes)
        member.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in found.items()})
        members.append(member.eval())
        for name, guess in member.predict(pool.features.take(rows)).items():
            whole = guesses.setdefault(name, np.zeros((len(pool), *guess.shape[1:]), np.float32))
            whole[rows] = guess
    together = calibrate(members[0], pool, guesses, targets)
    of_folds = [calibrate(member, pool, guesses, targets, place != j) for j, member in enumerate(members)]
    for path in kept:
        path.unlink(missing_ok=True)
    longest = [mean_curve(curves, epoch) | {"epoch": epoch} for epoch in range(max(len(one) for one in curves))]
    best = min(round(float(np.mean(epochs))), len(longest)) - 1
    return CrossFitted(Ensemble(members), place, longest, best, together, of_folds)


def calibrate(
    model: StudentModel,
    part: Part,
    predicted: dict[str, np.ndarray],
    targets: dict[str, Target],
    rows: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit temperature and thresholds into a model by posts that it did not learn from, and measure how far predictions
    are off; returns the figures by task. `rows`, bool [n], says which posts count; None: all.
    """
    found: dict[str, dict[str, Any]] = {}
    for task, target in targets.items():
        known = part.known(task) & (True if rows is None else rows)
        y, p = part.values[task][known], predicted[task][known].astype(float)
        found[task] = {"posts": len(y), **model.output(task).calibrate(target, y, p, part.weights[known])}
    return found


def stopping(part: Part, targets: dict[str, Target], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a part to learn from, and those that tell when to stop: whole groups, about one post in eight."""
    task, target = next(iter(targets.items()))
    groups = len(np.unique(part.group))
    if groups < 2:
        raise DataError("train.crossfit leaves one leakage group to learn from; label more posts, or set it to 0")
    where = grouped_folds(target.strata_with_gaps(part.values[task]), part.group, min(STOPPING, groups), seed)
    return np.flatnonzero(where > 0), np.flatnonzero(where == 0)


def _fit(rest: Part, given: dict[str, Any], what: str) -> Fitted:
    """One student, stopped by a part of its posts or, where params ask for it, by inner folds of them."""
    if given["settings"].inner_folds:
        return fit_with_folds(rest, new_towers=lambda: None, **given)
    learn, stop = stopping(rest, given["targets"], given["settings"].seed)
    return fit(rest.take(learn), rest.take(stop), what=what, **given)
