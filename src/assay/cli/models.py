"""assay models: the trained students of a repository side by side."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from assay.errors import DataError

WIDE = 220  # columns of a file or a pipe


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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("task", "target", "student", "figure [95 %]", "against the best probe", "posts", "MiB", "posts/s", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        speed = "-" if row["posts_per_s"] is None else f"{row['posts_per_s']:.1f}"
        size = "-" if row["mib"] is None else f"{row['mib']:.0f}"
        posts = "-" if row["posts"] is None else f"{row['posts']:,}"
        cells = (
            row["task"],
            row["target"],
            row["made_of"],
            _figure(row["figure"], row["metric"]),
            _gap(row["gap_probe"]),
        )
        table.add_row(*cells, posts, size, speed, row["note"] or "")
    Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE).print(table)


def _figure(figure: dict[str, Any] | None, metric: str) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    edges = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{metric} {figure['value']:.3f}{edges}"


def _gap(gap: dict[str, Any] | None) -> str:
    if gap is None or gap["value"] is None:
        return "-"
    decided = "" if gap["low"] is None or gap["low"] > 0 or gap["high"] < 0 else ", not decided"
    return f"{gap['value']:+.3f} ({gap['against']}{decided})"
