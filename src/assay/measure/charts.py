"""Charts of the report as Plotly takes them, all drawn from the run's own tables: {"data": …, "layout": …}.

Colours that begin with $ are the page's own, light or dark (see page.js).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from assay.measure.found import Interval, Named
from assay.measure.metrics import Figure
from assay.measure.words import plain

Chart = dict[str, Any]
SHADES = ["#2f7ed8", "#d9822b", "#2a9d60", "#8e44ad", "#c0392b", "#16a085", "#b8860b", "#7f5539", "#e377c2", "#6b7280"]
SMALL = 300  # pixels high


def distribution(bars: Sequence[tuple[str, int]], *, title: str, edges: Sequence[float] = ()) -> Chart:
    """Counts of scored posts by score bin or class; `edges` are bins at which a band begins."""
    names, counts = unlike([name for name, _ in bars], 40), [count for _, count in bars]
    bar: Chart = {
        "type": "bar",
        "x": names,
        "y": counts,
        "marker": {"color": "$bar"},
        "hovertemplate": "%{x}: %{y:,} posts",
    }
    many = len(bars) > 8
    lines = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": e - 0.5, "x1": e - 0.5, "y0": 0, "y1": 1}
        | {"line": {"color": "$mark", "width": 1.5, "dash": "dash"}}
        for e in edges
    ]
    told: Chart = {"title": title, "height": 260, "yaxis": {"title": "posts"}, "xaxis": {"type": "category"}}
    return _chart([bar | {"name": ""}], told | {"bargap": 0.02 if many else 0.3, "shapes": lines})


def dots(rows: Sequence[Named], *, title: str) -> Chart:
    """Figures with their intervals, a line each, the first at the top; rows have name, value, low and high."""
    names = unlike([str(row["name"]) for row in rows], 40)
    layout = {"title": title, "height": 110 + 22 * len(rows), "margin": {"l": 10, "r": 12, "t": 34, "b": 34}}
    return _chart([_dotted(names, rows, "$dot")], layout | {"yaxis": {"autorange": "reversed", "type": "category"}})


def comparison(figures: dict[str, Interval], *, title: str, higher_is_better: bool) -> Chart:
    """The student and its baselines with 95 % intervals, best on top."""
    known = {name: figure for name, figure in figures.items() if figure["value"] is not None}
    order = sorted(known, key=lambda name: Figure.of(known[name]).value, reverse=higher_is_better)
    data = [_dotted([plain_text(plain(n))], [known[n]], "$mark" if n == "student" else "$dot") for n in order]
    height = 100 + 28 * max(len(order), 2)
    return _chart(data, {"title": title, "height": height, "yaxis": {"autorange": "reversed", "type": "category"}})


def against_teacher(rows: Sequence[dict[str, str]], *, scores: bool) -> Chart:
    """Student against teacher; else the probability of the teacher's class or label."""
    student = [float(row["student"]) for row in rows]
    layout: Chart = {"title": "Student against teacher", "height": SMALL}
    if scores:
        teacher = [float(row["teacher"]) for row in rows]
        low, high = min(teacher + student), max(teacher + student)
        dots_of: Chart = {"type": "scatter", "mode": "markers", "x": teacher, "y": student}
        dots_of |= {"marker": {"size": 5, "opacity": 0.45, "color": "$dot"}}
        dots_of |= {"hovertemplate": "teacher %{x:.2f}, student %{y:.2f}<extra></extra>"}
        axes = {"xaxis": {"title": "teacher"}, "yaxis": {"title": "student"}}
        return _chart([dots_of, _line([low, high], [low, high])], layout | axes)
    names = sorted({row["teacher"] for row in rows})
    shown = dict(zip(names, unlike(names, 40), strict=True))
    look: Chart = {"type": "box", "marker": {"color": "$dot", "size": 3}, "boxpoints": "outliers"}
    by_name = {n: [s for s, row in zip(student, rows, strict=True) if row["teacher"] == n] for n in names}
    boxes = [look | {"name": shown[name], "y": values} for name, values in by_name.items()]
    return _chart(boxes, layout | {"yaxis": {"title": "probability of what the teacher says", "range": [0, 1.02]}})


