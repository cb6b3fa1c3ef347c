"""A student beside its baselines on posts that it never saw: figures with intervals, over seeds and by slice."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.measure import metrics
from assay.measure.baselines import PROBES
from assay.measure.calibrate import expected_calibration_error
from assay.measure.judged import Judged
from assay.measure.slices import by_slice
from assay.targets import Target


def evaluate(
    test: Judged, target: Target, *, replicates: int = metrics.REPLICATES, min_slice: int = 20
) -> dict[str, Any]:
    """The content of evaluate.json: every figure `{value, low, high}`, baselines beside it, and the gaps.

    The same bootstrap draws serve student and baselines, so that gaps are paired.
    """
    w = metrics.replicate_weights(test.weights, test.group, replicates=replicates)
    student = metrics.bootstrap(test.y, test.student, w, target, test.thresholds.get("student"))
    others = {
        name: metrics.bootstrap(test.y, p, w, target, test.thresholds.get(name)) for name, p in test.baselines.items()
    }
    found: dict[str, Any] = {
        "n": len(test.y),
        "groups": len(np.unique(test.group)),
        "folds": test.folds,
        **{name: metrics.interval(values).rounded() for name, values in student.items()},
        "gap": _best_gap(student, others, target, list(others)),
        "gap_probe": _best_gap(student, others, target, [name for name in PROBES if name in others]),
        "gaps": {
            name: {m: metrics.gap(student[m], values[m], higher=target.is_higher_better(m)).rounded() for m in student}
            for name, values in others.items()
        },
        "baselines": {
            name: {k: metrics.interval(v).rounded() for k, v in values.items()} for name, values in others.items()
        },
    }
    by_name = target.per_name(test.y, test.student, w, test.thresholds.get("student"))
    if by_name:
        found["classes"] = {name: _rounded(figures) for name, figures in by_name.items()}
        found["ece"] = {
            "before": None if test.uncalibrated is None else _ece(test, test.uncalibrated),
            "after": _ece(test, test.student),
        }
    if confusion := target.confusion(test.y, test.student, test.weights):
        found["confusion"] = confusion
    if test.seeds:
        found["seeds"] = _over_seeds(test, target)
    if test.held is not None:
        hits = metrics.interval((w @ test.held) / w.sum(1)).rounded()
        found["post_intervals"] = {"nominal": 0.9, "coverage": hits}
    if test.slices:
        found["slices"] = by_slice(test, target, w, smallest=min_slice)
    return found


def _ece(test: Judged, probabilities: np.ndarray) -> float:
    return round(expected_calibration_error(test.y, probabilities, test.weights), 4)


def _over_seeds(test: Judged, target: Target) -> dict[str, Any]:
    """Each figure's mean and standard deviation over the seeds that were trained."""
    figures = [
        metrics.point(test.y, p, test.weights, target, test.seed_thresholds.get(seed)) for seed, p in test.seeds.items()
    ]
    spread = {
        name: {
            "mean": round(float(np.mean([f[name] for f in figures])), 4),
            "sd": round(float(np.std([f[name] for f in figures], ddof=1)), 4) if len(figures) > 1 else None,
        }
        for name in figures[0]
        if all(np.isfinite(f[name]) for f in figures)
    }
    return {"seeds": list(test.seeds), **spread}


def _best_gap(
    student: dict[str, np.ndarray], others: dict[str, Any], target: Target, among: list[str]
) -> dict[str, Any]:
    """The paired difference to the best of some baselines, and which one that is."""
    if not among:
        return {"value": None, "low": None, "high": None, "against": None}
    main, higher = target.headline, target.is_higher_better(target.headline)
    sign = 1 if higher else -1
    best = max(among, key=lambda name: sign * others[name][main][0])
    return {**metrics.gap(student[main], others[best][main], higher=higher).rounded(), "against": best}


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of one name: arrays of replicates become a figure with its interval, plain numbers stay."""
    return {
        name: metrics.interval(one).rounded() if isinstance(one, np.ndarray) else one for name, one in figures.items()
    }
