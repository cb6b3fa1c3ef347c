"""Files beside params.yaml that a task or an audit reads: digests of them stand in its settings, so that DVC sees them.

A stage that depended on the folder would run again for a file of another task.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from assay.config import Params
from assay.places import start_folder


def of_others(params: Params, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """By the place of a section below data/settings: its rubrics, human codes and start, null where one is not there.

    Of a task `tasks/<task>/rubric` has those of the tasks that are asked about along with it, too.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, task in params.tasks.items():
        rubrics = {}
        for other in (name, *task.annotate.ask_with):
            asked = params.tasks[other].annotate
            if asked.source == "teacher":
                file = f"rubrics/{asked.rubric_file(other)}"
                rubrics[file] = digest(root / file)
        found[f"tasks/{name}/rubric"] = rubrics
        found[f"tasks/{name}/human"] = {f"human/{name}.csv": digest(root / "human" / f"{name}.csv")}
        start = task.train.start_from
        found[f"tasks/{name}/start"] = {start: folder_digest(root / start_folder(start))} if start else {}
    for name, audit in params.audits.items():
        if audit.perceived and audit.perceived.annotate.source == "teacher":
            file = f"rubrics/{audit.perceived.annotate.rubric_file(name)}"
            found[f"audits/{name}/rubric"] = {file: digest(root / file)}
    return found


def digest(path: Path) -> str | None:
    """A digest of a file's content; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def folder_digest(folder: Path) -> str | None:
    """A digest of the files of a folder, by name and content; None where there is no folder."""
    if not folder.is_dir():
        return None
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        whole.update(f"{path.name} {digest(path)}\n".encode())
    return whole.hexdigest()
