"""One self-contained HTML page about a task: what the corpus says, how good the student is, what failed."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import Task
from assay.measure import plots
from assay.measure.csvfile import read_csv, write_csv
from assay.measure.estimate import LEAST_EFFECTIVE
from assay.measure.estimator import read_estimator
from assay.measure.findings import brand_table, findings
from assay.measure.palette import colour_table, pictures_of
from assay.measure.ranking import Ranking
from assay.targets import NUMBER, Target

COLUMNS = ("post_id", "brands", "colours", "author", "created_at", "sponsored", "language")
AGAIN = "teacher asked again"  # how well its second answers predict the first; a student can be better
MOST_SHOWN = 40  # rows of a chart
UNKNOWN = {"value": None, "low": None, "high": None}


@dataclass(frozen=True)
class Sources:
    """What a report is made from; `posts` (COLUMNS of the corpus) stands row by row beside `predictions`."""

    posts: pa.Table
    predictions: pa.Table
    problems: Path
    labels: Path
    split: Path
    sample: Path
    evaluated: dict[str, Any]  # the content of evaluate.json
    errors: Path
    curves: Path
    plots: Path


def report(
    name: str, task: Task, sources: Sources, *, out_brands: Path, out_colours: Path, out_page: Path
) -> dict[str, Any]:
    """Write brands.csv, colours.csv and the page of a task; returns the content of findings.json."""
    target, least, predictions = task.target, task.report.min_posts, sources.predictions
    values = predictions["value"].to_pylist()
    est = read_estimator(
        sources.posts,
        predictions,
        labels=sources.labels,
        split=sources.split,
        sample=sources.sample,
        task=target,
        target=task.report.target,
    )
    brands, rankings = brand_table(est, sources.posts, min_posts=least)
    found = findings(est, predictions, brands, rankings, min_posts=least, by=task.report.by)
    write_csv(brands or [{"brand": None, "posts": None}], out_brands)
    colours = colour_table(est, pictures_of(sources.posts, sources.sample), min_posts=least)
    write_csv(colours, out_colours)
    page = _template().render(
        name=name,
        task=task,
        found=found,
        least=LEAST_EFFECTIVE,
        brands=brands,
        colours=colours,
        rates=success_rates(sources.labels, predictions),
        evaluated=sources.evaluated,
        headline=target.headline,
        figures=_figures(sources.evaluated),
        pictures=_pictures(target, values, sources) | _charts(found, rankings, target),
        worst=_worst(sources.errors, sources.sample, task.report.worst),
        failures=_failures(sources.problems, sources.labels, predictions),
    )
    out_page.parent.mkdir(parents=True, exist_ok=True)
    out_page.write_text(page, encoding="utf-8")
    return found


def success_rates(labels: Path, predictions: pa.Table) -> dict[str, tuple[int, int]]:
    """(succeeded, asked) of labelling and of inference."""
    labelled = pq.read_table(labels, columns=["status"])["status"].to_pylist()
    scored = predictions["status"].to_pylist()
    return {
        "labelled": (labelled.count("ok"), len(labelled)),
        "scored": (len(scored) - scored.count("failed"), len(scored)),
    }


def _charts(found: dict[str, Any], rankings: dict[str, Ranking], target: Target) -> dict[str, str]:
    """Dots with intervals: the brands in order, and the figure by each column that the corpus has."""
    charts, main = {}, target.estimands[0]
    if len(rankings[main].names) > 1:
        rows = rankings[main].rows()[:MOST_SHOWN]
        charts["brands"] = plots.dots(rows, title=f"{main} by brand, simultaneous 95 % intervals")
    for column, by in found["by"].items():
        rows = [row for row in by[main] if row["value"] is not None][-MOST_SHOWN:]
        if len(rows) > 1:
            charts[f"by_{column}"] = plots.dots(rows, title=f"{main} by {column}, 95 % intervals")
    return charts


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html")


def _figures(evaluated: dict[str, Any]) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(metric, {student, the teacher asked again where it was, baselines: figure}) for the table of figures."""
    ceiling = evaluated.get("noise_ceiling", {})
    names = [n for n, f in evaluated.items() if isinstance(f, dict) and set(f) == {"value", "low", "high"}]
    return [
        (
            n,
            {"student": evaluated[n]}
            | ({AGAIN: ceiling.get(n, UNKNOWN)} if ceiling else {})
            | {b: figures[n] for b, figures in evaluated["baselines"].items()},
        )
        for n in names
    ]


def _pictures(target: Target, values: list[Any], sources: Sources) -> dict[str, str]:
    main = target.headline
    bars = target.histogram([value for value in values if value is not None])
    figures = dict(_figures(sources.evaluated))[main]
    return {
        "distribution": plots.distribution(bars, title="Predictions over the corpus", edges=target.edges),
        "comparison": plots.comparison(
            figures,
            title=f"{main}: student and baselines, 95 % intervals",
            higher_is_better=target.is_higher_better(main),
        ),
        "against": plots.against_teacher(read_csv(sources.plots / "predicted.csv"), scores=target.shape == NUMBER),
        "calibration": plots.calibration(read_csv(sources.plots / "calibration.csv")),
        "curves": plots.curves(_curve(sources.curves / "train_loss.tsv"), _curve(sources.curves / "val_loss.tsv")),
    }


def _curve(path: Path) -> list[tuple[int, float]]:
    lines = path.read_text().splitlines()
    names = lines[0].split("\t")
    step, value = names.index("step"), len(names) - 1
    return [(int(cells[step]), float(cells[value])) for cells in (line.split("\t") for line in lines[1:])]


def _worst(errors: Path, sample: Path, count: int) -> list[dict[str, Any]]:
    """The test posts with the largest errors, with a thumbnail of the first image."""
    rows = pq.read_table(errors).slice(0, count).to_pylist()
    wanted = {row["post_id"]: row for row in rows}
    for path in sorted(sample.glob("part-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=128, columns=["post_id", "text", "images"]):
            for post in batch.to_pylist():
                if post["post_id"] in wanted:
                    images = post["images"]
                    wanted[post["post_id"]] |= {
                        "text": post["text"],
                        "image": _data_url(images[0]) if images else None,
                        "images": len(images),
                    }
    return list(wanted.values())


def _data_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _failures(problems: Path, labels: Path, predictions: pa.Table) -> list[dict[str, Any]]:
    """What failed in which stage, why, and how often."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in pq.read_table(problems, columns=["stage", "severity", "code"]).to_pylist():
        counts[row["stage"], row["severity"], row["code"]] += 1
    for row in pq.read_table(labels, columns=["status", "reason"]).to_pylist():
        if row["status"] != "ok":
            counts["annotate", "failed", str(row["reason"]).split(":")[0]] += 1
    for status, reason in zip(predictions["status"].to_pylist(), predictions["reason"].to_pylist(), strict=True):
        if reason:
            counts["infer", status, reason.split(":")[0]] += 1
    return [
        {"stage": stage, "severity": severity, "code": code, "count": n}
        for (stage, severity, code), n in sorted(counts.items())
    ]
