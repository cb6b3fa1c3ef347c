"""Labelled posts for a person to look at, those first whose label moves the figures most."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import config
from assay.errors import AssayError, DataError
from assay.posts import shards
from assay.serve.page.corpus import data_url
from assay.targets import NAME, NUMBER, Target


@dataclass(frozen=True)
class Item:
    """A labelled post, and what teacher and student say of it."""

    post_id: str
    text: str
    picture: str | None  # a data URL
    label: Any  # a score, a class or a list of labels
    said: str  # the student's answer
    coded: int  # people who coded it


class ReviewQueue:
    """The labelled posts of a task, ordered by how much a corrected label would move the corrected figures.

    That is a post's weight times how far the student, which never saw it, is from the label: its influence on the
    estimate (docs/validity.md). Posts that somebody coded come no more.
    """

    def __init__(self, task: str, target: Target, errors: Path, sample: Path, human: Path) -> None:
        self.task, self.target, self.human = task, target, human
        self._errors, self._sample = errors, sample

    @classmethod
    def of(cls, model: Path, task: str, target: Target) -> ReviewQueue | None:
        """That of a model folder of this repository; None where it was not evaluated there, or has several tasks."""
        here = model.resolve().parent.parent
        errors, sample = here / "metrics" / model.name / "errors.parquet", here / "data" / "sample" / task
        try:
            known = task in config.load(here / "params.yaml").tasks
        except AssayError:
            return None
        if not known or task != model.name or not errors.is_file() or not sample.is_dir():
            return None
        return cls(task, target, errors, sample, here / "human" / f"{task}.csv")

    def next(self, passed: Collection[str] = ()) -> Item | None:
        """The next post that nobody coded, and that was not passed over; None where there is none."""
        table = pq.read_table(self._errors, columns=["post_id", "error", "weight"])
        moves = np.asarray(table["error"], dtype=float) * np.asarray(table["weight"], dtype=float)
        ids, people = table["post_id"].to_pylist(), self._people()
        for at in np.argsort(-moves, kind="stable"):
            if ids[at] not in people and ids[at] not in passed:
                return self.find(ids[at])
        return None

    def find(self, post_id: str) -> Item:
        """A labelled post by its id; DataError where it has no label."""
        table = pq.read_table(self._errors, columns=["post_id", "student", "truth"])
        rows = table.filter(pc.equal(table["post_id"], post_id)).to_pylist()
        if not rows:
            raise DataError(f"post {post_id} has no label that the student was judged by, so it cannot be corrected")
        for path in shards(self._sample):
            part = pq.read_table(path, columns=["post_id", "text", "images"])
            found = part.filter(pc.equal(part["post_id"], post_id)).to_pylist()
            if found:
                picture = data_url(found[0]["images"][0]) if found[0]["images"] else None
                label, coded = self._value(rows[0]["truth"]), len(self._people().get(post_id, {}))
                return Item(post_id, found[0]["text"], picture, label, _words(rows[0]["student"]), coded)
        raise DataError(f"post {post_id} is not in the sample any more; run dvc repro")

    def keep(self, post_id: str, coder: str, value: Any) -> None:
        """Keep what a person says, in human/<task>.csv; DataError where it cannot be kept."""
        from assay.teacher.corrections import keep

        self.find(post_id)
        keep(self.human, self.target, post_id, coder, value)

    def count(self) -> int:
        """How many posts people have coded."""
        return len(self._people())

    def _people(self) -> dict[str, dict[str, Any]]:
        from assay.teacher.quality import read_humans

        return read_humans(self.human, self.target)

    def _value(self, truth: list[float]) -> Any:
        if self.target.shape == NUMBER:
            return float(truth[0])
        if self.target.shape == NAME:
            return self.target.groups[int(truth[0])]
        return [name for name, held in zip(self.target.groups, truth, strict=True) if held > 0.5]


def _words(said: Any) -> str:
    if isinstance(said, list):
        return ", ".join(map(str, said)) or "none"
    return f"{said:.2f}" if isinstance(said, float) else str(said)
