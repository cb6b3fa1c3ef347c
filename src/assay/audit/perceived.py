"""Shares of apparent bands: a teacher labels some images, a student all, and the estimate uses both.

The estimator is prediction-powered inference with a tuned weight (PPI++; Angelopoulos, Duchi and Zrnic,
2023), cross-fitted by activity, so that no image is predicted by a student that saw its activity.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay import images
from assay.audit.inference import percentile
from assay.audit.spaces import Grid, Space
from assay.config import Audit, ClassesTarget, Perceived
from assay.errors import DataError
from assay.posts import stream, write_table
from assay.sampling import permanent_number, sample_schema
from assay.teacher.annotate import annotate

STRENGTH = 0.05  # inverse penalty of the logistic student


def perceived(
    audit: Audit, folder: Path, grid: Grid, spaces: list[Space], rubrics: Path, *, name: str
) -> dict[str, Any]:
    """Shares of each apparent band by group, corrected, beside the labelled images alone and the student alone.

    DataError when a band's student cannot be trained: fewer than two bands were seen.
    """
    settings = audit.perceived
    assert settings is not None
    space = next((one for one in spaces if one.name == settings.encoder), None)
    if space is None or space.vectors is None:
        raise DataError(f"perceived.encoder {settings.encoder} could not be had; choose another")
    chosen = _chosen(grid, settings)
    with tempfile.TemporaryDirectory(prefix="assay-perceived-") as work:
        labels, figures = _labels(audit, settings, folder, Path(work), chosen, rubrics, name)
    ids = list(grid.rows)
    place = np.array([grid.rows[one] for one in ids])
    vectors = space.vectors[place[:, 0], place[:, 1], place[:, 2]]
    known = np.array([labels.get(one, -1) for one in ids])
    fold = np.random.default_rng([settings.seed, 3]).permutation(len(grid.activities))[place[:, 0]] % settings.folds
    predicted = _cross_fitted(vectors, known, fold, settings)
    return {
        "teacher": {"asked": len(chosen), "labelled": int((known >= 0).sum()), "failed": figures["failed"]},
        "student": _student(predicted, known, place[:, 0], audit),
        "shares": {group: _shares(predicted, known, place, g, settings, audit) for g, group in enumerate(grid.groups)},
        "population": dict(settings.population),
    }


def _chosen(grid: Grid, settings: Perceived) -> list[str]:
    """Images for the teacher: the same number of each group, at random."""
    by_group: dict[int, list[str]] = {}
    for one in sorted(grid.rows, key=lambda one: permanent_number(settings.seed, one)):
        by_group.setdefault(grid.rows[one][1], []).append(one)
    each = -(-settings.sample // len(by_group))
    return [one for members in by_group.values() for one in members[:each]]


def _labels(
    audit: Audit, settings: Perceived, folder: Path, work: Path, chosen: list[str], rubrics: Path, name: str
) -> tuple[dict[str, int], dict[str, Any]]:
    """The band of each labelled image, and the figures of annotation; answers stay in the teacher's store."""
    wanted, schema = set(chosen), sample_schema([])
    empty: dict[str, Any] = {field.name: [] if pa.types.is_list(field.type) else None for field in schema}
    rows = []
    for batch in stream(folder, ["image_id", "image", "image_hash"], 128):
        for row in batch:
            if row["image_id"] in wanted:
                small = images.pack(row["image"], longest=settings.image_px, max_pixels=audit.images.max_pixels)
                own = {"post_id": row["image_id"], "text": "", "images": [small.data], "stratum": "all"}
                rows.append({**empty, **own, "image_hashes": [row["image_hash"]], "inclusion_p": 1.0})
    write_table(pa.Table.from_pylist(rows, schema=schema), work / "sample" / "part-00000.parquet")
    figures = annotate(
        work / "sample",
        work / "labels.parquet",
        settings=settings.annotate,
        target=ClassesTarget(kind="classes", names=settings.names),
        rubric=rubrics / settings.annotate.rubric_file(name),
        task=f"audit {name}",
    )
    table = pq.read_table(work / "labels.parquet", columns=["post_id", "status", "value"]).to_pylist()
    found = {row["post_id"]: settings.names.index(row["value"]) for row in table if row["status"] == "ok"}
    return found, figures


