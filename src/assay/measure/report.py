"""What is written of a task at its end: tables, one self-contained HTML page, a data sheet and a model card."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import Params
from assay.measure import charts
from assay.measure.charts import Chart
from assay.measure.csvfile import read_csv, write_csv
from assay.measure.estimate import LEAST_EFFECTIVE
from assay.measure.estimator import read_estimator
from assay.measure.facts import failures, of_labels, of_posts, settings_of, versions
from assay.measure.findings import brand_table, findings
from assay.measure.found import Findings, Interval
from assay.measure.groups import BRAND_GROUP, as_csv, by_brand, group_table, unknown_brands, with_brand_groups
from assay.measure.metrics import UNKNOWN
from assay.measure.pages import template, with_contents, write_text
from assay.measure.palette import colour_table, pictures_of
from assay.measure.ranking import Ranking
from assay.measure.slices import UNKNOWN as NOT_KNOWN
from assay.measure.words import plain
from assay.targets import NUMBER, Target

COLUMNS = ("post_id", "brands", "colours", "author", "created_at", "sponsored", "language")
AGAIN = "teacher asked again"  # how well its second answers predict the first; a student can be better
MOST_SHOWN = 40  # rows of a chart


@dataclass(frozen=True)
class Sources:
    """What a report is made from; `posts` (COLUMNS of the corpus) stands row by row beside `predictions`."""

    posts: pa.Table
    predictions: pa.Table
    problems: Path
    labels: Path
    people: Path | None
    split: Path
    sample: Path
    evaluated: dict[str, Any]  # the content of evaluate.json
    errors: Path
    curves: Path
    plots: Path
    veil: Callable[[str, bytes | None], tuple[str, bytes | None]] | None = None  # over the posts that the page shows


def report(
    name: str,
    params: Params,
    sources: Sources,
    *,
    stage: str,
    brands: Path,
    groups: Path,
    colours: Path,
    page: Path,
    sheets: Path,
) -> Findings:
    """Write the tables of brands, groups and colours, the page of a task, and its data sheet and model card (Markdown,
    into the folder `sheets`); returns the content of findings.json. `stage` is what makes them, as DVC calls it.
    """
    task = params.tasks[name]
    target, least, predictions = task.target, task.report.min_posts, sources.predictions
    together = task.report.brand_groups
    est = read_estimator(
        with_brand_groups(sources.posts, together),
        predictions,
        labels=sources.labels,
        people=sources.people,
        split=sources.split,
        sample=sources.sample,
        task=target,
        target=task.report.target,
    )
    table, rankings = brand_table(est, sources.posts, min_posts=least)
    by = group_table(est, list(dict.fromkeys([*([BRAND_GROUP] if together else []), *task.report.by])), min_posts=least)
    found = findings(est, predictions, table, rankings, min_posts=least, groups=by)
    if together and (unknown := unknown_brands(sources.posts, together)):
        found["notes"] = [f"report.brand_groups: no post names {', '.join(unknown)}"]
    seen = colour_table(est, pictures_of(sources.posts, sources.sample), min_posts=least)
    write_csv(table or [{"brand": None, "posts": None}], brands)
    write_csv(as_csv(by) or [{"by": None, "name": None}], groups)
    write_csv(seen, colours)
    facts = {"posts": of_posts(sources.posts, sources.problems), "labels": of_labels(sources.labels)}
    told = {
        "name": name,
        "task": task,
        "found": found,
        "facts": facts,
        "settings": settings_of(name, params),
        "stage": stage,
        "versions": versions(),
        "evaluated": sources.evaluated,
        "headline": target.headline,
        "figures": _figures(sources.evaluated),
        "is_demo": task.annotate.source != "column" and task.annotate.teacher.base_url == "demo",
    }
    page_text = template("report.html").render(
        **told,
        least=LEAST_EFFECTIVE,
        brands=table,
        by_brand=by_brand(by, target.estimands[0]),
        colours=seen,
        pictures=_pictures(target, est.said, sources) | _charts(found, rankings, target),
        worst=_worst(sources, task.report.worst),
        failures=failures(facts, predictions),
        slices=_slices(sources.evaluated),
    )
    write_text(with_contents(page_text), page)
    for sheet in ("datasheet.md", "model_card.md"):
        write_text(template(sheet).render(**told), sheets / sheet)
    return found


def _charts(found: Findings, rankings: dict[str, Ranking], target: Target) -> dict[str, Chart]:
    """Dots with intervals: the brands in order, and the figure by each column that the corpus has."""
    drawn, main = {}, target.estimands[0]
    if len(rankings[main].names) > 1:
        rows = rankings[main].rows()[:MOST_SHOWN]
        drawn["brands"] = charts.dots(rows, title=f"{main} by brand, simultaneous 95 % intervals")
    for column, by in found["by"].items():
        known = [row for row in by[main] if row["value"] is not None][-MOST_SHOWN:]
        if len(known) > 1:
            drawn[f"by_{column}"] = charts.dots(known, title=f"{main} by {column}, 95 % intervals")
    return drawn


def _slices(evaluated: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The slices of each column that tells posts apart."""
    by: dict[str, dict[str, Any]] = evaluated.get("slices", {}).get("by", {})
    told = {c: [name for name, one in rows.items() if "value" in one and name != NOT_KNOWN] for c, rows in by.items()}
    return {column: rows for column, rows in by.items() if told[column]}


