"""Other programs, run in a folder of the user's."""

from __future__ import annotations

import subprocess
from pathlib import Path

from assay.errors import SettingsError


def run(folder: Path, *command: str, check: bool = True) -> str:
    """What a command says, run in a folder; SettingsError when it fails, or "" if that is not to be checked."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and check:
        raise SettingsError(f"{folder}: {Path(command[0]).name} {command[-1]}: {' '.join(done.stderr.split())}")
    return done.stdout.strip() if not done.returncode else ""
