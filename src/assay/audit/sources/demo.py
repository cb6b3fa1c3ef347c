"""Drawn figures with a planted effect: what runs with no model, and what the audit's power is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.audit.sources.base import Keep, Request, checked
from assay.config import Audit, DrawnSource
from assay.corpora.demo.figure import draw_figure, seeded

JITTER = 0.07  # standard deviation of looks around those of a group
MODEL = "drawn-figures-1"


class Drawn:
    """Groups are drawn with looks spread evenly from 0 to 1 in their order; the reference as `lean` says.

    `lean` gives how often the reference prompt is drawn with the looks of each group (default: all alike),
    `visible` the share of images that heed the words for their group at all; the others are drawn
    like the reference. With `visible: 0` no group differs from another: the null hypothesis holds.
    """

    batch = 256

    def __init__(self, settings: DrawnSource, audit: Audit, max_pixels: int) -> None:
        self.settings, self.max_pixels = settings, max_pixels
        names = audit.attributed
        self._looks = dict(zip(names, np.linspace(0, 1, len(names)) if len(names) > 1 else [0.5], strict=True))
        weights = np.array([settings.lean.get(name, 0.0) if settings.lean else 1.0 for name in names])
        self._chance = weights / weights.sum()
        self.identity: dict[str, Any] = {"model": MODEL, "groups": names, **settings.model_dump()}

    def make(self, requests: Sequence[Request], keep: Keep) -> None:
        for one in requests:
            where = (one.prompt.activity.id, one.prompt.template, one.seed)
            own = seeded("look", one.prompt.group, *where)
            looks = self._looks.get(one.prompt.group)
            if looks is None or own.random() >= self.settings.visible:
                looks = list(self._looks.values())[int(own.choice(len(self._chance), p=self._chance))]
            data = draw_figure(seeded("scene", *where), looks + JITTER * own.standard_normal(), self.settings.size_px)
            facts = {"model": MODEL, "model_hash": MODEL}
            keep(one, checked(data, started=None, max_pixels=self.max_pixels, **facts))


def open_source(settings: DrawnSource, audit: Audit) -> Drawn:
    """The source of an audit's images."""
    return Drawn(settings, audit, audit.images.max_pixels)
