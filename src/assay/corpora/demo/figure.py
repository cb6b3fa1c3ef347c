"""One drawn person doing something, whose looks run from 0 to 1: hair, stoop, wrinkles, stick. And how to read them.

The scene (room, things, clothes, skin) follows from its own seed alone, so that two pictures of one
scene differ in the looks and in nothing else. Hair has the tones of a ramp that nothing else is drawn
in, so that a reader can measure it.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image, ImageDraw

HAIR = np.array([(70, 20, 90), (240, 225, 230)], dtype=float)  # at looks 0 and 1
SKIN = [(250, 214, 180), (224, 172, 130), (160, 110, 74), (104, 70, 48)]
CLOTHES = [(40, 90, 140), (60, 130, 80), (190, 80, 50), (210, 170, 60), (90, 90, 90), (40, 120, 130)]
QUALITY = 92
_RAMP = np.linspace(0, 1, 65)
_TONES = HAIR[0] + _RAMP[:, None] * (HAIR[1] - HAIR[0])
_NEAR = 36  # sum of differences over the three channels


def seeded(*parts: object) -> np.random.Generator:
    """Random numbers that follow from these parts alone, on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def draw_figure(scene: np.random.Generator, look: float, size: int) -> bytes:
    """A JPEG of size x size pixels of the scene with a person of this look, 0 to 1."""
    side = 128
    image = Image.new("RGB", (side, side), _tone(scene, 150, 235))
    draw = ImageDraw.Draw(image)
    floor = int(scene.integers(96, 112))
    draw.rectangle((0, floor, side, side), fill=_tone(scene, 90, 160))
    for _ in range(int(scene.integers(2, 6))):
        _thing(draw, scene, floor)
    _person(draw, scene, float(np.clip(look, 0, 1)), floor)
    if size != side:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def read_look(picture: Image.Image) -> float | None:
    """The look, 0 to 1, that the hair of the drawn person tells; None where nobody is drawn."""
    pixels = np.asarray(picture.convert("RGB"), dtype=float).reshape(-1, 3)
    likely = pixels[np.abs(pixels[:, 0] - pixels[:, 2] + 20 * (1 - 1.5 * (pixels[:, 1] - 20) / 205)) < 30]
    if not len(likely):
        return None
    gaps = np.abs(likely[:, None, :] - _TONES[None]).sum(axis=2)
    near = gaps.min(axis=1) < _NEAR
    if near.mean() * len(likely) < 0.002 * len(pixels):
        return None
    return float(np.median(_RAMP[gaps.argmin(axis=1)[near]]))


def _tone(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    """A greenish or yellowish tone, far from the ramp of hair."""
    green = int(rng.integers(low, high))
    return int(green * rng.uniform(0.7, 0.98)), green, int(green * rng.uniform(0.45, 0.8))


def _thing(draw: ImageDraw.ImageDraw, rng: np.random.Generator, floor: int) -> None:
    x, w, h = int(rng.integers(-8, 120)), int(rng.integers(10, 36)), int(rng.integers(10, 46))
    tone, kind = _tone(rng, 80, 210), int(rng.integers(3))
    low = floor + int(rng.integers(-4, 10))
    if kind == 0:
        draw.rectangle((x, low - h, x + w, low), fill=tone)
    elif kind == 1:
        draw.ellipse((x, low - h, x + w, low), fill=tone)
    else:
        draw.polygon([(x, low), (x + w // 2, low - h), (x + w, low)], fill=tone)


def _person(draw: ImageDraw.ImageDraw, rng: np.random.Generator, look: float, floor: int) -> None:
    x, scale = int(rng.integers(48, 80)), rng.uniform(0.9, 1.1)
    skin, cloth = SKIN[int(rng.integers(len(SKIN)))], CLOTHES[int(rng.integers(len(CLOTHES)))]
    tall = 76 * scale * (1 - 0.14 * look)
    foot = floor + int(rng.integers(4, 12))
    lean = 14 * look  # how far the head is before the feet
    hip, shoulder, head = foot - tall * 0.42, foot - tall * 0.78, tall * 0.15
    for step in (-4, 4):
        draw.line([(x, hip), (x + step, foot)], fill=(60, 56, 50), width=4)
    draw.line([(x, hip), (x + lean * 0.8, shoulder)], fill=cloth, width=15)
    hand = (x + lean * 0.8 + 18, (hip + shoulder) / 2 + int(rng.integers(-8, 9)))
    draw.line([(x + lean * 0.8, shoulder + 4), hand], fill=skin, width=4)
    top = (x + lean, shoulder - head)
    hair = tuple(int(v) for v in HAIR[0] + look * (HAIR[1] - HAIR[0]))
    draw.ellipse((top[0] - head * 1.15, top[1] - head * 1.3, top[0] + head * 1.15, top[1] + head * 0.9), fill=hair)
    draw.ellipse((top[0] - head * 0.85, top[1] - head * 0.7, top[0] + head * 0.95, top[1] + head), fill=skin)
    for i in range(round(3 * look)):  # wrinkles
        y = top[1] - head * 0.4 + 3 * i
        draw.line([(top[0] - head * 0.4, y), (top[0] + head * 0.6, y)], fill=tuple(int(0.8 * v) for v in skin), width=1)
    if look > 0.7:
        draw.line([hand, (hand[0] + 3, foot)], fill=(96, 66, 30), width=3)
