"""assay models: the trained students of a repository side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from assay.cli.compare import cell, figured, wide_console
from assay.errors import DataError


def models(
    root: Annotated[Path, Option(help="The repository.")] = Path(),
    as_json: Annotated[bool, Option("--json", help="Print everything as JSON instead.")] = False,
) -> None:
    """Compare the trained students: what they are made of, how good they are, how large and how fast.

    A table of the students below models/, each with its figures below metrics/. Students of one task are compared post
    by post by `assay compare`.
    """
    from assay.scoring.models import trained_models

    rows = trained_models(root)
    if not rows:
        raise DataError(f"no trained student below {root / 'models'}; `dvc repro` trains them")
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("task", "target", "student", "figure [95 %]", "against the best probe", "posts", "MiB", "posts/s", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        speed = "-" if row["posts_per_s"] is None else f"{row['posts_per_s']:.1f}"
        posts = "-" if row["posts"] is None else f"{row['posts']:,}"
        figure = "-" if row["figure"] is None else f"{row['metric']} {figured(row['figure'])}"
        cells = row["task"], row["target"], row["made_of"], figure, _gap(row["gap_probe"])
        table.add_row(*map(cell, (*cells, posts, f"{row['mib']:.0f}", speed, row["note"] or "")))
    wide_console().print(table)


def _gap(gap: dict[str, Any] | None) -> str:
    if gap is None or gap["value"] is None:
        return "-"
    decided = "" if gap["low"] is None or gap["low"] > 0 or gap["high"] < 0 else ", not decided"
    return f"{gap['value']:+.3f} ({gap['against']}{decided})"
