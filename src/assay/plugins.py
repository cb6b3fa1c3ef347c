"""What installed packages bring: corpora, encoders, losses and kinds of target, by entry points.

`assay.corpora`          kind -> a module with `open_layout(settings, places)`, as those of assay.corpora
`assay.corpus_settings`  kind -> the class of its settings, in a module that imports nothing of assay but config.corpora
`assay.targets`          kind -> a Target, in a module that imports nothing of assay but assay.targets.*
`assay.outputs`          kind -> its student.outputs.Output
`assay.losses`           `<kind>.<name>` -> a loss, as those of student/outputs
`assay.image_encoders`, `assay.text_encoders`  name -> a function of the branch's settings; params say `plugin/<name>`
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def brought(group: str) -> dict[str, EntryPoint]:
    """The entry points of `assay.<group>` by name; nothing of a package is imported before `load`."""
    return {point.name: point for point in entry_points(group=f"assay.{group}")}


def brought_losses(kind: str) -> dict[str, EntryPoint]:
    """The losses that packages bring for a kind of target, by name."""
    start = f"{kind}."
    return {name.removeprefix(start): point for name, point in brought("losses").items() if name.startswith(start)}
