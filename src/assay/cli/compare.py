"""assay compare: two revisions of a task, post by post."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from typer import Argument, Option

from assay.progress import say

if TYPE_CHECKING:
    from assay.measure.found import Compared, Interval

WIDE = 200  # columns of a file or a pipe
SIGNS = {"better": "green", "worse": "red", "equivalent": "cyan", "not decided": "yellow"}


def compare(
    a: Annotated[str, Argument(metavar="REV_A", help="What is compared with, such as HEAD.")],
    b: Annotated[str, Argument(metavar="REV_B", help="What is judged, such as workspace or an experiment's name.")],
    task: Annotated[str, Option(help="A task whose report stands in both.")],
    margin: Annotated[
        float, Option(help="Differences below this share of what a metric can span do not matter.")
    ] = 0.01,
    as_json: Annotated[bool, Option("--json", help="Print everything as JSON instead.")] = False,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write a page as well.")] = None,
) -> None:
    """Say whether one revision's student is better than another's, and how findings moved.

    Compares two commits, branches, tags, DVC experiments, or `workspace`, post by post, on posts that neither student
    learnt from. REV:NAME is the joint student NAME of a revision instead of the task's own.
    """
    from assay.measure.pages import template, write_text
    from assay.scoring.compare import compare

    found = compare(a, b, task, margin=margin)
    if html:
        write_text(template("compare.html").render(**found), html)
        say(f"written to {html}")
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _print(found)


def _print(found: Compared) -> None:
    from rich.markup import escape

    console = wide_console()
    console.print(f"[bold]{found['task']}[/bold]: {escape(found['b'])} against {escape(found['a'])}")
    for line in _changes(found):
        console.print(f"  {escape(line)}")
    if found["question"]:
        console.print(
            f"[yellow]another question[/yellow]: {escape(found['question'])}; the students have no common yardstick, "
            "so there is no verdict"
        )
    if found["judged"]:
        both = found["judged"]["both"]
        console.print(f"\n{both:,} posts that neither learnt from; the verdicts are on {found['scope']}")
        console.print(_students(found))
        console.print("a positive difference is better; equivalent: within the margin, too small to matter")
    parts: tuple[Literal["findings", "brands"], ...] = ("findings", "brands")
    for what in parts:
        if found[what]:
            console.print()
            console.print(_moved(found, what))
    for note in found["notes"]:
        console.print(f"[yellow]note[/yellow]: {escape(note)}")


def _changes(found: Compared) -> list[str]:
    from assay.scoring.compare import QUESTION

    told, labels = found["changed"], found["labels"]
    lines = [f"{row['key']}: {_said(row['a'])} -> {_said(row['b'])}" for row in told["settings"]]
    parts = [f"another {name}" for name in QUESTION if told[name]]
    parts += [f"other code in {', '.join(told['code'])}"] if told["code"] else []
    lines.append("; ".join(parts) or "rubric, teacher, corpus and code are the same")
    lines.append(f"labels: {labels['a']:,} and {labels['b']:,}, {labels['both']:,} posts in both")
    agree = [(name, one) for name, one in labels.get("agreement", {}).items() if isinstance(one, dict)]
    return lines + [f"  {name} of the two labels of a post: {figured(cast('Interval', one))}" for name, one in agree]


def _students(found: Compared) -> Any:
    table = _table("metric", found, "difference [95 %]", "p (Holm)", "verdict")
    for row in found["metrics"]:
        verdict = row["verdict"] or "-"
        p = "-" if row["p"] is None else "< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
        cells = figured(row["a"]), figured(row["b"]), figured(row["difference"], sign="+"), p
        table.add_row(row["metric"], *map(cell, cells), cell(verdict, SIGNS.get(verdict, "default")))
    return table


def _moved(found: Compared, what: Literal["findings", "brands"]) -> Any:
    table = _table(what, found, "moved by [95 %]", "")
    for row in found[what]:
        name = row["estimand"] if what == "findings" else f"{row['estimand']}, {row['name']}"
        word = "too few labels" if row["p"] is None else "moved" if row["decided"] else "not decided"
        cells = name, figured(row["a"]), figured(row["b"]), figured(row["difference"], sign="+"), word
        table.add_row(*map(cell, cells))
    return table


def _table(first: str, found: Compared, *more: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in (first, found["a"], found["b"], *more):
        table.add_column(cell(name))
    return table


def wide_console() -> Any:
    """Where tables are printed: as wide as the terminal, or as WIDE."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def cell(text: str, colour: str = "default") -> Any:
    """Text of a table, never markup."""
    from rich.text import Text

    return Text(text, style=colour)


def figured(figure: Interval, sign: str = "") -> str:
    """A figure with its interval; - where there is none."""
    if figure["value"] is None:
        return "-"
    value, low, high = (
        None if one is None else round(one, 3) + 0.0 for one in (figure["value"], figure["low"], figure["high"])
    )
    edges = "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{value:{sign}.3f}{edges}"


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
