"""What installed packages bring: corpora, encoders, losses and kinds of target, by entry points.

`assay.corpora`          kind -> a module with `open_layout(settings, places)`, as those of assay.corpora
`assay.corpus_settings`  kind -> the class of its settings, in a module that imports nothing of assay but config.corpora
`assay.generators`       kind -> a module with `open_source(settings, audit)`, as those of assay.audit.sources
`assay.generator_settings`  kind -> the class of its settings, likewise with config.audits
`assay.targets`          kind -> a Target, in a module that imports nothing of assay but assay.targets.*
`assay.outputs`          kind -> its student.outputs.Output
`assay.losses`           `<kind>.<name>` -> a loss, as those of student/outputs
`assay.image_encoders`, `assay.text_encoders`  name -> a function of the branch's settings; params say `plugin/<name>`
"""

from __future__ import annotations

from functools import cache, reduce
from importlib.metadata import EntryPoint, entry_points
from operator import or_
from typing import Annotated, Any, get_args

from pydantic import Field


@cache
def brought(group: str) -> dict[str, EntryPoint]:
    """The entry points of `assay.<group>` by name; nothing of a package is imported before `load`."""
    return {point.name: point for point in entry_points(group=f"assay.{group}")}


def one_of(base: type[Any], module: str, group: str) -> Any:
    """The type of whatever is one of the kinds of a section: a module's own classes, and those that packages bring.

    Packages see that module half read: it asks for this at its end.
    """
    own = [one for one in base.__subclasses__() if one.__module__ == module]
    theirs = [point.load() for point in brought(group).values()]
    known = {get_args(one.model_fields["kind"].annotation)[0]: one for one in [*own, *theirs]}
    return Annotated[reduce(or_, known.values()), Field(discriminator="kind")]


def brought_losses(kind: str) -> dict[str, EntryPoint]:
    """The losses that packages bring for a kind of target, by name."""
    start = f"{kind}."
    return {name.removeprefix(start): point for name, point in brought("losses").items() if name.startswith(start)}
