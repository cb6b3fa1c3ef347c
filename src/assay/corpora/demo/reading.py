"""How a careful reader rates a drawn post: from its caption's words and its picture's pixels alone.

This is the demo teacher's judgement. It knows four questions, which it tells apart by the form of the answer.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image

from assay.corpora.demo.captions import BIAS, BRANDS, MOOD, SLIGHTS
from assay.corpora.demo.draw import BADGE, INK, SIDE, SIGN
from assay.corpora.demo.figure import read_look

TOLERANCE = 42


def combine(text_level: float | None, picture_level: float | None) -> float:
    """The score 0 to 10 of evidence in text and picture (0 to 5 each): either of them suffices.

    A noisy-or, 10 (1 - (1 - t/5.5)(1 - v/5.5)), so that two mild hints add up and two strong ones saturate.
    """
    silent = (1 - (text_level or 0) / 5.5) * (1 - (picture_level or 0) / 5.5)
    return 10 * (1 - silent)


def caption_level(text: str) -> int | None:
    """The level of gender bias that the caption speaks of, or None where it does not."""
    found = [level for level, phrases in BIAS.items() for phrase in phrases if phrase in text]
    return max(found) if found else None


def caption_mood(text: str) -> str | None:
    """The caption's mood, or None where it has none."""
    low = text.lower()
    return next((mood for mood, phrases in MOOD.items() for phrase in phrases if phrase.lower() in low), None)


def picture_level(picture: Image.Image) -> float | None:
    """The level of gender bias that the picture shows: how small the woman is beside the man."""
    dress, suit = _height(picture, "dress"), _height(picture, "suit")
    if not dress or not suit:
        return None
    return float(np.clip((0.928 - dress / suit) / 0.1217, 0, 5))


def picture_mood(picture: Image.Image) -> str | None:
    """Sun is positive, rain under a dark sky is negative, anything else says nothing."""
    if _share(picture, INK["sun"]) > 0.004:
        return "positive"
    dark = float(np.asarray(picture.convert("L"))[:60].mean()) < 125
    return "negative" if dark and _share(picture, INK["rain"]) > 0.004 else None


def score(text: str, pictures: list[bytes]) -> float:
    """The bias score 0 to 10 of a post, in steps of 0.5, with a coder's small inconsistency."""
    levels = [level for level in (picture_level(_open(p)) for p in pictures) if level is not None]
    exact = combine(caption_level(text), float(np.mean(levels)) if levels else None)
    jitter = int.from_bytes(hashlib.sha256(text.encode() + b"".join(pictures)).digest()[:2], "little") / 65536
    return round(2 * float(np.clip(exact + jitter - 0.5, 0, 10))) / 2


def mood(text: str, pictures: list[bytes]) -> str:
    """The mood of a post: where caption and picture differ, the one that is not neutral, else the caption's."""
    said = caption_mood(text)
    shown = next((m for m in (picture_mood(_open(p)) for p in pictures) if m), None)
    return combine_moods(said, shown)


def combine_moods(said: str | None, shown: str | None) -> str:
    """One mood for caption and picture."""
    if said in (None, "neutral"):
        return shown or said or "neutral"
    return said or "neutral"


def apparent(names: list[str], pictures: list[bytes]) -> str | None:
    """Which of the names, in rising order, the looks of a drawn person fit; None where none is drawn.

    With a coder's small inconsistency near the edges.
    """
    for picture in pictures:
        look = read_look(_open(picture))
        if look is not None:
            jitter = int.from_bytes(hashlib.sha256(picture).digest()[:2], "little") / 65536 - 0.5
            return names[int(np.clip((look + 0.12 * jitter) * len(names), 0, len(names) - 1))]
    return None


def insults(text: str, pictures: list[bytes]) -> set[str]:
    """The kinds of group that caption or picture put down."""
    said = {name for name, phrases in SLIGHTS.items() for phrase in phrases if phrase in text}
    opened = [_open(picture) for picture in pictures]
    return said | {name for name, tone in SIGN.items() for picture in opened if _share(picture, tone) > 0.003}


def brands(text: str, pictures: list[bytes]) -> list[str]:
    """The brands of a post: by hashtag, handle or name in the caption, or by the badge in a lower corner."""
    low = text.lower()
    said = {name for name, (tags, handles) in BRANDS.items() for one in (*tags, *handles, name.lower()) if one in low}
    opened = [_open(picture) for picture in pictures]
    return sorted(said | {name for name, (_, tone) in BADGE.items() for one in opened if _has_badge(one, tone)})


def _has_badge(picture: Image.Image, tone: tuple[int, int, int]) -> bool:
    width, height = picture.size
    side = min(width, height) * 40 // SIDE
    corners = [picture.crop((x, height - side, x + side, height)) for x in (0, width - side)]
    return any(_share(corner, tone) > 0.3 for corner in corners)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _mask(picture: Image.Image, tone: tuple[int, int, int]) -> np.ndarray:
    difference = np.abs(np.asarray(picture, dtype=np.int16) - np.array(tone, dtype=np.int16)).sum(axis=2)
    return np.asarray(difference < TOLERANCE)


def _share(picture: Image.Image, tone: tuple[int, int, int]) -> float:
    return float(_mask(picture, tone).mean())


def _height(picture: Image.Image, ink: str) -> int:
    """How many rows lie between the first and the last in which the ink stands, these included."""
    rows = np.flatnonzero(_mask(picture, INK[ink]).sum(axis=1) >= 2)
    return int(rows[-1] - rows[0] + 1) if len(rows) else 0
