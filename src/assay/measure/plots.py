"""Plot files for DVC and pictures for the report, all drawn from the run's own tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

INK, SOFT, WARM = "#1f3a5f", "#8fb1d6", "#d9822b"
plt.rcParams.update(
    {
        "font.size": 9,
        "text.parse_math": False,  # a dollar in a brand or an activity is a dollar
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "svg.fonttype": "none",
        "svg.hashsalt": "assay",
    }
)


def svg(figure: Figure) -> str:
    """A figure as an SVG element to stand in a page; same figure, same text."""
    out = io.StringIO()
    figure.tight_layout()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    found = out.getvalue()
    return found[found.index("<svg") :]


def distribution(bars: Sequence[tuple[str, int]], *, title: str, edges: Sequence[float] = ()) -> str:
    """Counts of scored posts by score bin or class; `edges` are bins at which a band begins."""
    figure, axis = plt.subplots(figsize=(6.4, 2.8))
    names, counts = [name for name, _ in bars], [count for _, count in bars]
    axis.bar(
        range(len(bars)),
        counts,
        color=SOFT,
        edgecolor="white",
        align="edge" if len(bars) > 8 else "center",
        width=1.0 if len(bars) > 8 else 0.7,
    )
    step = 2 if len(bars) > 8 else 1
    axis.set_xticks(range(0, len(bars), step), names[::step])
    for edge in edges:
        axis.axvline(edge, color=WARM, linewidth=1, linestyle="--")
    axis.set_ylabel("posts")
    axis.set_title(title, loc="left")
    return svg(figure)


def dots(rows: Sequence[dict[str, Any]], *, title: str) -> str:
    """Figures with their intervals, a line each, the first at the top; rows have name, value, low and high."""
    figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.24 * len(rows)))
    for place, row in enumerate(rows):
        axis.plot([row["low"], row["high"]], [place, place], color=SOFT, linewidth=3, solid_capstyle="butt")
        axis.plot(row["value"], place, "o", color=INK, markersize=4)
    axis.set_yticks(range(len(rows)), [str(row["name"])[:40] for row in rows])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e5e9ef")
    axis.set_axisbelow(True)
    axis.set_title(title, loc="left")
    return svg(figure)


def against_teacher(rows: Sequence[dict[str, str]], *, scores: bool) -> str:
    """Student against teacher on the test split; else the probability of the teacher's class or label."""
    figure, axis = plt.subplots(figsize=(3.6, 3.2))
    student = [float(row["student"]) for row in rows]
    if scores:
        teacher = [float(row["teacher"]) for row in rows]
        axis.scatter(teacher, student, s=12, alpha=0.45, color=INK, linewidths=0)
        low, high = min(teacher + student), max(teacher + student)
        axis.plot([low, high], [low, high], color=WARM, linewidth=1)
        axis.set_xlabel("teacher")
        axis.set_ylabel("student")
    else:
        names = sorted({row["teacher"] for row in rows})
        axis.boxplot(
            [[s for s, r in zip(student, rows, strict=True) if r["teacher"] == n] for n in names],
            tick_labels=names,
            medianprops={"color": WARM},
        )
        if len(names) > 3:
            axis.tick_params(axis="x", rotation=35)
        axis.set_ylabel("probability of what the teacher says")
    axis.set_title("Student against teacher (test)", loc="left")
    return svg(figure)


def calibration(rows: Sequence[dict[str, str]]) -> str:
    """Binned prediction against truth on the test split."""
    figure, axis = plt.subplots(figsize=(3.6, 3.2))
    x, y = [float(row["predicted"]) for row in rows], [float(row["observed"]) for row in rows]
    low, high = min(x + y), max(x + y)
    axis.plot([low, high], [low, high], color=WARM, linewidth=1)
    axis.plot(x, y, marker="o", markersize=4, color=INK, linewidth=1)
    axis.set_xlabel("predicted")
    axis.set_ylabel("observed")
    axis.set_title("Calibration (test)", loc="left")
    return svg(figure)


def ranked(rows: Sequence[dict[str, str]], x: str, y: str, *, title: str) -> str:
    """One curve a name over the unit square, such as ROC; the diagonal is that of chance where x and y are rates."""
    figure, axis = plt.subplots(figsize=(3.6, 3.2))
    names = list(dict.fromkeys(row["name"] for row in rows))
    shown = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    for at, name in enumerate(names):
        own = [row for row in rows if row["name"] == name]
        places = [[float(row[axis_name]) for row in own] for axis_name in (x, y)]
        axis.plot(*places, color=shown(at % shown.N), linewidth=1.2, label=name[:24])
    if x.endswith("rate"):
        axis.plot([0, 1], [0, 1], color="#ccc", linewidth=1, linestyle="--")
    axis.set_xlabel(x.replace("_", " "))
    axis.set_ylabel(y.replace("_", " "))
    if 0 < len(names) <= 10:
        axis.legend(frameon=False, fontsize=7)
    axis.set_title(title, loc="left")
    return svg(figure)


def curves(train: Sequence[tuple[int, float]], val: Sequence[tuple[int, float]]) -> str:
    """Loss of train and val by epoch."""
    figure, axis = plt.subplots(figsize=(3.6, 3.2))
    axis.plot(*zip(*train, strict=True), color=SOFT, label="train")
    axis.plot(*zip(*val, strict=True), color=INK, label="val")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss")
    axis.legend(frameon=False)
    axis.set_title("Learning curves", loc="left")
    return svg(figure)


def comparison(figures: dict[str, dict[str, Any]], *, title: str, higher_is_better: bool) -> str:
    """The student and its baselines with 95 % intervals, best on top."""
    known = {name: f for name, f in figures.items() if f["value"] is not None}
    order = sorted(known, key=lambda name: known[name]["value"], reverse=not higher_is_better)
    figure, axis = plt.subplots(figsize=(6.4, 0.6 + 0.36 * max(len(order), 2)))
    for at, name in enumerate(order):
        f, tone = known[name], WARM if name == "student" else INK
        low, high = (f["low"], f["high"]) if f["low"] is not None else (f["value"], f["value"])
        axis.plot([low, high], [at, at], color=tone, linewidth=2)
        axis.plot(f["value"], at, "o", color=tone, markersize=5)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.grid(axis="x", color="#eee")
    axis.set_title(title, loc="left")
    return svg(figure)
