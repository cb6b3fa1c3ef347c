"""The train stage's work: tables and features in, a calibrated model folder out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save

import assay
from assay.code import reach_digest
from assay.config import Student, Train
from assay.encode import features as feature_files
from assay.encode.encoders import digest
from assay.encode.features import EncoderFacts, Recipe
from assay.errors import DataError
from assay.places import home
from assay.progress import say
from assay.student.blend import fit_linear, raw_of, weigh
from assay.student.crossfit import CrossFitted, calibrate, crossfit, folds_wanted
from assay.student.familiar import Familiar
from assay.student.fit import Fitted, fit
from assay.student.folds import fit_with_folds, predict_part, vectors_of
from assay.student.model import Start
from assay.student.outputs import build_output
from assay.student.parts import Part, parts_by_split
from assay.student.resume import Curve, digest_of
from assay.student.start import kept_start
from assay.student.team import Team
from assay.student.towers import Towers
from assay.student.trained import Trained
from assay.targets import Target


@dataclass(frozen=True)
class Lesson:
    """What there is to learn: the tables of a task, or of several that share a trunk."""

    name: str
    targets: dict[str, Target]
    student: Student
    settings: Train
    features: Path
    labels: dict[str, Path]  # by task
    split: Path
    sample: Path | None = None  # raw posts, read where an encoder learns
    start: Path | None = None  # another task's student that was kept, to start from

    def has_official_test(self) -> bool:
        """Whether the split is one that the corpus brings, whose test posts nothing may learn from."""
        return bool(pq.read_table(self.split, columns=["held_out_p"])["held_out_p"].null_count)


def joint_settings(first: Train) -> Train:
    """The training of a joint student: the first task's, stopped by the loss, which all tasks share."""
    return first.model_copy(update={"metric": "loss", "loss": "auto"})


def learn(lesson: Lesson, out: Path, card: Callable[[Trained], str], on_epoch: Callable[[Curve], None] | None) -> None:
    """Train, calibrate and save the student, then once more for every other seed of `train.seeds`.

    The students of other seeds stand in `seed-<n>` of the model folder; they serve to tell how much
    of a figure is luck.
    """
    ids, known, made = feature_files.load(lesson.features)
    sample = lesson.sample if lesson.student.tuned else None
    if lesson.student.tuned and sample is None:
        raise DataError(
            f"students: {' and '.join(lesson.student.tuned)} learn, which a joint student cannot yet; freeze them"
        )
    labels, split = lesson.labels, lesson.split
    parts = parts_by_split(ids, known, labels, split, lesson.targets, sample=sample, learning=True)
    check_parts(parts, lesson.targets)
    trained = train_one(lesson, lesson.settings, parts, made, on_epoch)
    team = Team()
    if team.is_main:
        trained.save(out, card(trained))
        say(f"train: {_in_words(trained)}")
    for seed in lesson.settings.seeds:
        if seed != lesson.settings.seed:
            say(f"train: the same student with seed {seed}")
            again = train_one(lesson, lesson.settings.model_copy(update={"seed": seed}), parts, made, None)
            if team.is_main:
                again.save(out / f"seed-{seed}", card(again))


def _in_words(trained: Trained) -> str:
    """A line on what was trained, for the terminal."""
    training = trained.training
    posts = ", ".join(f"{count:,} {name}" for name, count in training["posts"].items())
    shares = "".join(f", {one['share']:.0%} of {task} by the linear model" for task, one in training["weighed"].items())
    size = sum(p.numel() for p in trained.model.parameters()) / 1e6
    epochs = f"best epoch {training['best_epoch']} of {training['epochs']}"
    return f"{trained.name}: {posts}; {epochs}{shares}; {size:.1f} M weights"


