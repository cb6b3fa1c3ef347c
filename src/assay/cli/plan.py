"""assay plan: how many labels the width of an interval needs, and what they would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from assay.errors import SettingsError

DIFFERENCE = "difference"


def plan(
    task: Annotated[str, Option(help="A task whose report stands.")],
    width: Annotated[float, Option(help="High less low of the 95 % interval.")],
    estimand: Annotated[
        str | None,
        Option(
            help="mean, the class, label or band whose share it is, or difference: of the first of these, between "
            "posts with and without --column; by default the first."
        ),
    ] = None,
    column: Annotated[str, Option(help="What a difference is between.")] = "sponsored",
    values: Annotated[tuple[str, str], Option(help="Its two values.")] = ("true", "false"),
) -> None:
    """Say how many labels an interval of a width needs, and what they cost."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from assay.scoring.repository import open_estimator

    est = open_estimator(task)
    allowed = est.task.all_estimands
    estimand, between = estimand or allowed[0], None
    if estimand == DIFFERENCE:
        estimand, between = allowed[0], (column, *values)
    elif estimand not in allowed:
        raise SettingsError(f"--estimand {estimand}: {task} has {', '.join(allowed)}, and {DIFFERENCE}")
    found = est.plan(width, estimand=estimand, between=between)
    what = f"difference of {estimand} by {column}" if between else estimand
    low, high = found.correlation[1], found.correlation[0]
    print(f"{task}, {what}: the interval is {found.width_now:.4g} wide with {found.labels_now:,} labels")
    print(f"labels and predictions correlate at {high:.2f}; planned with {low:.2f}, the low end of its interval")
    if found.labels is None or found.more is None:
        print(f"a width of {width:g} is not to be had: not even with a label for each of {est.n:,} posts")
        return
    alone = f"{found.without_student:,}" if found.without_student is not None else f"more than {est.n:,}"
    print(f"a width of {width:g} needs {found.labels:,} labels, {found.more:,} more; without the student {alone}")
    labels = pq.read_table(Path("data") / "labels" / f"{task}.parquet", columns=["status", "cost_usd"])
    costs = labels.filter(pc.equal(labels["status"], "ok"))["cost_usd"].drop_null()
    if len(costs):
        mean = pc.mean(costs).as_py()
        print(f"at {mean:.6f} US dollars a label, as so far, about {mean * found.more:.2f} US dollars")
    if found.coded_now:
        more = "not to be had by more codes" if found.coded is None else f"{found.coded:,} coded posts"
        print(f"people coded {found.coded_now:,} of these; a width of {width:g} of what they would say: {more}")
    print(f"set sample.posts accordingly; `assay answers plan --task {task}` then says what the new posts cost")
