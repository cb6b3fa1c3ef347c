"""What a student says of one post, and how it stands in tables; every surface shows the same fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import pyarrow as pa

from assay.targets import Target

Status = Literal["ok", "text_only", "image_only", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Prediction:
    """What the student says of one post.

    `value` is a score, a class name or a list of labels, None when the status is `failed`;
    `probabilities` has an entry for each class or label (None for scores); `reason` says why a
    modality is missing. `interval` of a score, and `prediction_set` of classes or labels (those that are not ruled
    out), hold the label of 90 % of posts like those of the calibration split: split-conformal prediction (Lei et al.,
    2018; Sadinle, Lei and Wasserman, 2019), of each label by itself. None where calibration had too few posts.
    `familiarity` (0 to 1) is the p-value of "drawn like the posts that were learnt from" (see student.familiar), and
    `unlike` says that it is so low that the prediction rests on nothing that was measured; None: not known.
    """

    status: Status
    value: float | str | list[str] | None
    probabilities: dict[str, float] | None = None
    reason: str | None = None
    interval: tuple[float, float] | None = None
    prediction_set: list[str] | None = None
    familiarity: float | None = None
    unlike: bool | None = None
    by_student: list[float] | None = None  # of a score, what each student of cross-fitting says; in tables alone

    def as_row(self) -> dict[str, Any]:
        """The one projection that the command line, the API and SageMaker show; `table_row` is that of the table."""
        return {name: getattr(self, name) for name in SHOWN}


SHOWN = [field.name for field in fields(Prediction) if field.name != "by_student"]


def prediction_schema(target: Target) -> pa.Schema:
    """The predictions table: one row for every post of ingest, in the same order."""
    return pa.schema(
        [
            pa.field("post_id", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),  # ok | text_only | image_only | failed
            pa.field("value", target.arrow),
            pa.field("probabilities", pa.list_(pa.float32())),  # in the order of the target's names
            pa.field("reason", pa.string()),
            pa.field("in_train", pa.bool_(), nullable=False),  # the student that says this learnt from the post
            pa.field("fold", pa.int16()),  # said by the student that saw no post of this fold; null: by all of them
            pa.field("by_student", pa.list_(pa.float32())),  # of a score, what each of them says
            pa.field("interval_low", pa.float64()),  # of a score: holds 90 % of the labels of posts like these
            pa.field("interval_high", pa.float64()),
            pa.field("prediction_set", pa.list_(pa.string())),  # of classes and labels: the same
            pa.field("familiarity", pa.float64()),  # 0 to 1: p-value of "like the posts that were learnt from"
            pa.field("unlike", pa.bool_()),  # too unlike these: the prediction rests on nothing that was measured
        ]
    )


def table_row(
    post_id: str, found: Prediction, unread: str, *, in_train: bool, fold: int | None = None
) -> dict[str, Any]:
    """A row of the predictions table; `unread` says which of the post's files could not be read."""
    row = found.as_row()
    low, high = row.pop("interval") or (None, None)
    return row | {
        "post_id": post_id,
        "probabilities": list(found.probabilities.values()) if found.probabilities else None,
        "reason": "; ".join(part for part in (unread, found.reason) if part) or None,
        "in_train": in_train,
        "fold": fold,
        "by_student": found.by_student,
        "interval_low": low,
        "interval_high": high,
    }
