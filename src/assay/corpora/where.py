"""Where a corpus lies, and whether it is there; the drawn one is drawn when it is not.

A kind that is not simply where its path says has functions in its own file: `places(settings)`, what it is made of;
`pictures(folder)`, where its images count from; `ensure(settings, demo)`, which makes it where it is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from assay.buckets import Bucket, Root
from assay.config import AnyCorpus, Demo
from assay.errors import CorpusError
from assay.places import corpus_root
from assay.plugins import brought


def layout_module(kind: str) -> Any:
    """The module that reads a kind of corpus: the file of that name beside this one, or a package's."""
    point = brought("corpora").get(kind)
    return point.load() if point else import_module(f"assay.corpora.{kind}")


def places(settings: AnyCorpus) -> list[Root]:
    """The files and folders that a corpus is made of, absolute; images count from the last."""
    if own := getattr(layout_module(settings.kind), "places", None):
        return list(own(settings))
    return [corpus_root(path) for path in settings.paths()]


def images_root(settings: AnyCorpus, demo: Demo) -> Root:
    """The folder that image paths of this corpus count from; the demo corpus is drawn if absent."""
    ensure(settings, demo)
    return pictures_of(settings)


def pictures_of(settings: AnyCorpus) -> Root:
    """The same, of a corpus that is there or not."""
    *_, last = places(settings)
    if isinstance(last, Bucket):
        return last
    folder = last if last.is_dir() else last.parent
    own: Callable[[Path], Path] | None = getattr(layout_module(settings.kind), "pictures", None)
    return own(folder) if own else folder


def ensure(settings: AnyCorpus, demo: Demo) -> None:
    """CorpusError when the corpus is not there; the demo corpus is drawn (again) when it is not."""
    if own := getattr(layout_module(settings.kind), "ensure", None):
        own(settings, demo)
    for place in places(settings):
        if isinstance(place, Bucket):
            if place.is_empty():
                raise CorpusError(f"{place}: empty, or not there; set images_root of the corpus to where pictures lie")
        elif not place.exists() or (place.is_dir() and not any(place.iterdir())):
            state = "empty" if place.exists() else "not there"
            raise CorpusError(f"{place}: {state}; set `path` of the corpus to where it lies")
