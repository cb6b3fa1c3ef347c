"""Which way of calibrating helps: each fitted on nine tenths of the labelled posts and judged by the rest.

    python benchmarks/calibration.py --task sentiment --task hateful

Run it in a repository whose pipeline has run, with students of cross-fitting. Every post is predicted by the student
that did not see its fold, uncalibrated. Of classes: one temperature (Guo et al., 2017), a shift a class beside it, and
vector scaling (a scale and a shift a class). Of labels: one temperature, a scale and a shift a label (Platt, 1999), and
beta calibration of each label (Kull et al., 2017). Prints log loss, its gain with a standard error over posts, and the
calibration error; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from assay import config
from assay.encode import features as feature_files
from assay.measure.calibrate import expected_calibration_error
from assay.scoring.judge import folds_of_part, said
from assay.student.parts import Part, parts_by_split
from assay.student.trained import load_trained
from assay.targets import NAME, NAMES

FOLDS = 10
Scaled = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Parameters and probabilities [n, K] -> probabilities [n, K]."""
Way = tuple[Scaled, int]
"""How, and how many parameters there are; all of them 0 change nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", required=True)
    parser.add_argument("--root", type=Path, default=Path())
    args = parser.parse_args()
    print(json.dumps({task: compared(task, args.root) for task in args.task}))


def compared(task: str, root: Path) -> dict[str, Any]:
    target = config.load(root / "params.yaml").tasks[task].target
    trained = load_trained(root / "models" / task)
    ids, known, _ = feature_files.load(root / "data/features" / task)
    labels, split = root / f"data/labels/{task}.parquet", root / f"data/split/{task}.parquet"
    part = Part.join(list(parts_by_split(ids, known, {task: labels}, split, {task: target}).values()))
    p = said(trained, part.features, task, folds_of_part(trained, part), calibrated=False).astype(float)
    y = part.values[task]
    if target.shape not in (NAME, NAMES):
        raise SystemExit(f"{task} is a {target.kind}: there are no probabilities to calibrate")
    ways = of_classes(p.shape[1]) if target.shape == NAME else of_labels(p.shape[1])
    loss = classes_loss if target.shape == NAME else labels_loss
    place = np.random.default_rng(0).permutation(len(y)) % FOLDS
    plain, found = loss(p, y), {}
    print(f"{task}: {len(y)} posts")
    for name, (scaled, size) in ways.items():
        calibrated = np.empty_like(p)
        for number in range(FOLDS):
            out = place == number
            rows = ~out

            def mean_loss(at: np.ndarray, rows: np.ndarray = rows, scaled: Scaled = scaled) -> float:
                return float(loss(scaled(at, p[rows]), y[rows]).mean())

            at = fitted(mean_loss, size)
            calibrated[out] = scaled(at, p[out])
        gain = plain - loss(calibrated, y)
        found[name] = {
            "log_loss": round(float(loss(calibrated, y).mean()), 4),
            "gain": round(float(gain.mean()), 4),
            "se": round(float(gain.std(ddof=1) / len(y) ** 0.5), 4),
            "calibration_error": round(expected_calibration_error(y, calibrated, part.weights), 4),
        }
        print(f"  {name:24}", *(f"{key} {value:.4f}  " for key, value in found[name].items()))
    return found


def fitted(loss: Callable[[np.ndarray], float], size: int) -> np.ndarray:
    return (
        np.asarray(minimize(loss, np.zeros(size), method="L-BFGS-B", bounds=[(-20, 20)] * size).x)
        if size
        else np.zeros(0)
    )


def classes_loss(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log(np.clip(p[np.arange(len(y)), y.astype(int)], 1e-12, 1)))


def labels_loss(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(1))


def of_classes(k: int) -> dict[str, Way]:
    def softmax(z: np.ndarray) -> np.ndarray:
        z = np.exp(z - z.max(1, keepdims=True))
        return np.asarray(z / z.sum(1, keepdims=True))

    def logs(p: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.clip(p, 1e-12, 1)))

    return {
        "as it is": (lambda _, p: p, 0),
        "temperature": (lambda at, p: softmax(logs(p) * np.exp(at[0])), 1),
        "temperature and shifts": (lambda at, p: softmax(logs(p) * np.exp(at[0]) + at[1:]), 1 + k),
        "vector": (lambda at, p: softmax(logs(p) * np.exp(at[:k]) + at[k:]), 2 * k),
    }


def of_labels(k: int) -> dict[str, Way]:
    def sigmoid(z: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-z)))

    def logs(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return np.log(p), np.log1p(-p)

    def beta(at: np.ndarray, p: np.ndarray) -> np.ndarray:
        have, have_not = logs(p)
        return sigmoid(np.exp(at[:k]) * have - np.exp(at[k : 2 * k]) * have_not + at[2 * k :])

    def odds(p: np.ndarray) -> np.ndarray:
        have, have_not = logs(p)
        return np.asarray(have - have_not)

    return {
        "as it is": (lambda _, p: p, 0),
        "temperature": (lambda at, p: sigmoid(odds(p) * np.exp(at[0])), 1),
        "scale and shift a label": (lambda at, p: sigmoid(odds(p) * np.exp(at[:k]) + at[k:]), 2 * k),
        "beta a label": (beta, 3 * k),
    }


if __name__ == "__main__":
    main()