def calibration(rows: Sequence[dict[str, str]]) -> Chart:
    """Binned prediction against truth; the larger the dot, the more answers."""
    x, y = [float(row["predicted"]) for row in rows], [float(row["observed"]) for row in rows]
    counts = [int(float(row["posts"])) for row in rows]
    low, high = min(x + y), max(x + y)
    sizes = [6 + 16 * (count / max(counts)) ** 0.5 for count in counts]
    told: Chart = {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "customdata": counts}
    told |= {"marker": {"size": sizes, "color": "$dot"}, "line": {"color": "$bar", "width": 1}}
    told |= {"hovertemplate": "predicted %{x:.2f}, observed %{y:.2f}, %{customdata:,} answers<extra></extra>"}
    axes = {"xaxis": {"title": "predicted"}, "yaxis": {"title": "observed"}}
    return _chart([_line([low, high], [low, high]), told], {"title": "Calibration", "height": SMALL} | axes)


def ranked(rows: Sequence[dict[str, str]], x: str, y: str, *, title: str) -> Chart:
    """One curve a name over the unit square, such as ROC; the diagonal is that of chance where x and y are rates."""
    data = [_line([0, 1], [0, 1])] if x.endswith("rate") else []
    names = list(dict.fromkeys(row["name"] for row in rows))
    for at, (name, shown) in enumerate(zip(names, unlike(names, 24), strict=True)):
        own = [row for row in rows if row["name"] == name]
        places = [[float(row[axis]) for row in own] for axis in (x, y)]
        line: Chart = {"type": "scatter", "mode": "lines", "x": places[0], "y": places[1], "name": shown}
        line |= {"line": {"color": SHADES[at % len(SHADES)], "width": 1.6}, "showlegend": True}
        data.append(line | {"hovertemplate": f"{x.replace('_', ' ')} %{{x:.2f}}, {y} %{{y:.2f}}"})
    axes = {"xaxis": {"title": x.replace("_", " ")}, "yaxis": {"title": y.replace("_", " ")}}
    return _chart(data, {"title": title, "height": SMALL + 14 * len(names), "showlegend": True} | axes)


def curves(train: Sequence[tuple[int, float]], val: Sequence[tuple[int, float]]) -> Chart:
    """Loss of train and val by epoch."""
    look: Chart = {"type": "scatter", "mode": "lines", "showlegend": True, "hovertemplate": "epoch %{x}: %{y:.4f}"}
    data = [
        look | {"name": name, "x": [s for s, _ in line], "y": [v for _, v in line], "line": {"color": tone}}
        for name, line, tone in (("train", train, "$bar"), ("val", val, "$dot"))
    ]
    axes = {"xaxis": {"title": "epoch"}, "yaxis": {"title": "loss"}}
    return _chart(data, {"title": "Learning curves", "height": SMALL, "showlegend": True} | axes)


def unlike(names: Sequence[str], most: int) -> list[str]:
    """Names as Plotly shows them as they are: no HTML, at most so long, and no two alike."""
    found: list[str] = []
    for name in names:
        short = name if len(name) <= most else f"{name[: most - 1]}…"
        at = 2
        while short in found:
            short, at = f"{name[: most - 4]}… {at}", at + 1
        found.append(short)
    return [plain_text(name) for name in found]


def plain_text(text: str) -> str:
    """Text that Plotly does not read as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dotted(names: list[str], rows: Sequence[Interval], tone: str) -> Chart:
    figures = [Figure.of(row) for row in rows]
    values = [one.value for one in figures]
    above = [one.high - one.value if math.isfinite(one.high) else 0.0 for one in figures]
    below = [one.value - one.low if math.isfinite(one.low) else 0.0 for one in figures]
    words = [f"{v:.3f} [{v - b:.3f}, {v + a:.3f}]" for v, a, b in zip(values, above, below, strict=True)]
    told: Chart = {"type": "scatter", "mode": "markers", "x": values, "y": names, "marker": {"color": tone, "size": 8}}
    told |= {
        "error_x": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": tone, "width": 0}
    }
    return told | {"customdata": words, "hovertemplate": "%{y}: %{customdata}<extra></extra>"}


def _line(x: list[float], y: list[float]) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "hoverinfo": "skip",
        "showlegend": False,
        "line": {"color": "$mark", "width": 1},
    }


def _chart(data: list[Chart], layout: Chart) -> Chart:
    return {"data": data, "layout": {"showlegend": False} | layout | {"title": plain_text(layout["title"])}}
