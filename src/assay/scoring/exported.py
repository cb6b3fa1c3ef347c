"""The graphs of encoders that lie in a model folder, `graph/`: which belong to it, as they were written.

`image.xml`, `text.xml` with a .bin beside each (OpenVINO); `graph.json` says of which model they are, a digest of each
file, and what was found when they were written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assay.durable import file_digest
from assay.progress import say
from assay.student.trained import model_digest

FOLDER = "graph"
FACTS = "graph.json"


def graphs_of(folder: Path) -> dict[str, Path] | None:
    """The graph of each encoder that has one; None, with a line where there are some, where they cannot be trusted."""
    place = folder / FOLDER
    if not place.is_dir():
        return None
    try:
        told = json.loads((place / FACTS).read_text())
        if told["model"] != model_digest(folder):
            say(f"{place}: of another model; `assay export --graph` makes it anew, and it is not used now")
            return None
        changed = [name for name, known in told["files"].items() if file_digest(place / name) != known]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"{place}: cannot be read ({type(error).__name__}), and is not used; `assay export --graph` makes it anew")
        return None
    if changed:
        say(f"{place}: {changed[0]} is not as it was written; no graph is used, `assay export --graph` makes it anew")
        return None
    return {name: place / f"{name}.xml" for name in ("image", "text") if f"{name}.xml" in told["files"]}


def write_facts(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write graph.json beside the graphs of a model folder; returns its content."""
    place = folder / FOLDER
    files = {path.name: file_digest(path) for path in sorted(place.iterdir()) if path.name != FACTS}
    told = {"model": model_digest(folder), "files": files, **facts}
    (place / FACTS).write_text(json.dumps(told, indent=1) + "\n")
    return told
