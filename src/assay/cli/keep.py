"""assay keep: a trained student, put where students of other tasks may start from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from typer import Option

from assay.errors import SettingsError
from assay.places import start_folder
from assay.progress import say


def keep(
    task: Annotated[str, Option(help="The task, or joint student, whose model is kept.")],
    name: Annotated[str | None, Option(help="What it is called below starts/; by default the task's name.")] = None,
) -> None:
    """Keep a trained student for students of few labels to start from (train.start_from).

    Writes starts/NAME from models/TASK. A task with a few dozen labels of its own then sees what that student says,
    beside the features: tasks.OTHER.train.start_from: NAME.
    """
    from assay.student.start import keep_start
    from assay.student.trained import load_trained, start_of

    name = name or task
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise SettingsError(f"--name {name}: a name of letters, digits, _ and -")
    trained = load_trained(Path("models") / task)
    folder = start_folder(name)
    there = folder.is_dir()
    keep_start(start_of(trained), trained.encoders, folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    if there:
        say(f"keep: {folder} was there; tasks that start from it are trained again")
    say(f"keep: {folder}, {size:.1f} MiB; to start from it: dvc exp run -S +tasks.TASK.train.start_from={name}")
