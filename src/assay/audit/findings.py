"""All measures of all spaces, corrected for their number, with a verdict in words for each comparison."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import numpy as np

from assay.audit.found import UNKNOWN, Comparison, Found, InSpace, MeanTest, Test, Verdict, Weat
from assay.audit.inference import Draws, mean_interval, rank_correlation, reach
from assay.audit.measures import Measures
from assay.audit.probe import Probe
from assay.audit.spaces import Grid
from assay.config import Audit, Statistics
from assay.errors import DataError
from assay.measure.found import Interval
from assay.measure.many import adjust
from assay.progress import progress

UNDECIDED = "not decided"
Measure = Literal["lean", "lean_all", "sc_weat", "separation", "centroids", "probe"]
TESTED: tuple[Measure, ...] = get_args(Measure)
LEANS: tuple[Literal["lean", "lean_all"], ...] = ("lean", "lean_all")  # one family: a verdict follows either
SHORT = 9  # leans by which runs are compared
DISPERSIONS: tuple[Literal["across", "within", "vendi"], ...] = ("across", "within", "vendi")
Figure = Test | MeanTest | Weat  # that has a p-value


def findings(audit: Audit, grid: Grid, measured: list[Measures], lacking: dict[str, str]) -> Found:
    """The content of audit.json; DataError when too few activities are whole."""
    statistics = audit.statistics
    if len(grid.activities) < statistics.min_activities:
        raise DataError(
            f"{len(grid.activities)} activities have an image of every group, below statistics.min_activities "
            f"{statistics.min_activities}; {len(grid.incomplete)} lack one"
        )
    found: Found = {
        "activities": len(grid.activities),
        "incomplete": len(grid.incomplete),
        "images": {"used": len(grid.rows), "failed": {"total": sum(grid.failed.values()), **grid.failed}},
        "spaces_used": len(measured),
        "encoders_lacking": len(lacking),
        "verdicts": {},
        "spaces": {},
    }
    for measures in progress(measured, what="audit", unit="space"):
        found["spaces"][measures.space.name] = _of_space(audit, grid, measures)
    _correct(found["spaces"], statistics)
    for pair in audit.pairs:
        name = name_of(*pair)
        for one in found["spaces"].values():
            comparison = one["comparisons"][name]
            comparison["verdict"] = verdict(comparison, *pair, statistics.alpha)
        found["verdicts"][name] = overall(found["spaces"], name)
    found["agreement"] = agreement(audit, measured)
    return found


def name_of(first: str, second: str) -> str:
    """What a comparison is called in files."""
    return f"{first}_vs_{second}"


def _of_space(audit: Audit, grid: Grid, measures: Measures) -> InSpace:
    statistics, space = audit.statistics, measures.space
    at = {name: i for i, name in enumerate(audit.groups)}
    reference = at[audit.reference] if audit.reference is not None else None
    found: InSpace = {"kind": space.kind, "control": space.control, "comparisons": {}}
    if reference is not None:
        found["nearness"] = {name: measures.nearness(reference, at[name]) for name in audit.attributed}
    found["dispersion"] = {name: measures.dispersion(i) for name, i in at.items()}
    probes = Probe(space, measures.draws, statistics) if space.vectors is not None else None
    if probes:
        found["probe"] = probes.accuracy([at[name] for name in audit.attributed])
    for first, second in audit.pairs:
        a, b = at[first], at[second]
        one: Comparison = {}
        if reference is not None:
            one["lean"] = measures.lean(reference, a, b)
            if space.vectors is not None:
                one["lean_all"] = measures.lean_all(reference, a, b)
            one["sc_weat"] = measures.single_category(reference, a, b)
            one["by_category"] = measures.by_category(reference, a, b, grid.categories, statistics.min_activities)
        if measures.has_seeds:
            one["separation"] = measures.separation(a, b)
        if probes:
            one["centroids"] = measures.centroids(a, b)
            one["probe"] = probes.accuracy([a, b])
        one["dispersion"] = measures.dispersion_gap(a, b)
        found["comparisons"][name_of(first, second)] = one
    return found


def _correct(spaces: dict[str, InSpace], statistics: Statistics) -> None:
    """Put `p_adjusted` beside every p, and what can be found beside every mean.

    One family is one measure (both leans are one) over all encoders and comparisons (by category: over all encoders and
    categories of a comparison); prompts, and encoders that are controls, are families of their own.
    """
    families: dict[tuple[str, ...], list[Figure]] = defaultdict(list)
    for space in spaces.values():
        kind = "control" if space["control"] else "prompts" if space["kind"] == "prompts" else "images"
        for measure, figure in _tests(space):
            families[kind, *measure].append(figure)
    for family in families.values():
        known = [(figure, p) for figure in family if (p := figure["p"]) is not None]
        adjusted = adjust([p for _, p in known], statistics.correction)
        for (figure, _), p in zip(known, adjusted, strict=True):
            figure["p_adjusted"] = p
            if "sd" in figure:
                reach(cast(MeanTest, figure), len(known), statistics)


def _tests(space: InSpace) -> Iterator[tuple[tuple[str, ...], Figure]]:
    if "probe" in space:
        yield ("probe of all",), space["probe"]
    for name, comparison in space["comparisons"].items():
        for measure in TESTED:
            if measure in comparison:
                yield ("lean" if measure in LEANS else measure,), comparison[measure]
        gaps = comparison["dispersion"]
        for part in DISPERSIONS:
            if part in gaps:
                yield ("dispersion", part), gaps[part]
        for figure in comparison.get("by_category", {}).values():
            yield ("category", name), figure
            if "weat" in figure:
                yield ("weat", name), figure["weat"]


def verdict(comparison: Comparison, first: str, second: str, alpha: float) -> str:
    """In words: toward one of the two groups where test and interval of a lean agree, else not decided.

    Either lean may say so: that of the same seeds sees what one noise makes of each prompt, that over all images what
    groups have in common. Without a reference: whether the two groups are told apart.
    """
    leans = [comparison[name] for name in LEANS if name in comparison]
    if not leans:
        apart = comparison.get("centroids") or comparison.get("separation")
        return "told apart" if apart and _side(apart, alpha) > 0 else UNDECIDED
    said = {first if side > 0 else second for figure in leans if (side := _side(figure, alpha))}
    return f"toward {said.pop()}" if len(said) == 1 else UNDECIDED


def _side(figure: Test, alpha: float) -> int:
    """1 or -1 where test and interval agree that a figure is above or below 0, else 0."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None or not figure.get("p_adjusted", 1.0) < alpha:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def overall(spaces: dict[str, InSpace], name: str) -> Verdict:
    """One verdict over all encoders of images that are no controls: decided where some decide and none contradicts.

    `controls` are those that say the same: what they see (colours, layout) may be all that the verdict is about.
    """
    said = [
        space["comparisons"][name]["verdict"]
        for space in spaces.values()
        if space["kind"] != "prompts" and not space["control"]
    ]
    decided = {one for one in said if one != UNDECIDED}
    text = decided.pop() if len(decided) == 1 else UNDECIDED
    if len(decided) > 1:
        text = f"{UNDECIDED}: encoders contradict each other"
    beside = {n: one for n, one in spaces.items() if one["kind"] != "prompts" and one["control"] and text != UNDECIDED}
    controls = [n for n, one in beside.items() if one["comparisons"][name]["verdict"] == text]
    count = said.count(text) if text in said else 0
    return {"verdict": text, "spaces_that_say_so": count, "spaces": len(said), "controls": controls}


