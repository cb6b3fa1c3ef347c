"""Mean colours of pictures: what bias towards a palette shows in, by brand or by score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

SIDE = 256  # pixels; a larger picture is averaged down to it first


class Colours(NamedTuple):
    """Means over all pixels of a picture, and then over the pictures of a post."""

    red: float  # 0 to 255, and so the next two
    green: float
    blue: float
    red_to_blue: float | None  # red / blue of these means; None without any blue
    brightness: float  # V of HSV, the largest of the three channels, 0 to 1
    saturation: float  # S of HSV, 0 (grey) to 1


TYPE = pa.struct([pa.field(name, pa.float32()) for name in Colours._fields])


def of_picture(picture: Image.Image) -> Colours:
    """The colours of an RGB picture; saturation is that of pixels averaged to at most 256 a side."""
    small = picture.reduce(max(1, max(picture.size) // SIDE))
    red, green, blue = (float(v) for v in np.asarray(small, dtype=np.float64).mean(axis=(0, 1)))
    hsv = np.asarray(small.convert("HSV"), dtype=np.float64).mean(axis=(0, 1))
    saturation, value = float(hsv[1]) / 255, float(hsv[2]) / 255
    return _rounded(red, green, blue, value, saturation)


def of_post(pictures: Sequence[Colours]) -> Colours | None:
    """The mean over the pictures of a post; None where it has none."""
    if not pictures:
        return None
    means = [float(np.mean([getattr(one, name) for one in pictures])) for name in ("red", "green", "blue")]
    rest = [float(np.mean([getattr(one, name) for one in pictures])) for name in ("brightness", "saturation")]
    return _rounded(*means, *rest)


def _rounded(red: float, green: float, blue: float, brightness: float, saturation: float) -> Colours:
    ratio = round(red / blue, 4) if blue > 0 else None
    return Colours(round(red, 2), round(green, 2), round(blue, 2), ratio, round(brightness, 4), round(saturation, 4))
