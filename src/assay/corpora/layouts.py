"""Which layout reads which kind of corpus: a new corpus is one file beside this one and one line here."""

from __future__ import annotations

from assay.config import AnyCorpus, Demo
from assay.corpora.base import Layout
from assay.corpora.instagram import Instagram
from assay.corpora.mvsa import Mvsa
from assay.corpora.table import Table
from assay.corpora.where import ensure, places


def open_corpus(settings: AnyCorpus, demo: Demo) -> Layout:
    """The layout of a corpus, ready to be read."""
    ensure(settings, demo)
    root, *rest = places(settings)
    if settings.kind == "table":
        return Table(root, rest[0] if rest else None, settings.columns)
    return Mvsa(root) if settings.kind == "mvsa" else Instagram(root)  # demo has Instagram's layout