def agreement(audit: Audit, measured: list[Measures]) -> dict[str, dict[str, Interval]]:
    """Whether two spaces see the same activities lean the same way: Spearman's rho of their leans, by comparison."""
    if audit.reference is None or len(measured) < 2:
        return {}
    at = {name: i for i, name in enumerate(audit.groups)}
    leans = {one.space.name: one for one in measured}
    found: dict[str, dict[str, Interval]] = {}
    for first, second in audit.pairs:
        values = {name: one.leans(at[audit.reference], at[first], at[second]) for name, one in leans.items()}
        found[name_of(first, second)] = {
            f"{a} ~ {b}": rank_correlation(values[a], values[b]) for a, b in itertools.combinations(values, 2)
        }
    return found


def text_image(audit: Audit, values: np.ndarray) -> dict[str, dict[str, Interval]]:
    """Mean cosines over activities by group of images, then of prompts, from [A, G, G] (see spaces.Built)."""
    weights = Draws.of(len(values), audit.statistics).weights
    found: dict[str, dict[str, Interval]] = {}
    for g, seen in enumerate(audit.groups):
        for h, said in enumerate(audit.groups):
            own = values[:, g, h].astype(float)
            low, high = mean_interval(own, weights)
            found.setdefault(seen, {})[said] = {"value": float(own.mean()), "low": low, "high": high}
    return found


