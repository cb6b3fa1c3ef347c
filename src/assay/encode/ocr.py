"""What is written in pictures, by RapidOCR (extra `ocr`) with the models of its own package, kept by content.

Pictures are read as encoders see them, packed to sample.image_px pixels: small print wants more than the default.
"""

from __future__ import annotations

import logging
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.code import code_digest
from assay.encode.cache import TextCache
from assay.encode.encoders import check_hash, digest
from assay.errors import EncoderError
from assay.places import with_extra

MODELS = {
    "Det": ("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
    "Rec": ("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
}
SURE = 0.6  # of a line, from 0 to 1: what is read with less is left out
LEAST_SIDE = 480  # pixels: the shorter side that lines are looked for at; smaller pictures are enlarged to it
LONGEST = 2000  # characters of a picture
LEGIBLE = 10  # pixels: what is lower, or narrower, can hold no line
THINNEST = 4  # times as long as wide: a longer picture gets a border, or it would be enlarged beyond all measure


class Reader:
    """Reads lines of text in pictures, top to bottom; threads may share one, each has an engine of its own."""

    def __init__(self) -> None:
        """EncoderError where the package is lacking, or its models are not those that are known."""
        try:
            import onnxruntime as _  # noqa: F401
            import rapidocr
        except ImportError as error:
            raise EncoderError(f"text.ocr needs {error.name}: {with_extra('ocr')}") from error
        self._folder = Path(str(rapidocr.__file__)).parent / "models"
        for name, wanted in MODELS.values():
            if not (self._folder / name).is_file():
                raise EncoderError(f"text.ocr: this rapidocr has no {name}; install that of constraints.txt")
            check_hash(self._folder / name, wanted)
        self._own = threading.local()

    def read(self, picture: Image.Image) -> str:
        """The lines that are written in an RGB picture, one a line; empty where there are none."""
        engine = getattr(self._own, "engine", None)
        if engine is None:
            engine = self._own.engine = self._engine()
        if min(picture.size) < LEGIBLE:
            return ""
        found = engine(np.asarray(bordered(picture))[:, :, ::-1])  # it wants blue first
        return lines_of(getattr(found, "txts", None) or ())

    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        told: dict[str, Any] = {f"{part}.model_path": str(self._folder / name) for part, (name, _) in MODELS.items()}
        made = RapidOCR(
            params=told
            | {
                "Global.log_level": "error",
                "Global.use_cls": False,  # no line stands on its head
                "Global.text_score": SURE,
                "Det.limit_side_len": LEAST_SIDE,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # threads are ours, one a core
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        return made


def bordered(picture: Image.Image) -> Image.Image:
    """A picture within a border of its corner's colour, at most `THINNEST` times as long as wide; else itself."""
    least = -(-max(picture.size) // THINNEST)
    size = (max(picture.width, least), max(picture.height, least))
    if size == picture.size:
        return picture
    found = Image.new("RGB", size, picture.getpixel((0, 0)))
    found.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return found


def lines_of(lines: Sequence[str]) -> str:
    """Lines as text of a post: composed characters, one space between words, without what cannot be seen."""
    plain = (" ".join(unicodedata.normalize("NFC", line).split()) for line in lines)
    return "\n".join(line for line in plain if line)[:LONGEST]


def kept_texts() -> TextCache:
    """What was read before, of these models and settings."""
    return TextCache(digest("ocr", code_digest(__file__), *(wanted for _, wanted in MODELS.values()), SURE, LEAST_SIDE))
