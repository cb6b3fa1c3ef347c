"""Training beside the served model: in a copy of the checkout that shares its cache, as `dvc exp run --temp` does.

What stands in the checkout is not touched before the new student is trained and judged; then model, figures
and lock file take their places, the model by one rename. `python -m assay.serve.beside` is the child process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from configobj import ConfigObj

from assay.errors import DataError, run_main

STAGES = ("train", "evaluate")


def workplace(root: Path, name: str) -> Path:
    """Where a copy of the checkout stands; below `.dvc/tmp/exps`, so that raw corpora are found (places)."""
    return root / ".dvc" / "tmp" / "exps" / f"serve-{name}"


def train(root: Path, work: Path, task: str) -> None:
    """Copy the checkout's files to `work`, bring its data from the cache, train and judge there."""
    listed = _run(["git", "ls-files", "-co", "--exclude-standard", "-z"], root)
    for name in filter(None, listed.split("\0")):
        source = root / name
        if source.is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, work / name)
    local = ConfigObj(str(root / ".dvc" / "config.local"), list_values=False, _inspec=True)
    local.setdefault("core", {})["no_scm"] = "true"
    local.setdefault("cache", {}).setdefault("dir", str(root / ".dvc" / "cache"))
    local.filename = str(work / ".dvc" / "config.local")
    local.write()
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "checkout", "--quiet", "--allow-missing"], cwd=work, check=False)
    done = subprocess.run([*dvc, "repro", f"{STAGES[-1]}@{task}"], cwd=work, check=False)
    if done.returncode:
        raise DataError(f"training {task} failed; what was served stays as it is")


def take_place(root: Path, work: Path, task: str) -> None:
    """Put the new model, its figures and its lines of dvc.lock into the checkout."""
    _swap(work / "models" / task, root / "models" / task)
    metrics = work / "metrics" / task
    for path in sorted(metrics.rglob("*")) if metrics.is_dir() else ():
        if path.is_file():
            there = root / "metrics" / task / path.relative_to(metrics)
            there.parent.mkdir(parents=True, exist_ok=True)
            partial = there.with_name(f".{there.name}.{os.getpid()}.tmp")
            shutil.copyfile(path, partial)
            partial.replace(there)
    fresh, known = _lock(work), _lock(root)
    for stage in STAGES:
        name = f"{stage}@{task}"
        if name in fresh["stages"]:
            known["stages"][name] = fresh["stages"][name]
    partial = root / f".dvc.lock.{os.getpid()}.tmp"
    partial.write_text(yaml.safe_dump(known, sort_keys=False), encoding="utf-8")
    partial.replace(root / "dvc.lock")


def leave(work: Path) -> None:
    """Remove the copy."""
    shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, place: Path) -> None:
    ready, old = (place.with_name(f".{place.name}.{end}-{os.getpid()}") for end in ("new", "old"))
    shutil.copytree(new, ready)  # a file of its own, not a link into the cache
    if place.exists():
        place.rename(old)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
    ready.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _lock(folder: Path) -> dict[str, dict[str, object]]:
    try:
        found = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found if isinstance(found, dict) and "stages" in found else {"schema": "2.0", "stages": {}}  # type: ignore[dict-item]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{' '.join(command[:2])}: {done.stderr.strip()[:200]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--task", required=True)
    args = parser.parse_args()
    train(args.root, args.work, args.task)


if __name__ == "__main__":
    run_main(main)
