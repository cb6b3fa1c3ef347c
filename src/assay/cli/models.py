"""assay models: the trained students of a repository side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from assay.cli.compare import cell, figured, wide_console
from assay.errors import DataError


def add_models(commands: Any) -> None:
    """Add `models` to the command line."""
    models = commands.add_parser(
        "models",
        help="compare the trained students: what they are made of, how good they are, how large and how fast",
        description="A table of the students below models/, each with its figures below metrics/. Students of one task "
        "are compared post by post by `assay compare`.",
    )
    models.add_argument("--root", type=Path, default=Path(), help="the repository; default: here")
    models.add_argument("--json", action="store_true", help="print everything as JSON instead")
    models.set_defaults(run=_models)


def _models(args: argparse.Namespace) -> None:
    from assay.scoring.models import trained_models

    rows = trained_models(args.root)
    if not rows:
        raise DataError(f"no trained student below {args.root / 'models'}; `dvc repro` trains them")
    if args.json:
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
