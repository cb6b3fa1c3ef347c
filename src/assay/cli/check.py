"""assay check and assay settings: what params.yaml may have, and what is wrong with it and with what was made by it."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay import config
from assay.cli import world
from assay.config import Params
from assay.errors import DataError, SettingsError
from assay.posts import count
from assay.progress import say


def add_check(commands: Any) -> None:
    """Add `check` to the command line."""
    check = commands.add_parser(
        "check", help="check params.yaml and what it names: rubrics, corpora, columns, encoders, keys, room"
    )
    check.add_argument("--params", default="params.yaml")
    check.add_argument("--online", action="store_true", help="also ask the teachers' servers which models they have")
    check.set_defaults(run=_check)

    settings = commands.add_parser("settings", help="what a setting is for, what it may be, and what it is here")
    settings.add_argument("key", nargs="?", default="", help="a setting, such as train.lr, or all below: tasks.sample")
    settings.add_argument("--params", type=Path, default=Path("params.yaml"))
    settings.add_argument("--markdown", action="store_true", help="the whole manual, as docs/settings.md has it")
    settings.set_defaults(run=_settings)


def _settings(args: argparse.Namespace) -> None:
    from assay.config.manual import as_markdown, as_text, find, now

    if args.markdown:
        print(as_markdown(), end="")
        return
    here = config.load(args.params).model_dump(by_alias=True, mode="json") if args.params.exists() else {}
    for one in find(args.key):
        print(as_text(one, now(one, args.key, here)))


def _check(args: argparse.Namespace) -> None:
    params = config.load(args.params)
    root = Path(args.params).parent
    for name in params.corpora:
        manifest = root / "data" / "manifest" / f"{name}.json"
        if params.corpora[name].kind != "demo" and name not in params.scan and not manifest.exists():
            raise SettingsError(f"corpora.{name}: it has no manifest yet; add {name} to scan, so that it gets one")
    git = shutil.which("git")
    if git and (root / ".git").exists():
        head = subprocess.run(
            [git, "rev-parse", "--verify", "--quiet", "HEAD"], cwd=root, capture_output=True, check=False
        )
        if head.returncode:
            raise SettingsError(
                "git has no commit yet, which DVC's curves and experiments need: git add -A, git commit"
            )
    wrong = [*world.faults(params, root), *(world.online(params) if args.online else ())]
    for line in (*wrong, *world.warnings(params), *stale_samples(params, root)):
        say(line)
    if wrong:
        raise SettingsError(f"{args.params}: {len(wrong)} thing(s) that it names are not as it says; see above")
    counts = ", ".join(f"{len(getattr(params, name))} {name}" for name in ("corpora", "tasks", "students", "audits"))
    say(f"{args.params} is in order: {counts}")


def stale_samples(params: Params, root: Path) -> Iterator[str]:
    """A line for each sample whose rows are not as many as its settings ask for."""
    for name, task in params.tasks.items():
        sample, posts = root / "data" / "sample" / name, root / "data" / "corpora" / task.corpus / "posts"
        try:
            there, frame = count(sample), count(posts)
        except (DataError, OSError):
            continue  # not made yet
        wanted = frame if task.sample.design == "all" else min(task.sample.posts, frame)
        if there == wanted:
            continue
        yield (
            f"tasks.{name}.sample: {sample} has {there} posts, the settings ask for {wanted} of {frame}; "
            "`dvc repro` draws it anew"
        )
