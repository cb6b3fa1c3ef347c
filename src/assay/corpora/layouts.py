"""Which layout reads which kind of corpus: the file of that name beside this one, or a package's.

Such a module has `open_layout(settings, places) -> Layout`; a package names it by the entry point `assay.corpora`, and
the class of its settings by `assay.corpus_settings`.
"""

from __future__ import annotations

from assay.config import AnyCorpus, Demo
from assay.corpora.base import Layout
from assay.corpora.where import ensure, layout_module, places


def open_corpus(settings: AnyCorpus, demo: Demo) -> Layout:
    """The layout of a corpus, ready to be read."""
    ensure(settings, demo)
    found: Layout = layout_module(settings.kind).open_layout(settings, places(settings))
    return found
