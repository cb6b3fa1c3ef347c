"""Images -> figures, tables, pictures and the page of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from assay.audit.findings import categories_table, findings, leans_table, rounded, text_image
from assay.audit.found import Found
from assay.audit.measures import Measures
from assay.audit.page import write_page
from assay.audit.perceived import perceived
from assay.audit.projection import maps
from assay.audit.spaces import build, read_grid
from assay.config import Audit, DrawnSource, Generator
from assay.encode.seeding import seed_everything
from assay.measure.csvfile import write_csv
from assay.posts import write_json
from assay.progress import say


def run_audit(
    name: str,
    audit: Audit,
    generator: Generator,
    *,
    images: Path,
    rubrics: Path,
    out_metrics: Path,
    out_leans: Path,
    out_categories: Path,
    out_points: Path,
    out_page: Path,
    out_pictures: Path,
) -> Found:
    """Write audit.json, leans of activities, results by category, maps, pictures and page; returns audit.json.

    DataError when too few activities have an image of every group; TeacherError when the perceived bands
    cannot be labelled.
    """
    seed_everything(audit.statistics.seed)
    grid = read_grid(images, audit.groups)
    built = build(audit, images, grid)
    spaces = built.spaces
    measured = [Measures(space, audit.statistics) for space in spaces]
    found = findings(audit, grid, measured, built.lacking)
    if built.across:
        found["text_image"] = {name: text_image(audit, values) for name, values in built.across.items()}
    left_out = _why_not_perceived(audit, generator)
    if audit.perceived is not None and left_out is None:
        found["perceived"] = perceived(audit, images, grid, spaces, rubrics, name=name)
    found = cast(Found, rounded(found))
    categories = categories_table(found)
    leans = leans_table(audit, grid, measured)
    points = maps(grid, spaces, audit.pictures, audit.statistics.seed)
    write_json(found, out_metrics)
    write_csv(leans, out_leans)
    write_csv(categories or [{"space": None, "comparison": None, "category": None}], out_categories)
    write_csv(points or [{"space": None, "map": None, "image_id": None}], out_points)
    write_page(
        name,
        audit,
        generator,
        {**found, "lacking": built.lacking},
        grid=grid,
        leans=leans,
        categories=categories,
        points=points,
        folder=images,
        left_out=left_out,
        out_page=out_page,
        out_pictures=out_pictures,
    )
    return found


def _why_not_perceived(audit: Audit, generator: Generator) -> str | None:
    """The demo teacher knows drawn people alone: of other pictures it would say anything."""
    if audit.perceived is None or audit.perceived.annotate.teacher.base_url != "demo":
        return None
    if isinstance(generator, DrawnSource):
        return None
    said = "perceived is left out: the demo teacher reads drawn figures alone; set perceived.annotate.teacher"
    say(f"audit: {said}")
    return said
