"""What the drawn posts show: two people of unequal size and role, weather, signs, and a brand's badge.

Planted evidence, as for captions: bias 0 to 5 shows in how small the woman stands beside the man,
in apron, podium and pot; mood shows in sky and weather; a slight is a sign that turns a group away. Colours of
`INK` and `SIGN` are used for nothing else, so that a reader can measure them.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 224
INK = {"dress": (214, 40, 140), "suit": (28, 60, 168), "sun": (250, 206, 30), "rain": (60, 84, 110)}
SIGN = {  # the tone of the pictogram on a sign that turns a group away
    "racist": (0, 150, 136),
    "sexist": (156, 39, 176),
    "homophobe": (233, 100, 170),
    "religion": (121, 85, 20),
    "otherhate": (0, 88, 60),
}
SKY = {
    "positive": [(150, 214, 250), (176, 226, 255), (160, 222, 240)],
    "negative": [(84, 88, 98), (98, 100, 110), (74, 80, 92)],
    "neutral": [(226, 218, 202), (214, 208, 196), (232, 226, 214)],
}
GROUND = {
    "positive": [(120, 190, 90), (240, 220, 150)],
    "negative": [(92, 90, 84), (74, 84, 78)],
    "neutral": [(186, 172, 150), (172, 166, 158)],
}
SKIN = [(250, 214, 180), (224, 172, 130), (160, 110, 74), (104, 70, 48)]
BADGE: dict[str, tuple[str, tuple[int, int, int]]] = {
    "Alderby": ("circle", (20, 120, 70)),
    "Bramwick": ("square", (130, 20, 30)),
    "Corvella": ("diamond", (150, 90, 170)),
    "Dunmere": ("triangle", (20, 20, 20)),
    "Estoril": ("circle", (180, 140, 40)),
    "Fennick": ("square", (230, 110, 30)),
    "Galloway": ("triangle", (200, 30, 20)),
    "Halvorsen": ("diamond", (40, 130, 150)),
}


def scene(
    rng: np.random.Generator, *, bias: int | None, mood: str | None, brand: str | None, slight: str | None
) -> bytes:
    """A JPEG of 224 x 224 pixels that shows these (None: shows nothing of it)."""
    look = mood or "neutral"
    image = Image.new("RGB", (SIDE, SIDE), _one(rng, SKY[look]))
    draw = ImageDraw.Draw(image)
    horizon = int(rng.integers(120, 165))
    draw.rectangle((0, horizon, SIDE, SIDE), fill=_one(rng, GROUND[look]))
    _clutter(draw, rng, horizon)
    if mood is not None:
        _weather(draw, rng, mood)
    if bias is not None:
        _couple(draw, rng, bias)
    else:
        _product(draw, rng)
    if slight is not None:
        _sign(draw, rng, slight)
    if brand is not None:
        _badge(draw, rng, brand)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def _one(rng: np.random.Generator, options: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    return options[int(rng.integers(len(options)))]


def _clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    """Houses, trees and hills that mean nothing, so that no two pictures are alike."""
    for _ in range(int(rng.integers(3, 8))):
        x, w, h = int(rng.integers(-20, SIDE)), int(rng.integers(16, 60)), int(rng.integers(12, 80))
        tone = tuple(int(v) for v in rng.integers(110, 205, 3))
        kind = int(rng.integers(3))
        if kind == 0:
            draw.rectangle((x, horizon - h, x + w, horizon), fill=tone)
        elif kind == 1:
            draw.polygon([(x, horizon), (x + w // 2, horizon - h), (x + w, horizon)], fill=tone)
        else:
            draw.ellipse((x, horizon - h, x + w, horizon - h + w), fill=tone)
            draw.line([(x + w // 2, horizon - h + w // 2), (x + w // 2, horizon)], fill=(120, 96, 74), width=6)


def _weather(draw: ImageDraw.ImageDraw, rng: np.random.Generator, mood: str) -> None:
    if mood == "positive":
        x, y, r = int(rng.integers(24, 190)), int(rng.integers(20, 44)), int(rng.integers(14, 24))
        for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            tip = (x + 1.6 * r * np.cos(angle), y + 1.6 * r * np.sin(angle))
            draw.line([(x, y), tip], fill=INK["sun"], width=3)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=INK["sun"])
    elif mood == "negative":
        for _ in range(int(rng.integers(40, 70))):
            x, y = int(rng.integers(0, SIDE)), int(rng.integers(0, 150))
            draw.line([(x, y), (x - 4, y + 14)], fill=INK["rain"], width=2)


def _couple(draw: ImageDraw.ImageDraw, rng: np.random.Generator, bias: int) -> None:
    """The man at full height; the woman smaller the higher the level, with apron, pot and podium."""
    scale = 0.85 + 0.3 * rng.random()
    tall = 92 * scale
    small = tall * (1.0 - 0.12 * bias)
    floor = int(rng.integers(196, 216))
    left = int(rng.integers(46, 80))
    right = left + int(rng.integers(74, 100))
    man, woman = (left, right) if rng.random() < 0.5 else (right, left)
    lift = 26 if bias >= 3 else 0
    if lift:
        draw.rectangle((man - 30, floor - lift, man + 30, floor), fill=(206, 178, 120))
    _person(draw, rng, man, floor - lift, tall, "suit")
    _person(draw, rng, woman, floor, small, "dress")
    if bias >= 2:
        draw.rectangle(
            (woman - small * 0.09, floor - small * 0.46, woman + small * 0.09, floor - small * 0.2),
            fill=(250, 250, 250),
        )
    if bias >= 4:
        draw.rectangle((woman + 16, floor - 20, woman + 40, floor), fill=(60, 60, 60))
        draw.rectangle((woman + 12, floor - 24, woman + 44, floor - 19), fill=(90, 90, 90))


def _person(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, floor: int, height: float, ink: str) -> None:
    head, skin = height * 0.15, _one(rng, SKIN)
    shoulder = floor - height * 0.7
    if ink == "dress":
        draw.polygon(
            [(x, shoulder), (x - height * 0.24, floor - height * 0.14), (x + height * 0.24, floor - height * 0.14)],
            fill=INK[ink],
        )
    else:
        draw.rectangle((x - height * 0.16, shoulder, x + height * 0.16, floor - height * 0.14), fill=INK[ink])
    for side in (-1, 1):
        foot = x + side * height * 0.08
        draw.line([(foot, floor - height * 0.14), (foot, floor)], fill=(50, 44, 40), width=4)
    draw.ellipse((x - head, shoulder - 2 * head, x + head, shoulder), fill=skin)
    if ink == "dress":
        draw.arc((x - head, shoulder - 2 * head, x + head, shoulder), 180, 360, fill=(80, 50, 30), width=5)


def _product(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y = int(rng.integers(60, 150)), int(rng.integers(130, 170))
    w, h = int(rng.integers(24, 60)), int(rng.integers(24, 50))
    tone = tuple(int(v) for v in rng.integers(90, 190, 3))
    draw.rectangle((x - w, y - h, x + w, y + h), fill=tone, outline=(60, 60, 60), width=2)
    draw.line([(x - w, y), (x + w, y)], fill=(240, 240, 240), width=4)


def _sign(draw: ImageDraw.ImageDraw, rng: np.random.Generator, slight: str) -> None:
    """A white board with a struck-out pictogram: globe, bust, two alike, arch, or wheel."""
    side, tone = int(rng.integers(44, 54)), SIGN[slight]
    x, y = int(rng.integers(4, SIDE - side - 4)), int(rng.integers(42, 56))
    draw.rectangle((x, y, x + side, y + side), fill=(252, 252, 252), outline=(40, 40, 40), width=2)
    left, top, right, low, middle = x + 8, y + 8, x + side - 8, y + side - 8, x + side // 2
    if slight == "racist":
        draw.ellipse((left, top, right, low), outline=tone, width=5)
        draw.line([(left, (top + low) // 2), (right, (top + low) // 2)], fill=tone, width=5)
        draw.ellipse((middle - 7, top, middle + 7, low), outline=tone, width=4)
    elif slight == "sexist":
        draw.ellipse((middle - 7, top, middle + 7, top + 14), fill=tone)
        draw.polygon([(middle, top + 12), (left, low), (right, low)], fill=tone)
    elif slight == "homophobe":
        for at in (middle - 9, middle + 9):
            draw.ellipse((at - 6, top, at + 6, top + 12), fill=tone)
            draw.rectangle((at - 6, top + 14, at + 6, low), fill=tone)
    elif slight == "religion":
        draw.pieslice((left, top, right, low), 180, 360, fill=tone)
        draw.rectangle((left, (top + low) // 2, right, low), fill=tone)
        draw.rectangle((middle - 5, low - 12, middle + 5, low), fill=(252, 252, 252))
    else:
        draw.ellipse((left, top + 6, right - 6, low), outline=tone, width=6)
        draw.line([(middle, top), (middle, low - 14), (right, low - 14)], fill=tone, width=6)
    draw.line([(x + 4, y + side - 4), (x + side - 4, y + 4)], fill=(200, 20, 20), width=4)


def _badge(draw: ImageDraw.ImageDraw, rng: np.random.Generator, brand: str) -> None:
    shape, tone = BADGE[brand]
    r = 17
    x = [r + 6, SIDE - r - 6][int(rng.integers(2))]
    y = SIDE - r - 6
    box = (x - r, y - r, x + r, y + r)
    if shape == "circle":
        draw.ellipse(box, fill=tone)
    elif shape == "square":
        draw.rectangle(box, fill=tone)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=tone)
    else:
        draw.polygon([(x, y - r), (x - r, y), (x, y + r), (x + r, y)], fill=tone)
    draw.text((x, y), brand[0], fill=(255, 255, 255), anchor="mm", font=ImageFont.load_default(18))
