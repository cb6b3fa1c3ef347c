"""The drawn corpus: made by the project, so that everything can be tried without any data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from assay.code import code_digest
from assay.config import Corpus, Demo
from assay.places import corpus_root

if TYPE_CHECKING:
    from assay.corpora.instagram import Instagram

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
    return code_digest(*(str(path) for path in sorted(Path(__file__).parent.glob("*.py"))))


def ensure(settings: Corpus, demo: Demo) -> None:
    """Draw the corpus where it is not there, or other than it would be drawn now."""
    ensure_drawn(corpus_root(settings.path), posts=demo.posts, seed=demo.seed)


def open_layout(settings: Corpus, places: Sequence[Path]) -> Instagram:
    """The Instagram influencer layout, beside which stands what was planted."""
    from assay.corpora.instagram import Instagram  # whoever draws reads nothing

    return Instagram(places[0], unneeded=("drawn.json", "truth.csv", "truth.json"))
