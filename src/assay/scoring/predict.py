"""Predictor: a model folder, ready to score posts; every post gets a status, some a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay import images, text
from assay.config import ClassesTarget, Target
from assay.student.features import Extractor, PostInputs
from assay.student.model import Trained, load_trained

Status = Literal["ok", "text_only", "image_only", "failed"]


@dataclass(frozen=True)
class Prediction:
    """What the student says of one post.

    `value` is a score or a class name, None when the status is `failed`; `probabilities` has an
    entry for each class (None for scores); `reason` says why a modality is missing.
    """

    status: Status
    value: float | str | None
    probabilities: dict[str, float] | None = None
    reason: str | None = None


class Predictor:
    """A trained student with its encoders, which are loaded when the first uncached post comes."""

    def __init__(self, trained: Trained, *, max_pixels: int = images.MAX_PIXELS) -> None:
        self.trained = trained
        made = trained.preprocessing
        self.max_images = made["max_images"]
        self._extract = Extractor(
            trained.student, image_px=made["image_px"], max_pixels=max_pixels, known=trained.encoders
        )

    @classmethod
    def load(cls, folder: str | Path, *, max_pixels: int = images.MAX_PIXELS) -> Predictor:
        """Read a model folder; ModelError when it cannot be used."""
        return cls(load_trained(Path(folder)), max_pixels=max_pixels)

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.trained.target

    def predict(self, *, text: str | None = None, image: str | Path | bytes | None = None) -> Prediction:
        """Score one post from its caption, its picture (a file's path or bytes), or both."""
        files = [] if image is None else [image if isinstance(image, bytes) else Path(image).read_bytes()]
        return self.predict_many([(text or "", files)])[0]

    def predict_many(self, posts: Sequence[tuple[str, Sequence[bytes]]]) -> list[Prediction]:
        """Score posts given as (text, image files); several images of a post are averaged."""
        cleaned = [
            PostInputs(text.normalise(body), [(images.content_hash(data), data) for data in files[: self.max_images]])
            for body, files in posts
        ]
        return self.score(cleaned)

    def score(self, posts: Sequence[PostInputs]) -> list[Prediction]:
        """Score posts whose text is normalised and whose images are hashed."""
        if not posts:
            return []
        features, lost = self._extract(posts)
        usable = np.flatnonzero(features.has_image | features.has_text)
        found = self.trained.model.predict(features.take(usable)) if len(usable) else np.zeros(0)
        result: list[Prediction] = []
        rows: dict[int, Any] = dict(zip(usable.tolist(), found, strict=True))
        for i, problems in enumerate(lost):
            reason = "; ".join(f"{code}: {detail}".strip(": ") for code, detail in problems) or None
            if i not in rows:
                result.append(Prediction("failed", None, reason=reason or self._nothing()))
                continue
            status: Status = "ok"
            if not features.has_image[i]:
                status = "text_only"
            elif not features.has_text[i]:
                status = "image_only"
            result.append(self._prediction(status, rows[i], reason))
        return result

    def _nothing(self) -> str:
        wanted = [name for name in ("image", "text") if getattr(self.trained.student, name)]
        return f"no_content: the post has no {' and no '.join(wanted)}"

    def _prediction(self, status: Status, row: Any, reason: str | None) -> Prediction:
        if isinstance(self.target, ClassesTarget):
            shares = {name: float(p) for name, p in zip(self.target.names, row, strict=True)}
            return Prediction(status, max(shares, key=lambda name: shares[name]), shares, reason)
        return Prediction(status, float(row), None, reason)