def _cross_fitted(vectors: np.ndarray, known: np.ndarray, fold: np.ndarray, settings: Perceived) -> np.ndarray:
    """[n, bands] probabilities of each image, by a student that learnt from labelled images of other folds."""
    predicted = np.zeros((len(vectors), len(settings.names)))
    for k in range(settings.folds):
        train, test = (known >= 0) & (fold != k), fold == k
        seen = np.unique(known[train])
        if len(seen) < 2:
            raise DataError(
                f"perceived: the labelled images show only {[settings.names[i] for i in seen]}; label more (perceived."
                "sample), or leave perceived out"
            )
        student = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500))
        student.fit(vectors[train], known[train])
        if test.any():
            predicted[np.ix_(test, seen)] = student.predict_proba(vectors[test])
    return predicted


def _student(predicted: np.ndarray, known: np.ndarray, owner: np.ndarray, audit: Audit) -> dict[str, Any]:
    """How often the student says what the teacher says, out of fold, beside always saying the commonest band."""
    rows = known >= 0
    right = (predicted[rows].argmax(1) == known[rows]).astype(float)
    commonest = float(np.bincount(known[rows]).max() / rows.sum())
    low, high = percentile(_resampled(right, owner[rows], audit, int(owner.max()) + 1))
    return {"accuracy": {"value": float(right.mean()), "low": low, "high": high}, "commonest": commonest}


def _resampled(values: np.ndarray, owner: np.ndarray, audit: Audit, n: int) -> np.ndarray:
    """[B] means of values over the same bootstrap draws of n activities; `owner` [m] is the activity of each value."""
    total, size = np.bincount(owner, values, n), np.bincount(owner, minlength=n)
    rng = np.random.default_rng([audit.statistics.seed, 11])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=audit.statistics.bootstrap)
    return np.asarray((weights @ total) / np.maximum(weights @ size, 1e-12))


def _shares(
    predicted: np.ndarray, known: np.ndarray, place: np.ndarray, group: int, settings: Perceived, audit: Audit
) -> dict[str, dict[str, Any]]:
    """Of one group: the share of each band, with the interval of a bootstrap over activities.

    `labelled_only` is the mean of the teacher's labels, `student_only` the mean of the student's predictions.
    """
    rows = place[:, 1] == group
    f_all, y, owner = predicted[rows], known[rows], place[rows, 0]
    labelled, n = y >= 0, int(place[:, 0].max()) + 1
    found: dict[str, dict[str, Any]] = {}
    for band, band_name in enumerate(settings.names):
        f, is_band = f_all[:, band], (y[labelled] == band).astype(float)
        fl = f[labelled]
        if len(is_band) < 2:
            found[band_name] = {"value": None, "low": None, "high": None}
            continue
        variance = float(fl.var())
        weight = float(np.clip(np.cov(is_band, fl, ddof=0)[0, 1] / variance, 0, 1)) if variance > 1e-12 else 0.0
        value = weight * f.mean() + (is_band - weight * fl).mean()
        if is_band.min() == is_band.max():  # nothing varies: a bootstrap would be sure of it
            low, high = _exact(is_band, len(set(owner[labelled])))
        else:
            draws = weight * _resampled(f, owner, audit, n)
            low, high = percentile(draws + _resampled(is_band - weight * fl, owner[labelled], audit, n))
        found[band_name] = {
            "value": float(np.clip(value, 0, 1)),
            "low": max(0.0, low),
            "high": min(1.0, high),
            "labelled_only": _figure(is_band, owner[labelled], n, audit),
            "student_only": float(f.mean()),
            "weight": weight,
        }
    return found


def _figure(values: np.ndarray, owner: np.ndarray, n: int, audit: Audit) -> dict[str, float]:
    if values.min() == values.max():
        low, high = _exact(values, len(set(owner)))
    else:
        low, high = percentile(_resampled(values, owner, audit, n))
    return {"value": float(values.mean()), "low": low, "high": high}


def _exact(values: np.ndarray, units: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of all or none of so many activities."""
    bound = 0.025 ** (1 / units)
    return (bound, 1.0) if values[0] else (0.0, 1 - bound)
