"""Two revisions of a task, post by post: is the student better, and did the findings move?"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from assay.errors import DataError, SettingsError
from assay.measure.agreement import agreement
from assay.measure.found import Changed, Compared, Labels
from assay.measure.judged import read_judged
from assay.measure.moved import moved
from assay.measure.paired import LEAST_SEEDS, MARGIN, pair_up, verdicts
from assay.posts import read, shards
from assay.scoring.repository import open_estimator
from assay.scoring.revisions import WORKSPACE, Revision, opened, parted, stale

QUESTION: tuple[Literal["rubric", "teacher", "corpus"], ...] = ("rubric", "teacher", "corpus")  # what a question is of
CONTENT = ["post_id", "text", "images", "image_sig"]
SCOPES = {
    True: "the recipes: the luck of their seeds counts",
    False: f"these two fits alone; with `train.seeds` ({LEAST_SEEDS} or more on both sides) it would be on the recipes",
}


def compare(a: str, b: str, task: str, *, root: Path = Path(), margin: float = MARGIN) -> Compared:
    """What `assay compare` tells: see docs/validity.md.

    `question` is null, or says why the two do not answer the same one, and then no metric has a verdict. `changed` has
    settings, rubric, teacher, corpus and code; `metrics` is `paired.verdicts`; `findings` and `brands` are
    `moved.moved`; `notes` says what could not be told, and why.
    """
    if not 0 < margin < 1:
        raise SettingsError(f"--margin {margin:g} must be above 0 and below 1: a share of what a metric can span")
    with opened(a, task, root) as first, opened(b, task, root) as second:
        told, labels = changed(first, second), _labels(first, second)
        found = Compared(
            task=task,
            a=a,
            b=b,
            question=_other_question(first, second, told, labels["other"]),
            changed=told,
            labels=labels,
            notes=[],
            metrics=[],
            judged=None,
            scope=None,
            findings=[],
            brands=[],
        )
        for name in dict.fromkeys((a, b)):
            rev, joint = parted(name)
            if rev == WORKSPACE and (why := stale(task, joint, root)):
                found["notes"].append(f"{name}: {why}")
        _put_metrics(first, second, margin, found)
        _put_findings(first, second, found)
    return found


# ---------------------------------------------------------------------------------------- what changed


def changed(a: Revision, b: Revision) -> Changed:
    """What differs in settings (of the task, its student and its corpus), rubric, teacher, corpus and code."""
    one, other = _settings(a), _settings(b)
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    codes = a.code(), b.code()
    return {
        "settings": [{"key": key, "a": one.get(key), "b": other.get(key)} for key in keys],
        "rubric": a.rubric() != b.rubric(),
        "teacher": _teacher(a) != _teacher(b),
        "corpus": not _same_posts(a.posts, b.posts),
        "code": sorted(stage for stage in set(codes[0]) & set(codes[1]) if codes[0][stage] != codes[1][stage]),
    }


def _same_posts(a: Path, b: Path) -> bool:
    """Whether two post tables hold the same posts in the same order; files that are alike need no reading."""
    ours, theirs = shards(a), shards(b)
    if [path.name for path in ours] == [path.name for path in theirs] and all(
        filecmp.cmp(one.resolve(), other.resolve(), shallow=False) for one, other in zip(ours, theirs, strict=True)
    ):
        return True
    return bool(read(a, CONTENT).equals(read(b, CONTENT)))


def _settings(revision: Revision) -> dict[str, Any]:
    task, params = revision.task, revision.params
    parts = {
        f"tasks.{revision.task_name}": task,
        f"students.{task.student}": params.students[task.student],
        f"corpora.{task.corpus}": params.corpora[task.corpus],
    }
    whole = {name: part.model_dump(by_alias=True, mode="json") for name, part in parts.items()}
    if revision.joint:  # which learns and is split as its first task says
        first = params.tasks[params.joint[revision.joint][0]].model_dump(by_alias=True, mode="json")
        whole[f"tasks.{revision.task_name}"] |= {"train": first["train"], "split": first["split"]}
    found = {key: value for name, part in whole.items() for key, value in _flat(name, part)}
    return found | {"answered by": f"joint.{revision.joint}" if revision.joint else f"tasks.{revision.task_name}"}


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]
    return [(name, value)]


def _teacher(revision: Revision) -> tuple[Any, ...]:
    """Who rates: a server's model, or a column."""
    own = revision.task.annotate
    return (own.source, own.column) if own.source == "column" else (own.source, own.teacher.base_url, own.teacher.model)


def _other_question(a: Revision, b: Revision, told: Changed, other: int) -> str | None:
    """Why the two do not answer the same question; None where they do."""
    reasons: list[str] = [name for name in QUESTION if told[name]]
    if a.task.target != b.task.target:
        reasons.insert(0, "target")
    if reasons:
        return f"another {' and another '.join(reasons)}"
    return f"{other} posts have another label" if other else None


# ------------------------------------------------------------------------------------------ parts


def _labels(a: Revision, b: Revision) -> Labels:
    """How many posts are labelled, and how far the labels of those in both agree."""
    known = [
        {row["post_id"]: row["value"] for row in rows if row["status"] == "ok"}
        for rows in (pq.read_table(r.labels, columns=["post_id", "status", "value"]).to_pylist() for r in (a, b))
    ]
    both = [post_id for post_id in known[0] if post_id in known[1]]
    other = sum(known[0][post_id] != known[1][post_id] for post_id in both)
    found: Labels = {"a": len(known[0]), "b": len(known[1]), "both": len(both), "other": other}
    if other and type(a.task.target) is type(b.task.target) and a.task.target.groups == b.task.target.groups:
        one, two = ([side[post_id] for post_id in both] for side in known)
        found["agreement"] = agreement(one, two, a.task.target)
    return found


def _put_metrics(a: Revision, b: Revision, margin: float, found: Compared) -> None:
    """Metrics of both students, and on how many posts they were judged; without verdicts on another question."""
    target = a.task.target
    have = {r.name: [metric.name for metric in r.task.target.metrics] for r in (a, b)}
    for side, other in ((a.name, b.name), (b.name, a.name)):
        found["notes"] += [f"{name}: {side} alone has it" for name in have[side] if name not in have[other]]
    if type(target) is not type(b.task.target) or target.groups != b.task.target.groups:
        return
    try:
        sides = [read_judged(r.errors, r.task.target) for r in (a, b)]
        pair, _ = pair_up(sides[0], sides[1])
    except DataError as error:
        found["notes"].append(f"metrics: {error}")
        return
    found["metrics"] = verdicts(pair, target, margin=margin)
    for row in found["metrics"] if found["question"] else []:
        row["p"], row["verdict"] = None, None
    found["judged"] = {"a": len(sides[0][0]), "b": len(sides[1][0]), "both": len(pair.y)}
    found["scope"] = SCOPES[pair.is_of_recipes]


def _put_findings(a: Revision, b: Revision, found: Compared) -> None:
    """The findings of all posts and of brands, where both are about the same posts."""
    if a.task.report.target != b.task.report.target:
        found["notes"].append("findings: report.target differs; they are about different posts")
        return
    try:
        one, other = (open_estimator(r.task_name, r.root, joint=r.joint) for r in (a, b))
        found["findings"] = moved(one, other)
        if one.groups("brand").names and other.groups("brand").names:
            found["brands"] = moved(one, other, "brand")
    except DataError as error:
        found["notes"].append(f"findings: {error}")
