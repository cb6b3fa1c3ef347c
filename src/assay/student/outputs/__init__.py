"""What students learn by, one file a kind of target; a package adds its own by the entry point `assay.outputs`."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from assay.errors import SettingsError
from assay.plugins import brought, brought_losses
from assay.student.outputs.base import Loss, LossContext, Output
from assay.targets import Target

__all__ = ["Loss", "LossContext", "Output", "build_output", "loss_of", "losses_of"]


@cache
def _class_of(kind: str) -> type[Output]:
    if point := brought("outputs").get(kind):
        found: type[Output] = point.load()
        return found
    module = import_module(f"{__name__}.{kind}")
    return next(
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Output) and one.__module__ == module.__name__
    )


def build_output(target: Target) -> Output:
    """The output that a target asks for."""
    return _class_of(target.kind)(target)


def losses_of(kind: str) -> dict[str, Loss]:
    """The losses of a kind of target by name, the default first, and those that packages bring."""
    return {**_class_of(kind).losses, **{name: point.load() for name, point in brought_losses(kind).items()}}


def loss_of(kind: str, name: str) -> Loss:
    """The loss of a kind by its name, `auto` being the first; SettingsError with the known ones."""
    known = losses_of(kind)
    if name == "auto":
        return next(iter(known.values()))
    if name not in known:
        raise SettingsError(f"train.loss {name} does not fit target kind {kind}; allowed: auto, {', '.join(known)}")
    return known[name]
