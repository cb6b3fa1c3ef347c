"""The model card that stands in every model folder."""

from __future__ import annotations

from typing import Any

from assay.config import Task
from assay.student.trained import Trained


def write_card(trained: Trained, tasks: dict[str, Task]) -> str:
    """Markdown: what the student predicts, from what, how it was made, and what it is not for."""
    training, head = trained.training, trained.student.head
    predicts = "\n".join(
        f"- `{name}`: {trained.targets[name].words()}, as {_labels(task)} would" for name, task in tasks.items()
    )
    corpus = next(iter(tasks.values())).corpus
    encoders = "\n".join(
        f"- {name}: `{getattr(trained.student, name).encoder}`, "
        f"{'fine-tuned' if name in trained.student.tuned else 'frozen'}, {facts['dim']} features, "
        f"identity `{facts['identity'][:16]}`"
        for name, facts in trained.encoders.items()
    )
    posts = ", ".join(f"{name} {n}" for name, n in training["posts"].items())
    calibration = "; ".join(
        f"{task}: " + ", ".join(f"{name} {value:g}" for name, value in found.items() if not isinstance(value, dict))
        for task, found in trained.calibration.items()
    )
    return f"""# Student `{trained.name}`

Predicts for a post of image and text:

{predicts}

## Made from
{encoders}
- n-grams beside the text encoder: {_grams(trained)}
- fusion: {trained.student.fusion.kind}; {head.members} head(s): {head.kind} {head.hidden}, dropout {head.dropout:g}
- linear model beside the hidden layers: {_weighed(training)}{_started(trained)}
- posts: {posts}
- best epoch {training["best_epoch"]} of {training["epochs"]} (ended by {training["stopped"]})
- calibration: {calibration}

## How good it is
See `metrics/{trained.name}/evaluate.json`: every figure there has its interval and stands beside its baselines.

## Use and limits
It measures the rubric as the labels express it, in posts like those of corpus `{corpus}`. It is made for
figures over many posts; a single prediction may be far off. It is not made to judge persons, and its errors on other
platforms, languages and times are unknown until they are measured. A post without text or without a picture is scored
from what it has, and says so in its status.
"""


def _grams(trained: Trained) -> str:
    if trained.student.lexical:
        return "yes"
    return "in the linear model" if trained.student.linear and trained.student.text else "no"


def _started(trained: Trained) -> str:
    if trained.start is None:
        return ""
    return f"\n- started from the student of `{trained.start.name}`: the linear model sees what it says"


def _weighed(training: dict[str, Any]) -> str:
    """How much of each task's answer is the linear model's, and by what losses that was chosen."""
    told = [
        f"`{task}` {one['share']:.0%} (loss on held-out posts: hidden layers {one['layers']:.4g}, "
        f"linear {one['linear']:.4g}, both {one['both']:.4g})"
        for task, one in training.get("weighed", {}).items()
    ]
    return "; ".join(told) or "none"


def _labels(task: Task) -> str:
    if task.annotate.source == "column":
        return f"the gold column `{task.annotate.column}` of corpus `{task.corpus}`"
    return f"the teacher `{task.annotate.teacher.model}` with the rubric of the task"
