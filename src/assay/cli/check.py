"""assay check: what is wrong with params.yaml, and with what was made by it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from assay import config
from assay.config import Params, Task
from assay.errors import DataError, SettingsError
from assay.posts import count
from assay.progress import say


def add_check(commands: Any) -> None:
    """Add `check` to the command line."""
    check = commands.add_parser("check", help="check params.yaml and say what is wrong with it")
    check.add_argument("--params", default="params.yaml")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> None:
    params = config.load(args.params)
    root = Path(args.params).parent
    for name in params.corpora:
        manifest = root / "data" / "manifest" / f"{name}.json"
        if params.corpora[name].kind != "demo" and name not in params.scan and not manifest.exists():
            raise SettingsError(f"corpora.{name}: it has no manifest yet; add {name} to scan, so that it gets one")
    for line in stale_samples(params, root):
        say(line)
    counts = ", ".join(f"{len(getattr(params, name))} {name}" for name in ("corpora", "tasks", "students", "audits"))
    say(f"{args.params} is in order: {counts}")


def stale_samples(params: Params, root: Path) -> Iterator[str]:
    """A line for each sample whose rows are not as many as its settings ask for.

    Earlier versions had `sample.size`, whose changes DVC's run cache does not see: it brought the old
    sample back and wrote the new number into dvc.lock.
    """
    for name, task in params.tasks.items():
        sample, posts = root / "data" / "sample" / name, root / "data" / "corpora" / task.corpus / "posts"
        try:
            there, frame = count(sample), count(posts)
        except (DataError, OSError):
            continue  # not made yet
        wanted = frame if task.sample.design == "all" else min(task.sample.posts, frame)
        if there == wanted:
            continue
        said = f"tasks.{name}.sample: {sample} has {there} posts, the settings ask for {wanted} of {frame}; "
        if _is_locked(root, name, task):
            yield said + f"DVC takes it for up to date, so run `dvc repro --force sample@{name}`, then `dvc repro`"
        else:
            yield said + "`dvc repro` draws it anew"


def _is_locked(root: Path, name: str, task: Task) -> bool:
    """Whether dvc.lock says that the sample was drawn by the settings of today."""
    try:
        stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        known = stages[f"sample@{name}"]["params"]["params.yaml"][f"tasks.{name}.sample"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    wanted = task.sample.posts
    return isinstance(known, dict) and wanted in (known.get("posts"), known.get("size"))
