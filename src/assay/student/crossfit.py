"""Cross-fitting: k students, each without one fold of whole leakage groups, so that every labelled post has a
prediction by a student that never saw it.

A part of what a student learns from decides when it stops. The share of its linear model, temperature and thresholds
of the student without fold j are fitted on the out-of-fold predictions of the other folds: nothing that a post is
judged by was fitted on that post itself.
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
from assay.student.at_once import Job, learn_all, replay
from assay.student.blend import Weighed, both, mean_weighed, raw_of, weigh
from assay.student.folds import assign_folds, kept_arrays, mean_curve
from assay.student.model import Ensemble, Start, StudentModel
from assay.student.parts import Part
from assay.student.resume import Curve
from assay.student.team import Team
from assay.targets import Target

DEFAULT = 5


@dataclass
class CrossFitted:
    """Students by fold, and what each labelled post was told by the one that never saw it."""

    model: Ensemble
    fold: np.ndarray  # int64 [n], of the posts of the pool
    curves: list[Curve]  # means over the folds that still ran
    best_epoch: int  # the mean
    calibration: dict[str, dict[str, Any]]  # by task, over all out-of-fold predictions
    of_folds: list[dict[str, dict[str, Any]]]  # by fold and task, over those of the other folds
    weighed: Weighed  # by task, means over the folds


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
    start: Start | None = None,
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

    def file(number: int, end: str) -> Path | None:
        return checkpoint.with_name(f"{checkpoint.stem}.cross{number}.{end}") if checkpoint else None

    jobs = [
        Job(
            number,
            pool.take(np.flatnonzero(place != number)),
            student,
            targets,
            settings,
            file(number, "pt"),
            file(number, "npz"),
            f"student {number + 1} of {folds}",
            start,
        )
        for number in range(folds)
    ]
    found = {job.number: kept for job in jobs if (kept := kept_arrays(job.done)) is not None}
    if 0 in found and on_epoch:
        replay(found[0], on_epoch)
    found |= dict(learn_all([job for job in jobs if job.number not in found], on_epoch))
    curves: list[list[Curve]] = [json.loads(str(found[number].pop("curves"))) for number in range(folds)]
    epochs = [int(found[number].pop("best_epoch")) + 1 for number in range(folds)]
    members = [job.model_of(found[job.number]) for job in jobs]
    raw = (
        np.zeros((len(pool), len(members[0].share)), np.float32),
        np.zeros((len(pool), len(members[0].share)), np.float32),
    )
    for number, member in enumerate(members):
        rows = np.flatnonzero(place == number)
        raw[0][rows], raw[1][rows] = raw_of(member, pool.features.take(rows))
    guesses: dict[str, np.ndarray] = {}
    weighed = [weigh(member, raw, pool, targets, settings, place != j) for j, member in enumerate(members)]
    for j, member in enumerate(members):
        rows = np.flatnonzero(place == j)
        whole_raw = torch.from_numpy(both(member, (raw[0][rows], raw[1][rows])))
        for name, guess in member.answers(whole_raw[None]).items():
            whole = guesses.setdefault(name, np.zeros((len(pool), *guess.shape[1:]), np.float32))
            whole[rows] = guess
    together = calibrate(members[0], pool, guesses, targets)
    of_folds = [calibrate(member, pool, guesses, targets, place != j) for j, member in enumerate(members)]
    for job in jobs:
        if job.done and Team().is_main:
            job.done.unlink(missing_ok=True)
    longest = [mean_curve(curves, epoch) | {"epoch": epoch} for epoch in range(max(len(one) for one in curves))]
    best = min(round(float(np.mean(epochs))), len(longest)) - 1
    return CrossFitted(Ensemble(members), place, longest, best, together, of_folds, mean_weighed(weighed))


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
