"""Cells of a user's table: texts, and image files as paths or bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from assay import images
from assay.errors import ImageProblem, SettingsError


def columns_of(posts: pd.DataFrame, text: str | None, image: str | None, what: str) -> tuple[str | None, str | None]:
    """Those of the two columns that are there; SettingsError where neither is."""
    there = [name if name is not None and name in posts.columns else None for name in (text, image)]
    if there == [None, None]:
        raise SettingsError(
            f"{what}: no column {text!r} or {image!r}; it has {', '.join(map(str, posts.columns))[:200]}"
        )
    return there[0], there[1]


def text_in(value: Any) -> str:
    """A cell as text; nothing for null."""
    return "" if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)) else str(value)


def files_in(value: Any, root: Path | None) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The images of a cell (a path, bytes, or several of them), and (code, detail) of those that cannot be read.

    Paths count from `root`, which they may not leave, or from here.
    """
    several = list(value) if isinstance(value, list | tuple) or hasattr(value, "tolist") else [value]
    data, lost = [], []
    for one in several:
        if isinstance(one, bytes):
            data.append(one)
        elif text_in(one):
            try:
                path = Path(str(one)) if root is None else images.safe_path(root, str(one))
                data.append(path.read_bytes())
            except ImageProblem as problem:
                lost.append((problem.code, problem.detail))
            except (OSError, ValueError) as error:
                lost.append(("missing_image", f"{one}: {getattr(error, 'strerror', None) or error}"))
    return data, lost
