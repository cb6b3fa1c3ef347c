"""assay keep: a trained student, put where students of other tasks may start from it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from assay.errors import SettingsError
from assay.places import start_folder
from assay.progress import say


def add_keep(commands: Any) -> None:
    """Add `keep` to the command line."""
    keep = commands.add_parser(
        "keep",
        help="keep a trained student for students of few labels to start from (train.start_from)",
        description="Writes starts/NAME from models/TASK. A task with a few dozen labels of its own then sees what "
        "that student says, beside the features: tasks.<other>.train.start_from: NAME.",
    )
    keep.add_argument("--task", required=True, help="the task, or joint student, whose model is kept")
    keep.add_argument("--name", help="what it is called below starts/; default: the task's name")
    keep.set_defaults(run=_keep)


def _keep(args: argparse.Namespace) -> None:
    from assay.student.start import keep_start
    from assay.student.trained import load_trained, start_of

    name = args.name or args.task
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise SettingsError(f"--name {name}: a name of letters, digits, _ and -")
    trained = load_trained(Path("models") / args.task)
    folder = start_folder(name)
    there = folder.is_dir()
    keep_start(start_of(trained), trained.encoders, folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    if there:
        say(f"keep: {folder} was there; tasks that start from it are trained again")
    say(f"keep: {folder}, {size:.1f} MiB; to start from it: dvc exp run -S +tasks.TASK.train.start_from={name}")
