"""Predictor: a model folder, ready to score posts; every post gets a status, some a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay import images, text
from assay.columns import files_in, text_in
from assay.encode.encoders import Encoder, hub_is_allowed
from assay.encode.extract import Extractor, PostInputs
from assay.encode.features import Features
from assay.encode.graph import Precision
from assay.errors import ModelError
from assay.parallel import Clock
from assay.scoring.exported import graphs_of
from assay.scoring.prediction import Prediction, Status
from assay.scoring.tables import score_table
from assay.student.model import own
from assay.student.trained import Trained, load_trained
from assay.targets import Target


class Predictor:
    """A trained student with its encoders, which are loaded when the first uncached post comes.

    Threads may share one.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        max_pixels: int = images.MAX_PIXELS,
        cached: bool = True,
        most_cached: int | None = None,
        hub: bool | None = None,
        graphs: dict[str, Path] | None = None,
        precision: Precision = "f32",
    ) -> None:
        self.trained = trained
        made = trained.preprocessing
        self.max_images = made["max_images"]
        self._extract = Extractor(
            trained.student,
            image_px=made["image_px"],
            max_pixels=max_pixels,
            known=trained.encoders,
            folder=trained.folder,
            graphs=graphs_of(trained.folder) if graphs is None and trained.folder else graphs,
            cached=cached,
            most_cached=most_cached,
            hub=hub_is_allowed() if hub is None else hub,
            precision=precision,
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        max_pixels: int = images.MAX_PIXELS,
        cached: bool = True,
        most_cached: int | None = None,
        hub: bool | None = None,
        graphs: dict[str, Path] | None = None,
        precision: Precision = "f32",
    ) -> Predictor:
        """Read a model folder; ModelError when it cannot be used.

        `cached`: keep features for later runs, in at most `most_cached` bytes. `hub`: whether encoders that are not on
        this machine may be fetched; default: where ASSAY_HUB=1 says so, for a folder may come from anywhere. `graphs`:
        of encoders, by branch; default: those of the folder, else those that this machine makes; {}: PyTorch alone.
        `precision`: in what those that this machine makes are computed, where it can.
        """
        return cls(
            load_trained(Path(folder)),
            max_pixels=max_pixels,
            cached=cached,
            most_cached=most_cached,
            hub=hub,
            graphs=graphs,
            precision=precision,
        )

    @property
    def clock(self) -> Clock:
        """Where the time of all its threads went: decode, tokenise, encode, answer."""
        return self._extract.clock

    def cached_bytes(self, texts: int, images: int) -> tuple[int, int]:
        """How much of the disk its kept features take, and about how much those of so many posts do."""
        return self._extract.cached_bytes(texts, images)

    @property
    def targets(self) -> dict[str, Target]:
        """What is predicted, by task; a joint student has several."""
        return self.trained.targets

    def parameters(self) -> int:
        """How many parameters the student has with its encoders; loads these."""
        return self._extract.parameters() + sum(p.numel() for p in self.trained.model.parameters())

    def predict(
        self, *, text: str | None = None, image: str | Path | bytes | None = None, task: str | None = None
    ) -> Prediction:
        """Score one post from its caption, its picture (a file's path or bytes), or both.

        A picture that is not there is a reason of the answer, whose status then says that it rests on the text alone.
        """
        files, lost = files_in(image, None)
        found = self.predict_many([(text_in(text), files)], task=task)[0]
        told = [f"{code}: {detail}" for code, detail in lost]
        return replace(found, reason="; ".join([*told, *([found.reason] if found.reason else [])])) if told else found

    def predict_table(
        self,
        posts: pd.DataFrame,
        *,
        text: str | None = "text",
        image: str | None = "image",
        images_root: str | Path | None = None,
        task: str | None = None,
    ) -> pd.DataFrame:
        """Score the rows of a table; the answer has its index.

        `text` and `image` name columns; images are paths (below `images_root`, else from here), bytes, or lists of
        these. Columns: value (null where there is none), status (ok, text_only, image_only or failed), reason,
        p_<name> of classes and labels, interval_low and interval_high of scores, prediction_set, unlike. A picture that
        cannot be read is a reason, never an exception. SettingsError where neither column is there.
        """
        root = Path(images_root) if images_root is not None else None
        return score_table(self, posts, text=text, image=image, root=root, task=task)

    def __repr__(self) -> str:
        trained, made = self.trained, self.trained.student
        asked = "; ".join(f"{name}: {target.words()}" for name, target in self.targets.items())
        parts = [f"{name} {branch.encoder}" for name in ("image", "text") if (branch := getattr(made, name))]
        several = len(trained.model.members)
        return f"Predictor({asked}; {', '.join(parts)}; {several} student{'s' if several > 1 else ''})"

    def predict_many(
        self, posts: Sequence[tuple[str, Sequence[bytes]]], *, task: str | None = None
    ) -> list[Prediction]:
        """Score posts given as (text, image files); several images of a post are averaged."""
        cleaned = [
            PostInputs(text.normalise(body), [(images.content_hash(data), data) for data in files[: self.max_images]])
            for body, files in posts
        ]
        return self.score(cleaned)[self.check_task(task)]

    def score(
        self, posts: Sequence[PostInputs], folds: Sequence[int | None] | None = None
    ) -> dict[str, list[Prediction]]:
        """Score posts whose text is normalised and whose images are hashed; predictions by task.

        `folds`: of a student of cross-fitting, the fold of each post that one of its students must not have seen;
        None: all of them answer together.
        """
        if not posts:
            return {task: [] for task in self.targets}
        features, lost = self.features(posts)
        with self.clock.doing("answer"):
            return self._answers(features, lost, folds or [None] * len(posts))

    def _answers(
        self, features: Features, lost: list[list[tuple[str, str]]], folds: Sequence[int | None]
    ) -> dict[str, list[Prediction]]:
        usable = np.flatnonzero(features.has_image | features.has_text)
        seen = features.take(usable)
        every = self.trained.model.each(seen) if len(usable) else {}
        own_fold = np.array([-1 if fold is None else fold for fold in folds], dtype=np.int64)[usable]
        found = {task: own(one, own_fold) for task, one in every.items()}
        several = len(self.trained.model.members) > 1
        known = self._familiarity(seen)
        place = {int(i): row for row, i in enumerate(usable)}
        result: dict[str, list[Prediction]] = {task: [] for task in self.targets}
        for i, problems in enumerate(lost):
            reason = "; ".join(f"{code}: {detail}".strip(": ") for code, detail in problems) or None
            status: Status = "ok" if features.has_image[i] else "text_only"
            status = status if features.has_text[i] else "image_only"
            for task in self.targets:
                if i not in place:
                    result[task].append(Prediction("failed", None, reason=reason or self._nothing()))
                else:
                    at = place[i]
                    made = self._prediction(task, status, found[task][at], reason, folds[i])
                    if several and every[task].ndim == 2:
                        told = every[task][:, at] if folds[i] is None else found[task][at : at + 1]
                        made = replace(made, by_student=[float(one) for one in told])
                    result[task].append(replace(made, **known[at]))
        return result

    def _familiarity(self, seen: Features) -> list[dict[str, Any]]:
        familiar = self.trained.familiar
        if familiar is None or not len(seen):
            return [{}] * len(seen)
        by = {"image": (seen.image, seen.has_image), "text": (seen.text, seen.has_text)}
        found = familiar({n: x for n, (x, _) in by.items()}, {n: has for n, (_, has) in by.items()})
        return [
            {"familiarity": round(float(p), 6), "unlike": bool(unlike)} if np.isfinite(p) else {}
            for p, unlike in zip(*found, strict=True)
        ]

    def features(self, posts: Sequence[PostInputs]) -> tuple[Features, list[list[tuple[str, str]]]]:
        """What the trained part sees of posts, and the problems of their images."""
        return self._extract(posts)

    def encoders(self) -> tuple[Encoder | None, Encoder | None]:
        """The image and the text encoder; loads them."""
        return self._extract.encoders()

    def check_task(self, task: str | None) -> str:
        """The task asked for, or the only one; ModelError where it cannot be answered."""
        if task is None:
            return self.trained.task
        if task not in self.targets:
            raise ModelError(f"{self.trained.name} does not answer {task!r}; it answers {', '.join(self.targets)}")
        return task

    def _nothing(self) -> str:
        wanted = [name for name in ("image", "text") if getattr(self.trained.student, name)]
        return f"no_content: the post has no {' and no '.join(wanted)}"

    def _prediction(self, task: str, status: Status, row: Any, reason: str | None, fold: int | None) -> Prediction:
        if fold is None:
            calibrated, at = self.trained.calibration.get(task, {}), self.trained.model.thresholds(task)
        else:
            calibrated, at = self.trained.folds[fold].get(task, {}), self.trained.model.members[fold].thresholds(task)
        found = self.targets[task].read(row, calibrated, at)
        return Prediction(status, found.value, found.probabilities, reason, found.interval, found.prediction_set)
