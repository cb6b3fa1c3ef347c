"""The model card that stands in every model folder."""

from __future__ import annotations

from assay.config import ScoreTarget, Task
from assay.student.model import Trained


def write_card(trained: Trained, task: Task) -> str:
    """Markdown: what the student predicts, from what, how it was made, and what it is not for."""
    target, training = trained.target, trained.training
    if isinstance(target, ScoreTarget):
        predicts = f"a score from {target.min:g} to {target.max:g}"
    else:
        predicts = f"one of the classes {', '.join(target.names)}"
    labels = (
        f"the gold column `{task.annotate.column}` of corpus `{task.corpus}`"
        if task.annotate.source == "column"
        else f"the teacher `{task.annotate.teacher.model}` with the rubric of the task"
    )
    encoders = "\n".join(
        f"- {name}: `{getattr(trained.student, name).encoder}`, frozen, {facts['dim']} features, "
        f"identity `{facts['identity'][:16]}`"
        for name, facts in trained.encoders.items()
    )
    posts = ", ".join(f"{name} {n}" for name, n in training["posts"].items())
    calibration = ", ".join(f"{name} {value:g}" for name, value in trained.calibration.items())
    return f"""# Student `{trained.task}`

Predicts {predicts} for a post of image and text, as {labels} would.

## Made from
{encoders}
- fusion: {trained.student.fusion.kind}; head: {trained.student.head.hidden}, dropout {trained.student.head.dropout:g}
- posts: {posts}
- best epoch {training["best_epoch"]} of {training["epochs"]} (ended by {training["stopped"]})
- calibration: {calibration}

## How good it is
See `metrics/{trained.task}/evaluate.json`: every figure there has its interval and stands beside its baselines.

## Use and limits
It measures the rubric as the labels express it, in posts like those of corpus `{task.corpus}`. It is made for
figures over many posts; a single prediction may be far off. It is not made to judge persons, and its errors on other
platforms, languages and times are unknown until they are measured. A post without text or without a picture is scored
from what it has, and says so in its status.
"""