def train_one(
    lesson: Lesson,
    settings: Train,
    parts: dict[str, Part],
    made: Recipe,
    on_epoch: Callable[[Curve], None] | None,
) -> Trained:
    """Train and calibrate with these settings; a killed run goes on from its last epoch."""
    start = _start(lesson, made)
    checkpoint = home() / "checkpoints" / f"{_key(lesson, settings, parts, made, start)}.pt"
    folds = folds_wanted(lesson.student, settings)
    if folds:
        return _cross_fitted(lesson, settings, parts, made, folds, checkpoint, on_epoch, start)

    def new_towers() -> Towers | None:
        if not lesson.student.tuned:
            return None
        torch.manual_seed(settings.seed)
        return Towers(lesson.student, settings, image_px=made["image_px"])

    given: dict[str, Any] = {"student": lesson.student, "targets": lesson.targets, "settings": settings}
    given |= {"checkpoint": checkpoint, "on_epoch": on_epoch, "start": start}
    if settings.inner_folds:
        held = _pool(parts, ("train", "val"))
        fitted = fit_with_folds(held, new_towers=new_towers, **given)
        guesses = fitted.inner
    else:
        fitted = fit(parts["train"], parts["val"], towers=new_towers(), **given)
        _weigh(fitted, parts, lesson.targets, settings)
        held, guesses = parts["val"], {}
    if "calibration" in parts or not guesses:
        held = parts.get("calibration", held)
        guesses = predict_part(fitted, held, settings)
    return Trained(
        fitted.model,
        **_told(lesson, made, learnt := fitted.towers.learnt() if fitted.towers is not None else {}),
        calibration=calibrate(fitted.model, held, guesses, lesson.targets),
        training=_training(
            settings, {name: len(part) for name, part in sorted(parts.items())}, fitted, stopped=fitted.stopped
        ),
        learnt=learnt,
        familiar=_familiar(fitted, parts, settings),
        start=start,
    )


def _cross_fitted(
    lesson: Lesson,
    settings: Train,
    parts: dict[str, Part],
    made: Recipe,
    folds: int,
    checkpoint: Path,
    on_epoch: Callable[[Curve], None] | None,
    start: Start | None,
) -> Trained:
    """k students, each without a fold of all labelled posts but those of an official test split."""
    if lesson.student.tuned:
        raise DataError(
            f"train.crossfit {folds}: {' and '.join(lesson.student.tuned)} learn; set it to 0, or freeze them"
        )
    names = [name for name in parts if name != "test" or not lesson.has_official_test()]
    pool = _pool(parts, names)
    found = crossfit(
        pool,
        student=lesson.student,
        targets=lesson.targets,
        settings=settings,
        folds=folds,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        start=start,
    )
    held = found.fold == 0
    seen = [pool.take(np.flatnonzero(rows)).features.by_modality() for rows in (~held, held)]
    return Trained(
        found.model,
        **_told(lesson, made, {}),
        calibration=found.calibration,
        training=_training(
            settings,
            {"labelled": len(pool), "folds": len(found.of_folds)},
            found,
            stopped=f"the stopping rule in each of {len(found.of_folds)} folds",
        ),
        familiar=Familiar.fit(*seen),
        folds=found.of_folds,
        fold_of=dict(zip(pool.ids, found.fold.tolist(), strict=True)),
        start=start,
    )


def _start(lesson: Lesson, made: Recipe) -> Start | None:
    """What a student starts from; DataError where it is not there, or where nothing would see it."""
    if lesson.start is None:
        return None
    if not any(build_output(target).is_linear for target in lesson.targets.values()):
        kinds = ", ".join(sorted({target.kind for target in lesson.targets.values()}))
        raise DataError(
            f"train.start_from: targets of kind {kinds} have no linear model, which would see it; leave it out"
        )
    start = kept_start(lesson.start, made["encoders"])
    if same := sorted(set(start.targets) & set(lesson.targets)):
        raise DataError(
            f"train.start_from: {lesson.start} has learnt {same[0]} itself, also from the posts that this one is "
            "judged by; start from a student of another task"
        )
    return start


def _weigh(fitted: Fitted, parts: dict[str, Part], targets: dict[str, Target], settings: Train) -> None:
    """Fit the linear model by the train split, and weigh it by val; calibration posts stay unseen."""
    if fitted.model.linear is not None:
        fit_linear(fitted.model, parts["train"], targets, settings.seed)
        held = parts["val"]
        fitted.weighed = weigh(fitted.model, raw_of(fitted.model, held.features), held, targets, settings)


