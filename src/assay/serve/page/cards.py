"""HTML of the page's parts, from typed results."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2

from assay.scoring.explain import Explanation, heat_url, tone
from assay.scoring.prediction import Prediction
from assay.serve.models import Served
from assay.serve.page.corpus import Found
from assay.serve.page.given import Given
from assay.serve.page.queue import Item
from assay.targets import NAME, NUMBER, Target
from assay.targets.score import BINS

CSS = Path(__file__).with_name("page.css")
SEEN = {"ok": "text and picture", "text_only": "text alone", "image_only": "picture alone", "failed": "failed"}
DIST_BINS = 10
FIRST_ROWS = 12


def _module() -> Any:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("parts.html").module


PARTS = _module()


def refused(message: str) -> str:
    """What is shown instead of an answer."""
    return str(PARTS.refused(message))


def waiting(message: str) -> str:
    """What stands where an answer will be."""
    return str(PARTS.waiting(message))


def answer(served: Served, by_task: dict[str, Prediction]) -> str:
    """The card of a model's answers to one post."""
    answers = [_answer(task, served.predictor.targets[task], one, served) for task, one in by_task.items()]
    return str(PARTS.answer(served.name, served.version[:8], answers))


def _answer(task: str, target: Target, one: Prediction, served: Served) -> SimpleNamespace:
    found = SimpleNamespace(task=task, status=one.status, seen=SEEN[one.status], reason=one.reason, shape=target.shape)
    found.unlike = one.unlike
    if target.shape == NUMBER:
        low, high = target.bounds
        found.value, found.interval = one.value, one.interval
        found.edges = [low + edge * (high - low) / BINS for edge in target.edges]
        found.min, found.max = low, high
        found.at = lambda value: round(100 * (value - low) / (high - low), 2)
        found.band = ", ".join(target.groups_of(one.value)) if found.edges else ""
        return found
    held = [one.value] if isinstance(one.value, str) else list(one.value or []) if isinstance(one.value, list) else []
    found.said, found.set = ", ".join(held) or "none", one.prediction_set
    at = served.predictor.trained.model.thresholds(task)
    found.bars = [
        (name, p, name in (one.prediction_set or []), name in held, None if at is None else float(at[k]))
        for k, (name, p) in enumerate((one.probabilities or {}).items())
    ]
    if target.shape == NAME:
        found.bars.sort(key=lambda bar: -bar[1])
    return found


def explained(found: Explanation) -> str:
    """The card of what an answer rests on: words on coloured ground, the picture under its heat."""
    top = max((abs(weight) for _, weight in found.words), default=0) or 1
    words = [(word, tone(weight / top), f"{weight:+.3f}") for word, weight in found.words]
    heat = heat_url(found) if found.heat is not None else None
    return str(PARTS.explained(found, words, heat))


def progress(done: int, total: int, seconds: float) -> str:
    """How far a run is, its rate and the time left."""
    rate = done / seconds if seconds and done else 0.0
    return str(PARTS.progress(done, total, rate, (total - done) / rate if rate else None))


def many(given: Given, found: list[dict[str, Prediction]], served: Served, seconds: float) -> str:
    """What came of many posts: how many have an answer, how the answers are spread, the first rows."""
    tasks = []
    for task, target in served.predictor.targets.items():
        ones = [by_task[task] for by_task in found]
        rows = [
            (_short(row.text or ", ".join(map(str, row.cells.values())), 90), _listed(one.value), row.reason(one))
            for row, one in list(zip(given.rows, ones, strict=True))[:FIRST_ROWS]
        ]
        counts = [(SEEN[status], sum(one.status == status for one in ones)) for status in SEEN]
        tasks.append((task, _bars([one.value for one in ones], target), rows, [c for c in counts if c[1]]))
    return str(PARTS.many(served.name, served.version[:8], len(found), seconds, given.said, tasks))


def findings(
    task: str, target: Target, found: dict[str, Any], brands: list[dict[str, Any]], values: list[Any], name: str | None
) -> str:
    """What a corpus says: counts, distribution, brands with intervals; `name`: the class or label of the brands."""
    bars = _bars(values, target)
    column = target.column(name or target.estimands[0])
    low, high = target.bounds
    if target.are_shares:  # shares are small numbers: let the largest interval fill the width
        high = (
            max([row.get(f"{column}_joint_high") or row.get(f"{column}_high") or 0 for row in brands], default=1) or 1
        )
    rows = [_brand(row, column, low, high) for row in brands]
    rows.sort(key=lambda row: (row.value is None, -(row.value or 0)))
    what = f"share of {name}" if target.are_shares else "mean score"
    note = (
        f"What the labels would say of every post: predictions, shifted by how {found.get('labels', 0):,} labels "
        "differ from those of students that never saw them. Intervals account for the student's errors, not for those "
        "of the labels; those of the brands hold all at once, so that brands may be compared by them."
    )
    return str(PARTS.findings(task, found, bars, what, rows, note, (f"{low:.3g}", f"{high:.3g}")))


def _bars(values: list[Any], target: Target) -> list[tuple[str, float, int]]:
    counts = target.histogram([value for value in values if value is not None])
    if target.shape == NUMBER:  # twenty bins are many rows: pairs of them
        low, high = target.bounds
        step = (high - low) / DIST_BINS
        pairs = [counts[2 * i][1] + counts[2 * i + 1][1] for i in range(DIST_BINS)]
        counts = [(f"{low + i * step:g}–{low + (i + 1) * step:g}", n) for i, n in enumerate(pairs)]
    top = max((n for _, n in counts), default=0) or 1
    return [(label, round(100 * n / top, 1), n) for label, n in counts]


def _brand(row: dict[str, Any], column: str, low: float, high: float) -> SimpleNamespace:
    value = row.get(column)
    found = SimpleNamespace(brand=row["brand"], posts=int(row["posts"]), value=value)
    if value is None:
        found.lacking = "posts" if row.get("too_few") else "labels"
        return found
    joint = row.get(f"{column}_joint_low") is not None
    found.low, found.high = (row[f"{column}_joint_{edge}" if joint else f"{column}_{edge}"] for edge in ("low", "high"))
    found.left, right = 100 * (found.low - low) / (high - low), 100 * (found.high - low) / (high - low)
    found.width, found.at = right - found.left, 100 * (value - low) / (high - low)
    first, last = row.get(f"{column}_rank_low"), row.get(f"{column}_rank_high")
    found.rank = "" if first is None or last is None else f"{first:g}" if first == last else f"{first:g} to {last:g}"
    return found


def hits(found: Found, first: int) -> str:
    """Posts that were found, as a grid."""
    return str(PARTS.hits(found, first))


def review(item: Item, target: Target, coded: int, note: str) -> str:
    """The card of a labelled post, with what teacher and student say."""
    label = f"{item.label:g} of {target.bounds[1]:g}" if target.shape == NUMBER else _listed(item.label)
    return str(PARTS.review(item, label, coded, note))


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def choices(target: Target) -> list[str]:
    """What can be explained or filtered by: the classes or labels; nothing for scores."""
    return [] if target.shape == NUMBER else target.groups
