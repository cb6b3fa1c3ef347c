"""The posts that a student learns from: features, targets, weights and groups of one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from assay.encode.extract import PostInputs, sample_inputs
from assay.encode.features import Features
from assay.errors import DataError
from assay.posts import stream
from assay.student.losses import is_known
from assay.targets import Target


@dataclass
class Part:
    """One split. Targets are scores (nan: no label), class numbers (-1: no label) or 0/1 labels (nan)."""

    features: Features
    values: dict[str, np.ndarray]  # by task: float32 [n], int64 [n] or float32 [n, labels]
    weights: np.ndarray  # inverse inclusion probabilities, float64 [n]
    group: np.ndarray  # leakage group, int64 [n]
    soft: dict[str, np.ndarray] = field(default_factory=dict)  # by task: distributions [n, outputs], nan: none
    posts: list[PostInputs] = field(default_factory=list)  # only where an encoder learns
    ids: list[str] = field(default_factory=list)  # the posts' ids

    def __len__(self) -> int:
        return len(self.weights)

    def known(self, task: str) -> np.ndarray:
        """Which posts have a label of a task, bool [n]."""
        return is_known(torch.from_numpy(self.values[task])).numpy()

    def take(self, rows: np.ndarray) -> Part:
        """Some of the posts."""
        return Part(
            self.features.take(rows),
            {name: values[rows] for name, values in self.values.items()},
            self.weights[rows],
            self.group[rows],
            {name: soft[rows] for name, soft in self.soft.items()},
            [self.posts[i] for i in rows] if self.posts else [],
            [self.ids[i] for i in rows] if self.ids else [],
        )

    @classmethod
    def join(cls, parts: Sequence[Part]) -> Part:
        """All posts of several parts."""
        first = parts[0]
        return cls(
            Features.join([part.features for part in parts]),
            {name: np.concatenate([part.values[name] for part in parts]) for name in first.values},
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.group for part in parts]),
            {name: np.concatenate([part.soft[name] for part in parts]) for name in first.soft},
            [post for part in parts for post in part.posts],
            [post_id for part in parts for post_id in part.ids],
        )


def parts_by_split(
    ids: list[str],
    features: Features,
    labels: dict[str, Path],
    split: Path,
    targets: dict[str, Target],
    *,
    sample: Path | None = None,
    learning: bool = False,
) -> dict[str, Part]:
    """Features and targets of each split; posts without content or without a label of these tasks are left out.

    `labels` and `targets` are by task; `sample` is read where an encoder learns from raw posts. `learning`: what people
    corrected stands in place of the label.
    """
    known = {name: _labels(path, learning=learning) for name, path in labels.items()}
    place = {post_id: i for i, post_id in enumerate(ids)}
    rows: dict[str, list[tuple[str, int, int]]] = {}
    labelled = {post_id for rows in known.values() for post_id in rows}
    for row in pq.read_table(split, columns=["post_id", "split", "group"]).to_pylist():
        if row["post_id"] not in labelled:  # of a joint split, posts that only another task labels
            continue
        at = place.get(row["post_id"])
        if at is None:
            raise DataError(f"post {row['post_id']} is in the split but has no features; run `dvc repro`")
        if features.has_image[at] or features.has_text[at]:
            rows.setdefault(row["split"], []).append((row["post_id"], at, row["group"]))
    raw = _raw_posts(sample, {post_id for found in rows.values() for post_id, _, _ in found}) if sample else {}
    return {
        name: Part(
            features.take(np.array([at for _, at, _ in found])),
            {
                task: target.encode([known[task].get(post_id, {}).get("value") for post_id, _, _ in found])
                for task, target in targets.items()
            },
            np.array([_weight(post_id, known) for post_id, _, _ in found]),
            np.array([group for _, _, group in found]),
            {
                task: target.soft([known[task].get(post_id, {}).get("distribution") for post_id, _, _ in found])
                for task, target in targets.items()
            },
            [raw[post_id] for post_id, _, _ in found] if sample else [],
            [post_id for post_id, _, _ in found],
        )
        for name, found in rows.items()
    }


def _labels(path: Path, *, learning: bool) -> dict[str, dict[str, Any]]:
    more = ["corrected"] if learning and "corrected" in pq.read_schema(path).names else []
    table = pq.read_table(path, columns=["post_id", "status", "value", "distribution", "inclusion_p", *more])
    rows = {row["post_id"]: row for row in table.to_pylist() if row["status"] == "ok"}
    for row in rows.values():
        if row.get("corrected") is not None:
            row |= {"value": row["corrected"], "distribution": None}
    return rows


def _weight(post_id: str, known: dict[str, dict[str, dict[str, Any]]]) -> float:
    return float(max(1 / rows[post_id]["inclusion_p"] for rows in known.values() if post_id in rows))


def _raw_posts(sample: Path, wanted: set[str]) -> dict[str, PostInputs]:
    return {
        row["post_id"]: sample_inputs(row)
        for batch in stream(sample, ["post_id", "text", "images", "image_hashes"], 256)
        for row in batch
        if row["post_id"] in wanted
    }