def _pool(parts: dict[str, Part], names: Iterable[str]) -> Part:
    return Part.join([parts[name] for name in names if name in parts])


def _training(settings: Train, posts: dict[str, int], found: Fitted | CrossFitted, *, stopped: str) -> dict[str, Any]:
    return {
        "settings": settings.model_dump(),
        "posts": posts,
        "best_epoch": found.best_epoch,
        "epochs": len(found.curves),
        "stopped": stopped,
        "best": {k: round(v, 6) for k, v in found.curves[found.best_epoch].items()},
        "weighed": found.weighed,
    }


def _told(lesson: Lesson, made: Recipe, learnt: dict[str, Any]) -> dict[str, Any]:
    """What a model folder says of where its student comes from."""
    return {
        "name": lesson.name,
        "student": lesson.student,
        "targets": lesson.targets,
        "encoders": _facts(made["encoders"], learnt),
        "preprocessing": {"image_px": made["image_px"], "max_images": made["max_images"]},
        "versions": _versions(),
    }


def _familiar(fitted: Fitted, parts: dict[str, Part], settings: Train) -> Familiar | None:
    """What tells posts that are unlike those learnt from, by posts that nothing was learnt from."""
    learnt = ["train", "val"] if settings.inner_folds else ["train"]
    held = [part for name, part in sorted(parts.items()) if name in ("calibration", "val") and name not in learnt]
    if not held:
        return None
    both = [Part.join([parts[name] for name in learnt if name in parts]), Part.join(held)]
    return Familiar.fit(*(vectors_of(fitted, part, settings) for part in both))


def _facts(encoders: dict[str, EncoderFacts], learnt: dict[str, Any]) -> dict[str, EncoderFacts]:
    """Encoders as the folder records them; one that learnt is another encoder than it was."""
    return {
        name: {"identity": digest(facts["identity"], weights_file(learnt[name])), "dim": facts["dim"]}
        if name in learnt
        else facts
        for name, facts in encoders.items()
    }


def weights_file(tensors: dict[str, torch.Tensor]) -> str:
    """The sha256 that a safetensors file of these tensors will have."""
    return hashlib.sha256(save({name: tensor.contiguous() for name, tensor in tensors.items()})).hexdigest()


def _key(lesson: Lesson, settings: Train, parts: dict[str, Part], made: Recipe, start: Start | None) -> str:
    """All that a run learns from, in one digest."""
    names = ("image", "text", "has_image", "has_text")
    return digest_of(
        lesson.name,
        lesson.student.model_dump(),
        {name: target.model_dump() for name, target in lesson.targets.items()},
        settings.model_dump(),
        made,
        reach_digest(__file__),
        *(part.features.words for part in parts.values()),
        *(getattr(part.features, name) for part in parts.values() for name in names),
        *(array for part in parts.values() for arrays in (part.values, part.soft) for array in arrays.values()),
        *(array for part in parts.values() for array in (part.weights, part.group)),
        *(tensor.numpy() for tensor in (start.state_dict().values() if start is not None else ())),
    )


def check_parts(parts: dict[str, Part], targets: dict[str, Target]) -> None:
    """DataError for a class that cannot be learnt; one line for labels that some split never has."""
    for name in ("train", "val"):
        if name not in parts:
            raise DataError(f"the {name} split has no posts; label more posts or change the shares in split")
    for task, target in targets.items():
        why, notes = target.too_few({split: part.values[task] for split, part in parts.items()})
        for note in notes:
            say(f"{task}: {note}")
        if why:
            raise DataError(f"{task}: {why}")


def _versions() -> dict[str, str]:
    packages = ("torch", "timm", "transformers", "tokenizers", "numpy", "pillow")
    return {  # assay itself may lie beside the data, without having been installed
        "python": platform.python_version(),
        "assay": assay.__version__,
        **{name: version(name) for name in packages},
    }
