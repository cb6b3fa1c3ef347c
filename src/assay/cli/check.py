"""assay check and assay settings: what params.yaml may have, and what is wrong with it and with what was made by it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from assay import config
from assay.cli import world
from assay.config import Params
from assay.errors import DataError, SettingsError
from assay.posts import count
from assay.progress import say


def settings(
    key: Annotated[str, Argument(help="A setting, such as train.lr, or all below: tasks.sample.")] = "",
    params: Annotated[Path, Option(help="The settings that are to be shown beside it.")] = Path("params.yaml"),
    markdown: Annotated[bool, Option("--markdown", help="The whole manual, as docs/settings.md has it.")] = False,
) -> None:
    """Say what a setting is for, what it may be, and what it is here."""
    from assay.config.manual import as_markdown, as_text, find, now

    if markdown:
        print(as_markdown(), end="")
        return
    here = config.load(params).model_dump(by_alias=True, mode="json") if params.exists() else {}
    for one in find(key):
        print(as_text(one, now(one, key, here)))


def check(
    file: Annotated[Path, Option("--params", help="The settings to check.")] = Path("params.yaml"),
    online: Annotated[bool, Option("--online", help="Also ask the teachers' servers which models they have.")] = False,
) -> None:
    """Check params.yaml and what it names: rubrics, corpora, columns, encoders, keys, room."""
    params = config.load(file)
    root = file.parent
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
    wrong = [*world.faults(params, root), *(world.online(params) if online else ())]
    for line in (*wrong, *world.warnings(params), *stale_samples(params, root)):
        say(line)
    if wrong:
        raise SettingsError(f"{file}: {len(wrong)} thing(s) that it names are not as it says; see above")
    counts = ", ".join(f"{len(getattr(params, name))} {name}" for name in ("corpora", "tasks", "students", "audits"))
    say(f"{file} is in order: {counts}")


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
