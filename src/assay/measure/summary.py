"""The few figures by which runs are told apart (`dvc metrics diff`, `dvc exp show`), and a few lines for a terminal."""

from __future__ import annotations

from typing import Any

from assay.measure.found import Findings, Interval
from assay.targets import Target

STUDENT = 3  # figures of the student at most; with the gap to the probe and its interval
CORPUS = 4  # figures of the corpus at most


def of_student(evaluated: dict[str, Any], target: Target) -> dict[str, Any]:
    """Of evaluate.json: the target's first figures and one that ranks, and the gap to the best linear probe."""
    names = [one.name for one in target.metrics]
    first = names[: STUDENT - 1] + [one.name for one in target.metrics if one.ranking and one.name not in names[:2]][:1]
    gap = evaluated["gap_probe"]
    found = {name: evaluated[name]["value"] for name in first if name in evaluated}
    return found | _with_ends(f"{target.headline}_over_probe", gap)


def of_corpus(found: Findings, target: Target) -> dict[str, Any]:
    """Of findings.json: the corrected mean with its interval, or the shares of the first classes or labels."""
    corrected = found["corrected"]
    if len(corrected) == 1:
        ((name, figure),) = corrected.items()
        return _with_ends(name, figure)
    return {f"share_{name}": figure["value"] for name, figure in list(corrected.items())[:CORPUS]}


def _with_ends(name: str, figure: Interval) -> dict[str, float | None]:
    return {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}


def lines(name: str, evaluated: dict[str, Any], target: Target, stage: str) -> list[str]:
    """What the student is worth, in a table of three lines, and what to do next: `stage` reports."""
    probe, gap = evaluated["gap_probe"]["against"], evaluated["gap_probe"]
    metrics = [one.name for one in target.metrics if one.name in evaluated][:STUDENT]
    judged = "labelled posts, each by a student that never saw it" if evaluated["folds"] else "test posts"
    rows = [[f"{name}, {evaluated['n']:,} {judged}", *metrics], ["student", *(_cell(evaluated[m]) for m in metrics)]]
    if probe:
        rows.append([f"linear probe, {probe}", *(_cell(evaluated["baselines"][probe][m]) for m in metrics)])
        rows.append(["student ahead by", *(_cell(evaluated["gaps"][probe][m]) for m in metrics)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, _next(name, gap, stage)]


def _next(name: str, gap: dict[str, Any], stage: str) -> str:
    if gap["value"] is None:
        return ""
    if (gap["low"] or 0) > 0:
        return f"better than its probe; next: dvc repro {stage}"
    what = "worse than its probe" if (gap["high"] or 0) < 0 else "not decided to be better than its probe"
    return f"{what}; try: assay tune --task {name}; or more labels: tasks.{name}.sample.posts"


def _cell(figure: Interval) -> str:
    if figure["value"] is None:
        return "-"
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
