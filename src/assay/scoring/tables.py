"""A user's table through a student: a row in, a row out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from assay.columns import columns_of, files_in, text_in
from assay.progress import progress
from assay.scoring.prediction import Prediction
from assay.targets import Target

ROWS = 256  # at a time


class Scores(Protocol):
    """What answers: see Predictor."""

    max_images: int

    @property
    def targets(self) -> dict[str, Target]:
        """What is predicted, by task."""

    def check_task(self, task: str | None) -> str:
        """The task asked for, or the only one."""

    def predict_many(
        self, posts: Sequence[tuple[str, Sequence[bytes]]], *, task: str | None = None
    ) -> list[Prediction]:
        """Score posts."""


def score_table(
    student: Scores, posts: pd.DataFrame, *, text: str | None, image: str | None, root: Path | None, task: str | None
) -> pd.DataFrame:
    """See Predictor.predict_table."""
    name = student.check_task(task)
    text, image = columns_of(posts, text, image, "predict_table")
    rows: list[dict[str, Any]] = []
    with progress(what="predict", total=len(posts), unit="post") as bar:
        for start in range(0, len(posts), ROWS):
            part = posts.iloc[start : start + ROWS]
            bodies = [text_in(one) for one in part[text]] if text is not None else [""] * len(part)
            seen = [files_in(one, root) for one in part[image]] if image is not None else [([], [])] * len(part)
            told = [(body, data[: student.max_images]) for body, (data, _) in zip(bodies, seen, strict=True)]
            for found, (_, lost) in zip(student.predict_many(told, task=name), seen, strict=True):
                rows.append(_row(found, [f"{code}: {detail}" for code, detail in lost]))
            bar.update(len(part))
    names = list(dict.fromkeys(["value", "status", "reason", *(key for row in rows for key in row)]))
    return pd.DataFrame(rows, index=posts.index, columns=names)


def _row(found: Prediction, lost: list[str]) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    reason = "; ".join([*lost, *([found.reason] if found.reason else [])]) or None
    row: dict[str, Any] = {"value": found.value, "status": found.status, "reason": reason}
    row |= {f"p_{name}": p for name, p in (found.probabilities or {}).items()}
    row |= {"interval_low": low, "interval_high": high} if found.interval else {}
    row |= {"prediction_set": found.prediction_set} if found.prediction_set is not None else {}
    return row | {"unlike": found.unlike}
