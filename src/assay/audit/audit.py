"""Images -> figures, tables, pictures and the page of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.audit.findings import categories_table, findings, leans_table, rounded
from assay.audit.measures import Measures
from assay.audit.page import write_page
from assay.audit.perceived import perceived
from assay.audit.projection import maps
from assay.audit.spaces import build, read_grid
from assay.config import Audit, Generator
from assay.measure.plots import write_csv
from assay.posts import write_json
from assay.student.fit import seed_everything


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
) -> dict[str, Any]:
    """Write audit.json, leans of activities, results by category, maps, pictures and page; returns audit.json.

    DataError when too few activities have an image of every group; TeacherError when the perceived bands
    cannot be labelled.
    """
    seed_everything(audit.statistics.seed)
    grid = read_grid(images, audit.groups)
    spaces, lacking = build(audit, images, grid)
    measured = [Measures(space, audit.statistics) for space in spaces]
    found = findings(audit, grid, measured, lacking)
    if audit.perceived is not None:
        found["perceived"] = perceived(audit, images, grid, spaces, rubrics, name=name)
    found = rounded(found)
    categories = categories_table(found)
    leans = leans_table(audit, grid, measured)
    points = maps(grid, spaces, audit.pictures, audit.statistics.seed)
    write_csv(points or [{"space": None, "map": None, "image_id": None}], out_points)
    write_page(
        name,
        audit,
        generator,
        found | {"lacking": lacking},
        grid=grid,
        leans=leans,
        categories=categories,
        points=points,
        folder=images,
        out_page=out_page,
        out_pictures=out_pictures,
    )
    write_csv(leans, out_leans)
    write_csv(categories or [{"space": None, "comparison": None, "category": None}], out_categories)
    write_json(found, out_metrics)
    return dict(found)
