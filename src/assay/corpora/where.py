"""Where a corpus lies, and whether it is there; the drawn one is drawn when it is not."""

from __future__ import annotations

from pathlib import Path

from assay.config import AnyCorpus, Demo, HubCorpus, TableCorpus
from assay.corpora.hub import ensure_exported, export_folder
from assay.errors import CorpusError
from assay.places import corpus_root


def places(settings: AnyCorpus) -> list[Path]:
    """The files and folders that a corpus is made of, absolute."""
    if isinstance(settings, HubCorpus):
        return [export_folder(settings)]
    found = [corpus_root(settings.path)]
    if isinstance(settings, TableCorpus) and settings.images_root:
        found.append(corpus_root(settings.images_root))
    return found


def images_root(settings: AnyCorpus, demo: Demo) -> Path:
    """The folder that image paths of this corpus count from; the demo corpus is drawn if absent."""
    ensure(settings, demo)
    return pictures_of(settings)


def pictures_of(settings: AnyCorpus) -> Path:
    """The same, of a corpus that is there or not."""
    *_, last = places(settings)
    if settings.kind == "mmhs150k" and (last / "train.csv").is_file():
        return last / "images"
    return last if last.is_dir() else last.parent


def ensure(settings: AnyCorpus, demo: Demo) -> None:
    """CorpusError when the corpus is not there; the demo corpus is drawn (again) when it is not."""
    if settings.kind == "demo":
        from assay.corpora.demo import ensure_drawn

        ensure_drawn(corpus_root(settings.path), posts=demo.posts, seed=demo.seed)
    if isinstance(settings, HubCorpus):
        ensure_exported(settings)
    for place in places(settings):
        if not place.exists() or (place.is_dir() and not any(place.iterdir())):
            state = "empty" if place.exists() else "not there"
            raise CorpusError(f"{place}: {state}; set `path` of the corpus to where it lies")
