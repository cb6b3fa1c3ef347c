"""Pictures of an audit, drawn from its own tables: maps, heat map, leans with intervals, contact sheets."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from assay.audit.spaces import Grid

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
COLOURS = ["#6b7280", "#2f7ed8", "#2a9d60", "#d9822b", "#8e44ad", "#c0392b", "#16a085", "#b8860b", "#7f5539", "#e377c2"]
CELL, LABEL, MARGIN = 128, 210, 26  # pixels of the contact sheet
ATLAS_BYTES = 400_000  # of all thumbnails of the maps
SMALLEST = 32  # pixels of a thumbnail


def svg(figure: Figure) -> str:
    """A figure as an SVG element to stand in a page; same figure, same text."""
    out = io.StringIO()
    figure.tight_layout()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    found = out.getvalue()
    return found[found.index("<svg") :]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; same figure, same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None}, bbox_inches="tight")  # with its colour bar and legend
    plt.close(figure)


def map_picture(points: Sequence[dict[str, Any]], by: str, order: Sequence[str], title: str) -> Figure:
    """One map, coloured `by` group or category."""
    figure, axis = plt.subplots(figsize=(7.2, 5.6))
    for i, name in enumerate(order):
        own = [point for point in points if point[by] == name]
        colour = COLOURS[i % len(COLOURS)] if len(order) <= len(COLOURS) else plt.get_cmap("tab20")(i % 20)
        axis.scatter(
            [p["x"] for p in own], [p["y"] for p in own], s=14, color=colour, linewidths=0, alpha=0.75, label=name
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.5)
    axis.set_title(title, loc="left")
    return figure


def heat_picture(rows: Sequence[dict[str, Any]], space: str, groups: Sequence[str], comparison: str) -> Figure:
    """Activities x groups: likeness to the reference, less the mean of the activity; sorted by their lean."""
    values = np.array([[row[f"{space}: {group}"] for group in groups] for row in rows])
    values -= values.mean(axis=1, keepdims=True)
    order = np.argsort([-row[f"{space}: {comparison}"] for row in rows], kind="stable")
    most = float(np.abs(values).max()) or 1.0
    figure, axis = plt.subplots(figsize=(5.8, 1.4 + 0.19 * len(rows)))
    image = axis.imshow(values[order], cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    axis.set_xticks(range(len(groups)), groups)
    axis.set_yticks(range(len(rows)), [rows[i]["words"] for i in order], fontsize=7)
    axis.spines[:].set_visible(False)
    figure.suptitle(f"{space}: nearness to the reference,\nabove the mean of the activity", fontsize=10, weight="bold")
    figure.colorbar(image, ax=axis, shrink=min(1.0, 12 / max(len(rows), 1) + 0.2))
    return figure


def lean_picture(found: dict[str, Any], name: str, first: str, second: str) -> str:
    """The lean in each space with its interval and the range that permuted groups reach, as SVG."""
    compared = [(space, one["comparisons"][name], one) for space, one in found["spaces"].items()]
    spaces = [(space, figures.get("lean_all") or figures["lean"], one) for space, figures, one in compared]
    spaces = spaces[::-1]
    figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.42 * len(spaces)))
    for at, (_, lean, one) in enumerate(spaces):
        tone = SOFT if one["control"] or one["kind"] == "prompts" else INK
        axis.barh(at, 2 * lean["floor"], left=-lean["floor"], height=0.62, color="#eceff3", zorder=0)
        axis.plot([lean["low"], lean["high"]], [at, at], color=tone, linewidth=2.4)
        axis.plot(lean["value"], at, "o", color=WARM if one["comparisons"][name]["verdict"] != "not decided" else tone)
    axis.axvline(0, color="#888", linewidth=0.8)
    ends = [x for _, lean, _ in spaces for x in (lean["low"], lean["high"], lean["floor"], -lean["floor"])]
    room = 0.05 * (max(ends) - min(ends))
    axis.set_xlim(min(ends) - room, max(ends) + room)
    marks = [f"{space}{' (control)' if one['control'] else ''}" for space, _, one in spaces]
    axis.set_yticks(range(len(spaces)), marks)
    axis.set_xlabel(f"nearer to {second}  ←  lean  →  nearer to {first}")
    axis.set_title(f"{first} against {second}; grey: what permuted groups reach", loc="left")
    return svg(figure)


def share_picture(perceived: dict[str, Any], group: str) -> str:
    """Shares of apparent bands under one group's prompt, beside the population where it is given, as SVG."""
    shares = perceived["shares"][group]
    figure, axis = plt.subplots(figsize=(5.2, 2.6))
    names = list(shares)
    for at, name in enumerate(names):
        one = shares[name]
        axis.bar(at, one["value"] or 0, color=SOFT, width=0.55)
        if one["value"] is not None:
            axis.plot([at, at], [one["low"], one["high"]], color=INK, linewidth=2)
        if name in perceived["population"]:
            axis.plot([at - 0.36, at + 0.36], [perceived["population"][name]] * 2, color=WARM, linewidth=2)
    axis.set_xticks(range(len(names)), names)
    axis.set_ylim(0, 1)
    axis.set_ylabel("share of images")
    marks = "; orange: population" if perceived["population"] else ""
    axis.set_title(f"Apparent band under “{group}”{marks}", loc="left")
    return svg(figure)


