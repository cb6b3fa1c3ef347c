"""The Estimator of a task whose pipeline has run, from the tables in data/."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from assay import config
from assay.errors import DataError, SettingsError
from assay.measure.estimate import Of
from assay.measure.estimator import Estimator, read_estimator
from assay.measure.groups import with_brand_groups
from assay.posts import beside, gold_names, read, shards

PREDICTED = ["post_id", "status", "value", "probabilities", "by_student", "fold", "in_train"]
KEPT_OUT = ("text", "images", "text_sig", "image_sig", "colours", "hashtags", "mentions")


class Answered(NamedTuple):
    """What stands in a repository of a task and the student that answers it: its own, or a joint one."""

    predictions: str
    labels: str
    split: str
    errors: str
    report: str  # the stage


def answered(task: str, joint: str | None = None) -> Answered:
    """Where it stands, from the repository's root; `joint`: the joint student's name."""
    if joint is None:
        return Answered(
            f"data/predictions/{task}",
            f"data/labels/{task}.parquet",
            f"data/split/{task}.parquet",
            f"metrics/{task}/errors.parquet",
            f"report@{task}",
        )
    return Answered(
        f"data/predictions/{joint}/{task}",
        f"data/joint/{joint}/labels/{task}.parquet",
        f"data/joint/{joint}/split.parquet",
        f"metrics/joint/{joint}/errors/{task}.parquet",
        f"joint_report@{joint}",
    )


def open_estimator(task: str, root: Path = Path(), *, joint: str | None = None, target: Of | None = None) -> Estimator:
    """The Estimator over a task's predictions and labels, by all columns of its posts but texts and pictures.

    `root` is the repository, `joint` the joint student whose predictions are meant (default: the task's own),
    `target` whom figures are about (default: as params say). SettingsError for an unknown task, DataError where the
    pipeline has not come so far.
    """
    params = config.load(root / "params.yaml")
    if task not in params.tasks:
        raise SettingsError(f"no task {task!r}; allowed: {', '.join(params.tasks)}")
    own, data, at = params.tasks[task], root / "data", answered(task, joint)
    places = [root / place for place in (at.predictions, at.labels, at.split)]
    posts, sample = data / "corpora" / own.corpus / "posts", data / "sample" / task
    for place in (*places, posts, sample):
        if not place.exists():
            raise DataError(f"{place} is not there yet; run `dvc repro {at.report}`, or `dvc pull` it")
    schema = pq.read_schema(shards(posts)[0])
    columns = [name for name in schema.names if name not in (*KEPT_OUT, *(f"gold_{one}" for one in gold_names(schema)))]
    lacking = set(PREDICTED) - set(pq.read_schema(shards(places[0])[0]).names)
    if lacking:
        raise DataError(f"{places[0]} has no column {sorted(lacking)[0]}: an earlier version wrote it; infer again")
    predictions = read(places[0], PREDICTED)
    return read_estimator(
        with_brand_groups(beside(predictions, read(posts, columns)), own.report.brand_groups),
        predictions,
        labels=places[1],
        people=people if (people := data / "people" / f"{task}.parquet").exists() else None,
        split=places[2],
        sample=sample,
        task=own.target,
        target=target or own.report.target,
    )
