"""Environments of their own for what the project talks to, made once (about a minute) and kept for later runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock


def kept(name: str, *packages: str, then: Callable[[Path], None] = lambda _: None) -> Path:
    """A virtual environment with these packages, after `then`; a half-made one is never left."""
    folder = Path(platformdirs.user_cache_dir("assay-tests", appauthor=False)) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            then(folder)
            (folder / "ready").touch()
    return folder
