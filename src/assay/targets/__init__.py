"""Kinds of target: one file a kind, found by its file; a package can add more by the entry point `assay.targets`."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field

from assay.plugins import brought
from assay.targets.base import NAME, NAMES, NUMBER, Label, Metric, Reading, Target, Value

__all__ = ["KINDS", "NAME", "NAMES", "NUMBER", "AnyTarget", "Label", "Metric", "Reading", "Target", "Value"]


def _kinds() -> dict[str, type[Target]]:
    """Every kind by its name: a class of a module here, or of a package's entry point, whose field `kind` names it."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    every = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    every += [point.load() for point in brought("targets").values()]
    found: dict[str, type[Target]] = {}
    for one in every:
        names = get_args(one.model_fields["kind"].annotation) if issubclass(one, Target) else ()
        found |= dict.fromkeys(names, one)
    return dict(sorted(found.items()))


KINDS = _kinds()

if TYPE_CHECKING:
    AnyTarget = Target
else:  # what params.yaml may have under `target`
    AnyTarget = Annotated[reduce(or_, KINDS.values()), Field(discriminator="kind")]
