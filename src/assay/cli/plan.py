"""assay plan: how many labels the width of an interval needs, and what they would cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from assay.errors import SettingsError

DIFFERENCE = "difference"


def add_plan(commands: Any) -> None:
    """Add `plan` to the command line."""
    plan = commands.add_parser("plan", help="say how many labels an interval of a width needs, and what they cost")
    plan.add_argument("--task", required=True, help="a task whose report stands")
    plan.add_argument(
        "--estimand",
        help="mean, the class, label or band whose share it is, or difference: of the first of these, between posts "
        "with and without --column; default: the first",
    )
    plan.add_argument("--column", default="sponsored", help="what a difference is between; default: sponsored")
    plan.add_argument("--values", nargs=2, default=["true", "false"], help="its two values; default: true false")
    plan.add_argument("--width", type=float, required=True, help="high less low of the 95 %% interval")
    plan.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from assay.scoring.repository import open_estimator

    est = open_estimator(args.task)
    allowed = est.task.all_estimands
    estimand, between = args.estimand or allowed[0], None
    if estimand == DIFFERENCE:
        estimand, between = allowed[0], (args.column, *args.values)
    elif estimand not in allowed:
        raise SettingsError(f"--estimand {estimand}: {args.task} has {', '.join(allowed)}, and {DIFFERENCE}")
    found = est.plan(args.width, estimand=estimand, between=between)
    what = f"difference of {estimand} by {args.column}" if between else estimand
    low, high = found.correlation[1], found.correlation[0]
    print(f"{args.task}, {what}: the interval is {found.width_now:.4g} wide with {found.labels_now:,} labels")
    print(f"labels and predictions correlate at {high:.2f}; planned with {low:.2f}, the low end of its interval")
    if found.labels is None or found.more is None:
        print(f"a width of {args.width:g} is not to be had: not even with a label for each of {est.n:,} posts")
        return
    alone = f"{found.without_student:,}" if found.without_student is not None else f"more than {est.n:,}"
    print(f"a width of {args.width:g} needs {found.labels:,} labels, {found.more:,} more; without the student {alone}")
    labels = pq.read_table(Path("data") / "labels" / f"{args.task}.parquet", columns=["status", "cost_usd"])
    costs = labels.filter(pc.equal(labels["status"], "ok"))["cost_usd"].drop_null()
    if len(costs):
        mean = pc.mean(costs).as_py()
        print(f"at {mean:.6f} US dollars a label, as so far, about {mean * found.more:.2f} US dollars")
    if found.coded_now:
        more = "not to be had by more codes" if found.coded is None else f"{found.coded:,} coded posts"
        print(f"people coded {found.coded_now:,} of these; a width of {args.width:g} of what they would say: {more}")
    print(f"set sample.posts accordingly; `assay answers plan --task {args.task}` then says what the new posts cost")
