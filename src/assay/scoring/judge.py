"""Gathers what evaluation needs from the run's files: truth, weights, groups, student, baselines, slices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.encode import features as feature_files
from assay.encode.encoders import default_device
from assay.encode.extract import sample_inputs
from assay.encode.features import Features
from assay.errors import DataError, SettingsError
from assay.measure.baselines import Learning, Views, predict_all
from assay.measure.ceiling import noise_ceiling
from assay.measure.judged import Judged, as_columns
from assay.posts import read, shards, stream, write_table
from assay.scoring.predict import Predictor
from assay.student.at_once import stopping
from assay.student.model import own
from assay.student.parts import Part, parts_by_split
from assay.student.trained import Trained, load_trained
from assay.targets import NAMES, Target

SPEED_POSTS = 32
FEWEST_REPEATS = 10  # fewer posts asked twice say nothing


def judge(
    model: Path, sample: Path, features: Path, labels: Path, split: Path, *, task: str, slices: list[str]
) -> tuple[list[str], Judged]:
    """The ids of the posts that are judged by, and everything that `measure.evaluate` compares on them, of one task.

    These are the posts of an official or held-out test split; of a student of cross-fitting without an official one,
    all labelled posts, each predicted by the student (and by baselines) that did not see its fold.
    """
    trained = load_trained(model)
    ids, known, _ = feature_files.load(features)
    target = trained.targets[task]
    parts = parts_by_split(ids, known, {task: labels}, split, {task: target})
    everyone = Part.join(list(parts.values()))
    crossed = bool(trained.fold_of) and all(post_id in trained.fold_of for post_id in everyone.ids)
    if not crossed and "test" not in parts:
        raise DataError("the test split has no posts; label more posts or change the shares in split")
    judged = everyone if crossed else parts["test"]
    fold = folds_of_part(trained, judged) if crossed else None
    seen = seen_by(trained, judged.features, sample, judged.ids)
    if fold is not None:
        test = cross_compare(judged, target, task, fold, said(trained, seen, task, fold))
    else:
        test = compare(parts, target, task, lambda part: said(trained, seen, task, None))
    test.uncalibrated = said(trained, seen, task, fold, calibrated=False)
    at = thresholds_of(trained, task, fold)
    test.thresholds |= {} if at is None else {"student": at}
    test.held = held(trained, task, test, fold)
    others = [load_trained(folder) for folder in sorted(model.glob("seed-*"))]
    for other in [trained, *others] if others else []:
        own_fold = folds_of_part(other, judged) if crossed else None
        own_features = seen_by(other, judged.features, sample, judged.ids)
        seed = int(other.training["settings"]["seed"])
        test.seeds[seed] = said(other, own_features, task, own_fold)
        at = thresholds_of(other, task, own_fold)
        test.seed_thresholds |= {} if at is None else {seed: at}
    test.slices = slice_columns(sample, judged.ids, slices)
    return judged.ids, test


def folds_of_part(trained: Trained, part: Part) -> np.ndarray:
    """The fold of each post of a part, int [n]; DataError for one that the student does not know."""
    unknown = [post_id for post_id in part.ids if post_id not in trained.fold_of]
    if unknown:
        raise DataError(
            f"post {unknown[0]} is labelled, but was in no fold of the student; run `dvc repro` to train again"
        )
    return np.array([trained.fold_of[post_id] for post_id in part.ids], dtype=np.int64)


def said(
    trained: Trained, features: Features, task: str, fold: np.ndarray | None, *, calibrated: bool = True
) -> np.ndarray:
    """A student's predictions of one task, of the folds [n] by the one that did not see each, in double precision."""
    return own(trained.model.each(features, calibrated=calibrated)[task], fold).astype(float)


