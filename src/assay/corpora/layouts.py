"""Which layout reads which kind of corpus: a new corpus is one file beside this one and one line here."""

from __future__ import annotations

from assay.config import AnyCorpus, Demo
from assay.corpora.base import Layout
from assay.corpora.hateful_memes import HatefulMemes
from assay.corpora.hub import SPLIT, STAMP, TABLE
from assay.corpora.instagram import Instagram
from assay.corpora.mmhs150k import open_mmhs150k
from assay.corpora.mvsa import Mvsa
from assay.corpora.table import Table
from assay.corpora.where import ensure, places

DEMO_FILES = ("drawn.json", "truth.csv", "truth.json")  # what was planted


def open_corpus(settings: AnyCorpus, demo: Demo) -> Layout:
    """The layout of a corpus, ready to be read."""
    ensure(settings, demo)
    root, *rest = places(settings)
    if settings.kind == "table":
        told = {name: getattr(settings, name) for name in ("encoding", "delimiter", "quoting")}
        options = {name: value for name, value in told.items() if value != "auto"}
        return Table(root, rest[0] if rest else None, settings.columns, options)
    if settings.kind == "hub":
        split = settings.columns.split or SPLIT
        return Table(root / TABLE, root, settings.columns.model_copy(update={"split": split}), unneeded=[root / STAMP])
    if settings.kind == "mmhs150k":
        return open_mmhs150k(root, ocr=settings.ocr)
    if settings.kind == "hateful_memes":
        return HatefulMemes(root)
    if settings.kind == "demo":
        return Instagram(root, unneeded=DEMO_FILES)
    return Mvsa(root) if settings.kind == "mvsa" else Instagram(root)
