"""Trials of a search as DVC experiments: params.yaml with their values, and their loss as a metric.

Each is a commit on top of HEAD below refs/exps, where DVC keeps its own: nothing in the workspace or git's index is
touched. `dvc exp show` lists them, `dvc exp apply NAME` takes one over.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.errors import SettingsError

WHO = ("-c", "user.name=assay", "-c", "user.email=assay@localhost")  # where git knows nobody
FLOAT = "tag:yaml.org,2002:float"


def with_values(text: str, task: str, student: str, values: dict[str, Any]) -> str:
    """params.yaml with a task's training changed, and its student as `<student>_for_<task>`; comments stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.representer.add_representer(float, lambda to, value: to.represent_scalar(FLOAT, decimal(value)))
    whole = yaml.load(text)
    name = name_of(student, task)
    section, train = json.loads(json.dumps(whole["students"][student])), whole["tasks"][task].setdefault("train", {})
    change(section, train, values)
    whole["students"][name] = section
    whole["tasks"][task]["student"] = name
    out = io.StringIO()
    yaml.dump(whole, out)
    return out.getvalue()


def name_of(student: str, task: str) -> str:
    """What a task's own copy of a student is called."""
    return student if student.endswith(f"_for_{task}") else f"{student}_for_{task}"


def change(section: dict[str, Any], train: dict[str, Any], values: dict[str, Any]) -> None:
    """Put values of dotted keys into a student's section and a task's training."""
    for key, value in values.items():
        part, inner = key.split(".")
        (train if part == "train" else section.setdefault(part, {}))[inner] = value


def decimal(value: float) -> str:
    """A number as YAML reads one: 3e-05 would be text."""
    text = f"{value:.12f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def is_registered(name: str, root: Path = Path()) -> bool:
    """Whether there is an experiment of this name on top of HEAD."""
    from dvc.repo.experiments.refs import ExpRefInfo

    ref = str(ExpRefInfo(git(root, "rev-parse", "HEAD"), name))
    return subprocess.run(["git", "rev-parse", "-q", "--verify", ref], cwd=root, capture_output=True).returncode == 0


def register(name: str, files: dict[str, str], root: Path = Path()) -> None:
    """Keep a DVC experiment `name` on top of HEAD in which these files have these texts.

    SettingsError where there is no git repository with a commit.
    """
    from dvc.repo.experiments.refs import ExpRefInfo

    head = git(root, "rev-parse", "HEAD")
    prefix = git(root, "rev-parse", "--show-prefix")
    with TemporaryDirectory(prefix="assay-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", head, env=env)
        for path, text in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=text)
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{path}", env=env)
        tree = git(root, "write-tree", env=env)
    known = subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=root, capture_output=True).returncode == 0
    commit = git(root, *(() if known else WHO), "commit-tree", tree, "-p", head, "-m", f"assay tune: {name}")
    git(root, "update-ref", str(ExpRefInfo(head, name)), commit)


def git(root: Path, *args: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """What git prints; SettingsError with its first line where it fails."""
    try:
        done = subprocess.run(
            ["git", *args], cwd=root, input=stdin, env=os.environ | (env or {}), capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise SettingsError("git is not installed, which keeps DVC's experiments; give --no-experiments") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["?"])[0]
        raise SettingsError(f"git {args[0]}: {said}; experiments need a repository with a commit: --no-experiments")
    return done.stdout.strip()