def thresholds_of(trained: Trained, task: str, fold: np.ndarray | None) -> np.ndarray | None:
    """The thresholds of a task's labels, [L], or with folds those of each post, [n, L]; None where nothing is cut."""
    if fold is None:
        return trained.model.thresholds(task)
    found = [at for member in trained.model.members if (at := member.thresholds(task)) is not None]
    return np.stack(found)[fold] if found else None


def held(trained: Trained, task: str, test: Judged, fold: np.ndarray | None) -> np.ndarray | None:
    """Whether the interval or set of each post holds its label, bool [n]; None where there is none to look at."""
    target = trained.targets[task]
    if target.shape == NAMES:
        return None
    found = []
    for i, (truth, row) in enumerate(zip(test.y, test.student, strict=True)):
        calibrated = trained.calibration if fold is None else trained.folds[fold[i]]
        told = target.read(row, calibrated.get(task, {}), None)
        if told.interval is not None:
            found.append(told.interval[0] - 1e-6 <= truth <= told.interval[1] + 1e-6)
        elif told.prediction_set is not None:
            found.append(target.groups[int(truth)] in told.prediction_set)
    return np.array(found, dtype=bool) if len(found) == len(test.y) else None


def cross_compare(part: Part, target: Target, task: str, fold: np.ndarray, student: np.ndarray) -> Judged:
    """All labelled posts with the student's out-of-fold predictions and those of all baselines over the same folds."""
    y = part.values[task]
    guesses: dict[str, np.ndarray] = {}
    for number in range(int(fold.max()) + 1):
        rows, rest = np.flatnonzero(fold == number), part.take(np.flatnonzero(fold != number))
        learn, stop = (rest.take(which) for which in stopping(rest, {task: target}, 0))
        data = Learning(_inputs(learn), learn.values[task], learn.weights, _inputs(stop), stop.values[task])
        for name, guess in predict_all(data, _inputs(part.take(rows)), target).items():
            guesses.setdefault(name, np.full((len(part), *guess.shape[1:]), np.nan))[rows] = guess
    known = {name: guess for name, guess in guesses.items() if np.isfinite(guess).all()}
    truth = y.astype(float) if y.dtype == np.float32 else y
    test = Judged(truth, part.weights, part.group, student, known, folds=int(fold.max()) + 1)
    for name, guess in known.items():
        at = [target.thresholds(y[fold != j], guess[fold != j], part.weights[fold != j]) for j in range(test.folds)]
        test.thresholds |= {} if at[0] is None else {name: np.stack([one for one in at if one is not None])[fold]}
    return test


def seen_by(trained: Trained, frozen: Features, sample: Path, ids: list[str]) -> Features:
    """The features of posts as a student sees them: the frozen ones, or by its own encoders where these learnt."""
    if not trained.student.tuned:
        return frozen
    raw = {row["post_id"]: sample_inputs(row) for row in _of(sample, ids)}
    predictor = Predictor(trained)
    found = [predictor.features([raw[i] for i in ids[at : at + 64]])[0] for at in range(0, len(ids), 64)]
    return Features.join(found)


def compare(
    parts: dict[str, Part], target: Target, task: str, predict: Callable[[Part], np.ndarray], *, baselines: bool = True
) -> Judged:
    """The test posts with the student's predictions and (unless told) those of all baselines, from arrays alone."""
    for name in ("train", "val", "test"):
        if name not in parts:
            raise DataError(f"the {name} split has no posts; label more posts or change the shares in split")
    train, val, test = (parts[name] for name in ("train", "val", "test"))
    tune = parts.get("calibration", val)
    data = Learning(_inputs(train), train.values[task], train.weights, _inputs(val), val.values[task])
    guesses = predict_all(data, _inputs(Part.join([test, tune])), target) if baselines else {}
    y = test.values[task]
    y = y.astype(float) if y.dtype == np.float32 else y
    judged = Judged(
        y,
        test.weights,
        test.group,
        np.asarray(predict(test), dtype=float),
        {name: guess[: len(test)] for name, guess in guesses.items()},
    )
    for name, guess in guesses.items():
        at = target.thresholds(tune.values[task], guess[len(test) :], tune.weights)
        judged.thresholds |= {} if at is None else {name: at}
    return judged


