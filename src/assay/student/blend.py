"""A student's linear model beside its hidden layers, weighed against them by posts whose labels neither was fitted to.

Of inner folds and of val the hidden layers have seen when to stop; of the folds of cross-fitting nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from assay.config import Train
from assay.encode.features import Features
from assay.student.linear import log_loss
from assay.student.model import Inputs, StudentModel
from assay.student.parts import Part
from assay.targets import NUMBER, Target

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 4096
Raw = tuple[np.ndarray, np.ndarray]
"""Raw outputs [n, outputs] of the hidden layers (the mean of their members) and of the linear model."""
Weighed = dict[str, dict[str, Any]]
"""By task, the linear model's share of the answer, and the losses of either part and of both by which it was chosen."""


def fit_linear(model: StudentModel, part: Part, targets: dict[str, Target], seed: int) -> None:
    """Fit the linear model of a student, where it has one; features are standardised already."""
    if model.linear is None:
        return
    inputs = Inputs(part.features, model, all_grams=True)
    with threadpool_limits(1), torch.inference_mode():  # the same figures on any number of cores
        batch = inputs.rows(torch.arange(len(part)))
        if model.start is not None:
            model.start.fit(batch, batch.image.shape[1] + batch.text.shape[1])
        dense = model.eval().standardised(batch)
        columns = {name: at for name, at in model.columns.items() if model.output(name).is_linear}
        model.linear.fit(dense, inputs.table, part, targets, columns, seed)


def raw_of(model: StudentModel, features: Features) -> Raw:
    """What both parts of a student say of posts."""
    inputs = Inputs(features, model, all_grams=True)
    layers, linear = [], []
    model.eval()
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(inputs.image)), ROWS):
            batch = inputs.rows(rows)
            layers.append(model.of_layers(batch).float().mean(0))
            linear.append(model.of_linear(batch).float())
    return torch.cat(layers).numpy(), torch.cat(linear).numpy()


def weigh(
    model: StudentModel,
    raw: Raw,
    part: Part,
    targets: dict[str, Target],
    settings: Train,
    rows: np.ndarray | None = None,
) -> Weighed:
    """Set a student's shares by raw outputs of posts that neither part learnt from.

    `rows`, bool [n]: the posts that count; None: all. The share with the least loss is taken, the smaller of equals.
    Where training aims at something else than that loss, kind auto leaves the answer to the hidden layers.
    """
    told: Weighed = {}
    if model.linear is None:
        return told
    if model.settings.head.kind == "auto" and bent_on_purpose(settings):
        return told
    for name, columns in model.columns.items():
        target = targets[name]
        if not model.output(name).is_linear:
            continue
        known = part.known(name) & (True if rows is None else rows)
        layers, linear = (torch.from_numpy(one[known, columns]) for one in raw)
        y = torch.from_numpy(part.values[name][known])
        if not len(y):
            losses = dict.fromkeys(SHARES, 0.0)
        else:
            losses = {share: _loss(layers + share * (linear - layers), y, target, settings) for share in SHARES}
        best = 1.0 if model.settings.head.kind == "linear" else min(losses, key=lambda share: (losses[share], share))
        model.share[columns] = best
        told[name] = {"share": best, "layers": losses[0.0], "linear": losses[1.0], "both": losses[best]}
    return told


def bent_on_purpose(settings: Train) -> bool:
    """Whether training aims at something else than likely answers, which a share chosen by log loss would undo."""
    return (
        settings.class_weights != "none"
        or settings.sampler != "random"
        or settings.logit_adjustment > 0
        or settings.loss in ("focal", "asymmetric")
    )


def _loss(raw: Tensor, y: Tensor, target: Target, settings: Train) -> float:
    """Log loss of names; of scores the mean absolute error where training stops by it, else the mean squared error, of
    shares of their range.
    """
    if target.shape == NUMBER:
        low, high = target.bounds
        apart = torch.sigmoid(raw.squeeze(1)) - (y - low) / (high - low)
        found = apart.abs().mean() if settings.metric == "mae" else apart.square().mean()
    else:
        found = log_loss(raw, y, target)
    return float(f"{float(found):.6g}")


def both(model: StudentModel, raw: Raw) -> np.ndarray:
    """Raw outputs of the whole student from those of its parts, [n, outputs]."""
    share = model.share.cpu().numpy()
    return np.asarray(raw[0] + share * (raw[1] - raw[0]))


def mean_weighed(weighed: list[Weighed]) -> Weighed:
    """The means over students of several folds, by task and figure."""
    tasks = weighed[0] if weighed else {}
    return {
        task: {key: float(f"{np.mean([one[task][key] for one in weighed]):.6g}") for key in found}
        for task, found in tasks.items()
    }
