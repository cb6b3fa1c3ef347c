"""The contract of image sources, and what every image must pass before it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image, ImageStat

from assay import images
from assay.audit.kept import Made
from assay.audit.prompts import Prompt
from assay.errors import ImageProblem, PassingFailure

DARK = 12.0  # mean lightness, 0 to 255, below which a one-coloured picture is called black
FLAT = 2.0  # standard deviation of lightness below which a picture shows nothing


@dataclass(frozen=True)
class Request:
    """One image to be made."""

    key: str
    prompt: Prompt
    seed: int  # which of the images of this prompt
    noise: int  # what the generator's random numbers start from


Keep = Callable[[Request, Made | PassingFailure], None]


class ImageSource(Protocol):
    """Makes images of prompts."""

    identity: dict[str, Any]
    """All that decides an image beside prompt and seed: part of its key. Known without loading a model."""
    batch: int
    """How many requests it takes at a time."""

    def make(self, requests: Sequence[Request], keep: Keep) -> None:
        """Make images and hand each to `keep` the moment it is there; raise only where no image can be made."""
        ...


def checked(data: bytes, *, started: float | None, max_pixels: int, **facts: Any) -> Made:
    """What was made, failed where it cannot be decoded or shows nothing.

    `started`: of time.perf_counter, for the seconds that it took; None where time says nothing.
    """
    if started is not None:
        facts["seconds"] = round(time.perf_counter() - started, 3)
    try:
        picture = images.decode(data, max_pixels)
    except ImageProblem as problem:
        return Made("failed", str(problem), None, facts)
    facts |= {"width": picture.width, "height": picture.height}
    reason = shows_nothing(picture)
    return Made("failed", reason, None, facts) if reason else Made("ok", None, data, facts)


def shows_nothing(picture: Image.Image) -> str | None:
    """Why a picture is none: black (most often the work of a safety checker) or of one colour; None for a picture."""
    light = ImageStat.Stat(picture.convert("L").resize((64, 64)))
    if light.stddev[0] >= FLAT:
        return None
    if light.mean[0] < DARK:
        return "black_image: the generator's safety checker, or half precision in its decoder, blacked it out"
    return "blank_image: one colour from edge to edge"