def leans_table(audit: Audit, grid: Grid, measured: list[Measures]) -> list[dict[str, Any]]:
    """A row an activity: its lean in each space for each comparison, for the heat map and for readers' own analyses."""
    rows: list[dict[str, Any]] = [
        {"activity": a, "category": c, "words": w}
        for a, c, w in zip(grid.activities, grid.categories, grid.words, strict=True)
    ]
    if audit.reference is None:
        return rows
    at = {name: i for i, name in enumerate(audit.groups)}
    for measures in measured:
        space = measures.space
        for group in audit.attributed:
            for row, value in zip(rows, measures.paired[:, at[audit.reference], at[group]], strict=True):
                row[f"{space.name}: {group}"] = round(float(value), 5)
        for first, second in audit.pairs:
            values = measures.leans(at[audit.reference], at[first], at[second])
            for row, value in zip(rows, values, strict=True):
                row[f"{space.name}: {name_of(first, second)}"] = round(float(value), 5)
    return rows


def categories_table(found: Found) -> list[dict[str, Any]]:
    """Results by category as rows, taken out of `found`, which stays short enough for `dvc metrics diff`."""
    rows = []
    for space, one in found["spaces"].items():
        for name, comparison in one["comparisons"].items():
            for category, figure in comparison.pop("by_category", {}).items():
                weat: Weat | dict[str, None] = figure.get("weat") or {}
                rows.append(
                    {
                        "space": space,
                        "comparison": name,
                        "category": category,
                        "activities": figure["activities"],
                        "lean": figure["value"],
                        "low": figure["low"],
                        "high": figure["high"],
                        "p": figure["p"],
                        "p_adjusted": figure.get("p_adjusted"),
                        "detectable": figure.get("detectable"),
                        "weat": weat.get("value"),
                        "weat_p": weat.get("p"),
                        "weat_p_adjusted": weat.get("p_adjusted"),
                    }
                )
    return rows


def rounded(found: Any, digits: int = 5) -> Any:
    """The same figures with so many decimals, and None for what is no number."""
    if isinstance(found, dict):
        return {name: rounded(value, digits) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value, digits) for value in found]
    if isinstance(found, float):
        return round(found, digits) if np.isfinite(found) else None
    return found


def in_short(found: Found) -> dict[str, Any]:
    """Of audit.json, the lean of each comparison in the spaces of images that are no controls: at most ten figures."""
    leans = [
        (f"{comparison} in {space}: lean", (one.get("lean_all") or one.get("lean") or UNKNOWN)["value"])
        for space, of in found["spaces"].items()
        if not of["control"] and of["kind"] != "prompts"
        for comparison, one in of["comparisons"].items()
    ]
    return {"activities": found["activities"], **dict(leans[:SHORT])}
