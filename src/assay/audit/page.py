"""One self-contained HTML page about an audit, and its pictures as files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay import images
from assay.audit import pictures
from assay.audit.findings import name_of
from assay.audit.spaces import Grid
from assay.config import Audit, Generator
from assay.measure.pages import template, with_contents, write_text
from assay.posts import stream


def write_page(
    name: str,
    audit: Audit,
    generator: Generator,
    found: dict[str, Any],
    *,
    grid: Grid,
    leans: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    points: list[dict[str, Any]],
    folder: Path,
    left_out: str | None,
    out_page: Path,
    out_pictures: Path,
) -> None:
    """Write maps, heat maps and contact sheets as files to `out_pictures`, and the page with all of them."""
    settings = audit.pictures
    mapped = list(dict.fromkeys(point["image_id"] for point in points))
    sheets = _sheet_rows(audit, found, leans, grid)
    thumbs, cells = _read(folder, grid, set(mapped), {a for rows in sheets.values() for a in rows}, audit)
    drawn: dict[str, Any] = {"maps": [], "heat": [], "sheets": [], "leans": [], "shares": []}
    out_pictures.mkdir(parents=True, exist_ok=True)
    for path, figure in _figures(audit, found, leans, grid, points):
        pictures.save(figure, out_pictures / path)
        if path.startswith("heat"):
            drawn["heat"].append(_url(pictures.few_colours(out_pictures / path), "png"))
    for title, rows in sheets.items():
        data = pictures.jpeg(pictures.contact_sheet(grid, rows, cells), 70)
        (out_pictures / f"sheet_{title}.jpg").write_bytes(data)
        drawn["sheets"].append((title, _url(data, "jpeg")))
    if audit.reference is not None:
        drawn["leans"] = [pictures.lean_picture(found, name_of(*pair), *pair) for pair in audit.pairs]
    if "perceived" in found and audit.reference is not None:
        drawn["shares"] = [pictures.share_picture(found["perceived"], audit.reference)]
    page = template("page.html", Path(__file__).parent).render(
        name=name,
        audit=audit,
        generator=generator,
        found=found,
        pairs=[(name_of(*pair), *pair) for pair in audit.pairs],
        categories=categories,
        left_out=left_out,
        drawn=drawn,
        paired=generator.kind != "folder" and getattr(generator, "seed_field", "") is not None,
        map_data=_map_data(points, mapped, thumbs, grid, settings.thumbnail_px),
    )
    write_text(with_contents(page), out_page)


def _figures(
    audit: Audit, found: dict[str, Any], leans: list[dict[str, Any]], grid: Grid, points: list[dict[str, Any]]
) -> Iterator[tuple[str, Any]]:
    for space, kind in dict.fromkeys((point["space"], point["map"]) for point in points):
        own = [point for point in points if (point["space"], point["map"]) == (space, kind)]
        for by, order in (("group", grid.groups), ("category", list(dict.fromkeys(grid.categories)))):
            title = f"{space}, {kind}, by {by if by == 'group' else 'category of activity'}"
            yield f"{kind}_{space}_by_{by}.png", pictures.map_picture(own, by, order, title)
    if audit.reference is None:
        return
    comparison = name_of(*audit.pairs[0])
    for space, one in found["spaces"].items():
        if one["control"]:
            continue
        ranked = sorted(leans, key=lambda row: -abs(row[f"{space}: {comparison}"]))[: audit.pictures.heat_activities]
        yield f"heat_{space}.png", pictures.heat_picture(ranked, space, audit.attributed, comparison)


def _sheet_rows(audit: Audit, found: dict[str, Any], leans: list[dict[str, Any]], grid: Grid) -> dict[str, list[int]]:
    """Which activities the contact sheets show: some at random, and those of the strongest leans either way."""
    count = min(audit.pictures.sheet_activities, len(grid.activities))
    chance = np.random.default_rng([audit.statistics.seed, 31]).permutation(len(grid.activities))[:count]
    rows = {"random": sorted(int(at) for at in chance)}
    space = next((n for n, one in found["spaces"].items() if one["kind"] == "images" and not one["control"]), None)
    if audit.reference is not None and space is not None:
        key = f"{space}: {name_of(*audit.pairs[0])}"
        ranked = sorted(range(len(leans)), key=lambda at: -leans[at][key])
        rows["strongest"] = list(dict.fromkeys([*ranked[: count // 2], *ranked[len(ranked) - (count - count // 2) :]]))
    return rows


def _read(
    folder: Path, grid: Grid, mapped: set[str], activities: set[int], audit: Audit
) -> tuple[dict[str, Image.Image], dict[tuple[int, int], Image.Image]]:
    """Thumbnails of mapped images, and for the sheets the first image of each activity and group."""
    thumbs: dict[str, Image.Image] = {}
    cells: dict[tuple[int, int], Image.Image] = {}
    for rows in stream(folder, ["image_id", "image"], 64):
        for row in rows:
            place = grid.rows.get(row["image_id"])
            if place is None:
                continue
            in_sheet = place[0] in activities and place[:2] not in cells
            if not in_sheet and row["image_id"] not in mapped:
                continue
            picture = images.decode(row["image"], audit.images.max_pixels)
            if in_sheet:
                cell = picture.copy()
                cell.thumbnail((pictures.CELL, pictures.CELL))
                cells[place[:2]] = cell
            if row["image_id"] in mapped:
                picture.thumbnail((audit.pictures.thumbnail_px,) * 2)
                thumbs[row["image_id"]] = picture
    return thumbs, cells


def _map_data(
    points: list[dict[str, Any]], mapped: list[str], thumbs: dict[str, Image.Image], grid: Grid, side: int
) -> dict[str, Any]:
    """What the page's script draws: the images once, and for each map their places."""
    about = {point["image_id"]: point for point in points}
    names = ("group", "words", "category", "prompt", "seed")
    at = {image_id: i for i, image_id in enumerate(mapped)}
    maps: dict[str, list[list[float] | None]] = {}  # None: not on this map
    for point in points:
        places = maps.setdefault(f"{point['map']} of {point['space']}", [None] * len(mapped))
        places[at[point["image_id"]]] = [round(float(point[axis]), 3) for axis in ("x", "y")]
    data, row, side = pictures.atlas([thumbs[one] for one in mapped], side)
    return {
        "side": side,
        "row": row,
        "atlas": _url(data, "jpeg"),
        "groups": grid.groups,
        "colours": pictures.COLOURS,
        "columns": {name: _numbered([about[one][name] for one in mapped]) for name in names},
        "maps": maps,
    }


def _numbered(values: list[Any]) -> dict[str, list[Any]]:
    """Values that repeat, each once, and which of them stands where."""
    names = list(dict.fromkeys(values))
    place = {name: i for i, name in enumerate(names)}
    return {"names": names, "at": [place[value] for value in values]}


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