def contact_sheet(grid: Grid, chosen: Sequence[int], pictures: dict[tuple[int, int], Image.Image]) -> Image.Image:
    """Activities x groups as a sheet of pictures; a cell stays empty where there is none."""
    wide, high = LABEL + CELL * len(grid.groups), MARGIN + CELL * len(chosen)
    sheet = Image.new("RGB", (wide, high), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for g, group in enumerate(grid.groups):
        draw.text((LABEL + CELL * g + 6, 6), group, fill=(31, 58, 95), font=font)
    for row, activity in enumerate(chosen):
        top = MARGIN + CELL * row
        for line, text in enumerate(_wrapped(grid.words[activity], 26)[:5]):
            draw.text((8, top + 8 + 18 * line), text, fill=(40, 40, 40), font=font)
        for g in range(len(grid.groups)):
            picture = pictures.get((activity, g))
            if picture is not None:
                small = picture.copy()
                small.thumbnail((CELL - 4, CELL - 4))
                left = LABEL + CELL * g + (CELL - small.width) // 2
                sheet.paste(small, (left, top + (CELL - small.height) // 2))
    return sheet


def atlas(thumbs: Sequence[Image.Image], side: int) -> tuple[bytes, int, int]:
    """All thumbnails in one JPEG of square tiles: the file, tiles in a row, and pixels a tile.

    Tiles are `side` pixels, or fewer where the file would be larger than ATLAS_BYTES.
    """
    row = max(1, math.ceil(len(thumbs) ** 0.5))
    while True:
        sheet = Image.new("RGB", (row * side, max(1, math.ceil(len(thumbs) / row)) * side), (255, 255, 255))
        for at, thumb in enumerate(thumbs):
            small = thumb.copy()
            small.thumbnail((side, side))
            sheet.paste(
                small, (at % row * side + (side - small.width) // 2, at // row * side + (side - small.height) // 2)
            )
        data = jpeg(sheet, 60)
        if len(data) <= ATLAS_BYTES or side <= SMALLEST:
            return data, row, side
        side = max(SMALLEST, side * 3 // 4)


def few_colours(path: Path) -> bytes:
    """A drawing as PNG of 64 colours, a third of the size, for a page that is mailed."""
    out = io.BytesIO()
    with Image.open(path) as drawing:
        drawing.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def jpeg(picture: Image.Image, quality: int = 82) -> bytes:
    """A picture as JPEG bytes."""
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
