"""What each modality is worth: the same student with both, with the text alone and with the picture alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from assay.config import Student, Task
from assay.encode import features as feature_files
from assay.encode.features import Features
from assay.errors import SettingsError
from assay.measure import metrics
from assay.measure.found import Interval
from assay.scoring.judge import seen_by
from assay.student.learn import Lesson, check_parts, train_one
from assay.student.parts import parts_by_split


def ablate(name: str, task: Task, student: Student, data: Path, seeds: list[int]) -> dict[str, Any]:
    """Train the student and its twins on the same posts; figures by variant, and what the other lacks.

    `data` holds the tables of the pipeline. Figures are of the test split and the first seed, with the
    mean over seeds; gaps are paired.
    """
    if task.train.start_from:
        raise SettingsError(f"ablate: {name} starts from {task.train.start_from}, which sees both; leave it out")
    if not (student.image and student.text):
        raise SettingsError(f"ablate: the student of {name} has one modality only; there is nothing to take away")
    ids, known, made = feature_files.load(data / "features" / name)
    labels, split = data / "labels" / f"{name}.parquet", data / "split" / f"{name}.parquet"
    sample = data / "sample" / name
    variants = {"both": student, "text": student.only("text"), "image": student.only("image")}
    target = {name: task.target}
    found: dict[str, Any] = {"task": name, "seeds": seeds, "variants": {}}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    main = task.target.headline
    for variant, settings in variants.items():
        view = _without(known, settings)
        tuned = sample if settings.tuned else None
        parts = parts_by_split(ids, view, {name: labels}, split, target, sample=tuned, learning=True)
        check_parts(parts, target)
        facts = made | {"encoders": {k: v for k, v in made["encoders"].items() if getattr(settings, k)}}
        lesson = Lesson(name, target, settings, task.train, data / "features" / name, {name: labels}, split, sample)
        test, values = parts["test"], []
        for number, seed in enumerate(seeds):
            trained = train_one(lesson, task.train.model_copy(update={"seed": seed, "crossfit": 0}), parts, facts, None)
            with tempfile.TemporaryDirectory(prefix="assay-ablate-") as folder:
                trained.save(Path(folder), "")
                features = seen_by(trained, test.features, sample, test.ids)
            predicted = trained.model.predict(features)[name].astype(float)
            thresholds = trained.model.thresholds(name)
            values.append(metrics.point(test.values[name], predicted, test.weights, task.target, thresholds))
            if number == 0:
                w = metrics.replicate_weights(test.weights, test.group)
                drawn[variant] = metrics.bootstrap(test.values[name], predicted, w, task.target, thresholds)
        found["variants"][variant] = {
            "posts": len(test),
            **{k: metrics.interval(v).rounded() for k, v in drawn[variant].items()},
            "mean_over_seeds": {k: round(float(np.mean([v[k] for v in values])), 4) for k in values[0]},
        }
    same = len({found["variants"][v]["posts"] for v in variants}) == 1
    if same:  # a post without text is no test post of the text twin
        higher = task.target.is_higher_better(main)
        found["gaps"] = {
            v: metrics.gap(drawn["both"][main], drawn[v][main], higher=higher).rounded() for v in ("text", "image")
        }
    return found


def _without(known: Features, student: Student) -> Features:
    """The features that a twin sees."""
    n = len(known)
    nothing, never = np.zeros((n, 0), np.float32), np.zeros(n, bool)
    if student.image is None:
        return Features(nothing, known.text, never, known.has_text, known.words)
    if student.text is None:
        return Features(known.image, nothing, known.has_image, never, [""] * n)
    return known


def as_table(found: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    first = next(iter(found["variants"].values()))
    names = [name for name, value in first.items() if isinstance(value, dict) and "low" in value]
    lines = [f"| {found['task']} | posts | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    for variant, figures in found["variants"].items():
        cells = [_cell(figures[name]) for name in names]
        lines.append(f"| {variant} | {figures['posts']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: Interval) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