def _figures(evaluated: dict[str, Any]) -> list[tuple[str, dict[str, Interval]]]:
    """(metric, {student, the teacher asked again where it was, baselines: figure}) for the table of figures."""
    ceiling = evaluated.get("noise_ceiling", {})
    names = [n for n, f in evaluated.items() if isinstance(f, dict) and set(f) == {"value", "low", "high"}]
    return [
        (
            n,
            {"student": evaluated[n]}
            | ({AGAIN: ceiling.get(n, UNKNOWN.rounded())} if ceiling else {})
            | {b: figures[n] for b, figures in evaluated["baselines"].items()},
        )
        for n in names
    ]


def _pictures(target: Target, values: list[Any], sources: Sources) -> dict[str, Chart]:
    main = target.headline
    bars = target.histogram(values)
    figures = dict(_figures(sources.evaluated))[main]
    return {
        "distribution": charts.distribution(bars, title="Predictions over the corpus", edges=target.edges),
        "comparison": charts.comparison(
            figures,
            title=f"{plain(main).capitalize()}: student and baselines, 95 % intervals",
            higher_is_better=target.is_higher_better(main),
        ),
        "against": charts.against_teacher(read_csv(sources.plots / "predicted.csv"), scores=target.shape == NUMBER),
        "calibration": charts.calibration(read_csv(sources.plots / "calibration.csv")),
        "roc": charts.ranked(
            read_csv(sources.plots / "roc.csv"), "false_positive_rate", "true_positive_rate", title="ROC curves"
        ),
        "precision_recall": charts.ranked(
            read_csv(sources.plots / "precision_recall.csv"), "recall", "precision", title="Precision and recall"
        ),
        "curves": charts.curves(_curve(sources.curves / "train_loss.tsv"), _curve(sources.curves / "val_loss.tsv")),
    }


def _curve(path: Path) -> list[tuple[int, float]]:
    lines = path.read_text().splitlines()
    names = lines[0].split("\t")
    step, value = names.index("step"), len(names) - 1
    return [(int(cells[step]), float(cells[value])) for cells in (line.split("\t") for line in lines[1:])]


def _worst(sources: Sources, count: int) -> list[dict[str, Any]]:
    """The test posts with the largest errors, with a thumbnail of the first image."""
    rows = pq.read_table(sources.errors).slice(0, count).to_pylist()
    wanted = {row["post_id"]: row for row in rows}
    for path in sorted(sources.sample.glob("part-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=128, columns=["post_id", "text", "images"]):
            for post in batch.to_pylist():
                if post["post_id"] in wanted:
                    images = post["images"]
                    text, image = post["text"], images[0] if images else None
                    if sources.veil is not None:
                        text, image = sources.veil(text, image)
                    wanted[post["post_id"]] |= {
                        "text": text,
                        "image": _data_url(image) if image else None,
                        "images": len(images),
                    }
    return list(wanted.values())


def _data_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
