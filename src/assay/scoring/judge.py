"""Gathers what evaluation needs from the run's files: truth, weights, groups, student and baselines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import ClassesTarget, Target
from assay.errors import DataError
from assay.measure.baselines import Inputs, Learning, predict_all
from assay.measure.evaluate import Judged, errors
from assay.posts import read, write_table
from assay.student import features as feature_files
from assay.student.features import Features
from assay.student.learn import targets
from assay.student.model import load_trained


def judge(model: Path, sample: Path, features: Path, labels: Path, split: Path) -> tuple[list[str], Judged]:
    """The test posts' ids and everything that `measure.evaluate` compares on them."""
    trained = load_trained(model)
    ids, known, _ = feature_files.load(features)
    words = dict(zip(*(read(sample, ["post_id", "text"])[c].to_pylist() for c in ("post_id", "text")), strict=True))
    return compare(ids, known, [words[i] for i in ids], labels, split, trained.target, trained.model.predict)


def compare(
    ids: list[str],
    known: Features,
    words: list[str],
    labels: Path,
    split: Path,
    target: Target,
    predict: Callable[[Features], np.ndarray],
) -> tuple[list[str], Judged]:
    """The same from arrays; `predict` maps Features to the student's predictions."""
    rows = pq.read_table(split).to_pylist()
    label = {
        row["post_id"]: row for row in pq.read_table(labels, columns=["post_id", "value", "inclusion_p"]).to_pylist()
    }
    place = {post_id: i for i, post_id in enumerate(ids)}
    usable = [r for r in rows if known.has_image[place[r["post_id"]]] or known.has_text[place[r["post_id"]]]]
    inputs = Inputs(known.image, known.text, words)

    def part(name: str) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        chosen = [row for row in usable if row["split"] == name]
        if not chosen:
            raise DataError(f"the {name} split has no posts; label more posts or change the shares in split")
        names = [row["post_id"] for row in chosen]
        return (
            names,
            np.array([place[n] for n in names]),
            targets([label[n]["value"] for n in names], target),
            np.array([1 / label[n]["inclusion_p"] for n in names]),
            np.array([row["group"] for row in chosen]),
        )

    (_, train, train_y, train_w, _), (_, val, val_y, _, _) = part("train"), part("val")
    names, test, test_y, test_w, group = part("test")
    data = Learning(inputs.take(train), train_y, train_w, inputs.take(val), val_y)
    baselines = predict_all(data, inputs.take(test), target)
    student = predict(known.take(test))
    y = test_y if isinstance(target, ClassesTarget) else test_y.astype(float)
    return names, Judged(y, test_w, group, np.asarray(student, dtype=float), baselines)


def per_post(ids: list[str], test: Judged, target: Target, out: Path) -> None:
    """Write truth, prediction and error of every test post, worst first."""
    if isinstance(target, ClassesTarget):
        truth = [target.names[y] for y in test.y]
        said = [target.names[k] for k in test.student.argmax(1)]
    else:
        truth = [f"{y:g}" for y in test.y]
        said = [f"{p:.2f}" for p in test.student]
    wrong = errors(test, target)
    order = np.argsort(-wrong, kind="stable")
    write_table(
        pa.table(
            {
                "post_id": [ids[i] for i in order],
                "teacher": [truth[i] for i in order],
                "student": [said[i] for i in order],
                "error": wrong[order],
            }
        ),
        out,
    )
