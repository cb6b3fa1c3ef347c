"""The drawn corpus: made by the project, so that everything can be tried without any data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import filelock

STAMP = "drawn.json"


def ensure_drawn(root: Path, *, posts: int, seed: int) -> None:
    """Draw the corpus at `root` unless it stands there already, from these settings and this code.

    It is drawn beside its place and moved in whole, so that a killed run leaves no half of it.
    """
    stamp = json.dumps({"posts": posts, "seed": seed, "code": _code()})
    if (root / STAMP).is_file() and (root / STAMP).read_text() == stamp:
        return
    from assay.corpora.demo.write import EPOCH, write_corpus

    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.with_name(f".{root.name}.lock")):
        if (root / STAMP).is_file() and (root / STAMP).read_text() == stamp:
            return  # another process was first
        partial = root.with_name(f".{root.name}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        write_corpus(partial, posts=posts, seed=seed)
        (partial / STAMP).write_text(stamp)
        os.utime(partial / STAMP, (EPOCH, EPOCH))
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)


def _code() -> str:
    """A digest of the drawing code, so that an edit redraws the corpus."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