def _inputs(part: Part) -> Views:
    return Views(part.features.image, part.features.text, part.features.words)


def asked_again(labels: Path, target: Target) -> dict[str, Any] | None:
    """The noise ceiling of a task whose teacher was asked twice about some posts; None for others."""
    columns = ["status", "value", "repeat", "inclusion_p"]
    rows = [row for row in pq.read_table(labels, columns=columns).to_pylist() if row["repeat"] is not None]
    if len(rows) < FEWEST_REPEATS:
        return None
    weights = np.array([1 / row["inclusion_p"] for row in rows])
    return noise_ceiling([row["value"] for row in rows], [row["repeat"] for row in rows], weights, target)


def _of(sample: Path, ids: list[str]) -> list[dict[str, Any]]:
    wanted = set(ids)
    columns = ["post_id", "text", "images", "image_hashes"]
    return [row for batch in stream(sample, columns, 256) for row in batch if row["post_id"] in wanted]


# ----------------------------------------------------------------------------------- slices, speed


def slice_columns(sample: Path, ids: list[str], wanted: list[str]) -> dict[str, list[Any]]:
    """The value of each slice column a post; `brand`, `length` (terciles) and `images` (count) are made here."""
    made = {"brand": "brands", "length": "text", "images": "image_hashes"}
    known = [name for name in pq.read_schema(shards(sample)[0]).names if name not in ("author", "text_sig")]
    for name in wanted:
        if made.get(name, name) not in known:
            allowed = ", ".join(sorted({*made, *known} - {"brands", "text", "images", "image_hashes", "post_id"}))
            raise SettingsError(f"evaluate.slices: no column {name!r}; allowed: {allowed}")
    columns = list(dict.fromkeys(["post_id", *(made.get(name, name) for name in wanted)]))
    rows = {row["post_id"]: row for row in read(sample, columns).to_pylist()}
    found: dict[str, list[Any]] = {}
    for name in wanted:
        values = [rows[post_id][made.get(name, name)] for post_id in ids]
        if name == "length":
            edges = np.quantile([len(text) for text in values], [1 / 3, 2 / 3]) if values else [0, 0]
            values = [("short", "medium", "long")[int(np.searchsorted(edges, len(text)))] for text in values]
        elif name == "images":
            values = ["3 or more" if len(found) > 2 else str(len(found)) for found in values]
        found[name] = values
    return found


def speed_and_size(model: Path, sample: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """How fast a student scores posts of the sample end to end (decode, encoders, head; nothing cached); its size.

    The better of two rounds over the same posts; the first also loads the encoders.
    """
    predictor = Predictor.load(model, cached=False)
    posts = [sample_inputs(row) for row in next(stream(sample, ["text", "images", "image_hashes"], SPEED_POSTS))]
    times = []
    for _ in range(2):
        start = time.perf_counter()
        predictor.score(posts)
        times.append(time.perf_counter() - start)
    return {"posts_per_s": float(f"{len(posts) / min(times):.3g}"), "device": default_device().type}, {
        "parameters": predictor.parameters(),
        "parameters_trained": sum(p.numel() for p in predictor.trained.model.parameters()),
        "folder_bytes": sum(path.stat().st_size for path in sorted(model.glob("*")) if path.is_file()),
    }


def per_post(ids: list[str], test: Judged, target: Target, out: Path) -> None:
    """Write truth, prediction and error of every judged post, worst first, in words and in figures."""
    truth, said = target.said(test.y, test.student, test.thresholds.get("student"))
    wrong = target.errors(test.y, test.student)
    order = np.argsort(-wrong, kind="stable")
    words = {"post_id": ids, "teacher": truth, "student": said, "error": wrong}
    write_table(pa.table(words | as_columns(test)).take(order), out)
