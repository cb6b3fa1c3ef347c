"""Cells of a user's table: texts, and image files as paths, bytes or pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from assay import images
from assay.errors import ImageProblem, RowError, SettingsError
from assay.text import decode


def columns_of(posts: pd.DataFrame, text: str | None, image: str | None, what: str) -> tuple[str | None, str | None]:
    """Those of the two columns that are there; SettingsError where neither is, or where one is there twice."""
    if not isinstance(posts, pd.DataFrame):
        raise SettingsError(f"{what}: posts are a {type(posts).__name__}; allowed: a pandas DataFrame")
    there = [name if name is not None and name in posts.columns else None for name in (text, image)]
    if there == [None, None]:
        names = ", ".join(map(str, posts.columns))[:200]
        raise SettingsError(f"{what}: no column {text!r} or {image!r}; it has {names}")
    for name in there:
        if name is not None and isinstance(posts[name], pd.DataFrame):
            raise SettingsError(f"{what}: several columns are named {name!r}; rename them")
    return there[0], there[1]


def text_in(value: Any) -> str:
    """A cell as text; nothing for null."""
    if isinstance(value, bytes | bytearray):
        try:
            return decode(bytes(value))
        except RowError:
            return ""
    return "" if _is_null(value) else str(value)


def files_in(value: Any, root: Path | None) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The images of a cell, and (code, detail) of those that cannot be read.

    A cell is a path, a file's bytes, a picture of Pillow, a dict with `bytes` or `path` as the library datasets has
    them, or several of these. Paths count from `root`, which they may not leave, or from here.
    """
    data, lost = [], []
    for one in _several(value):
        try:
            data.append(_bytes_of(one, root))
        except ImageProblem as problem:
            lost.append((problem.code, problem.detail))
        except (OSError, ValueError) as error:
            lost.append(("missing_image", f"{one}: {getattr(error, 'strerror', None) or error}"))
    return data, lost


def _several(value: Any) -> list[Any]:
    many = isinstance(value, list | tuple | pd.Series) or (isinstance(value, np.ndarray) and value.ndim == 1)
    found: Iterable[Any] = value if many else [value]
    return [one for one in found if not _is_null(one) and not (isinstance(one, str) and not one)]


def _bytes_of(value: Any, root: Path | None) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Image.Image):
        out = io.BytesIO()
        value.convert("RGB").save(out, "PNG")
        return out.getvalue()
    if not isinstance(value, str | Path):
        raise ImageProblem("bad_image", f"neither path nor bytes, but {type(value).__name__}")
    path = Path(value) if root is None else images.safe_path(root, str(value))
    return path.read_bytes()


def _is_null(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))
