"""Activities x templates x groups -> prompts that differ within an activity in the words for the group alone."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.config import Audit
from assay.errors import DataError
from assay.sampling import allocate, permanent_number

COLUMNS = ("id", "category", "activity")


@dataclass(frozen=True)
class Activity:
    """Something that people do on a day: its id, its category, and the words that follow "a person"."""

    id: str
    category: str
    words: str


@dataclass(frozen=True)
class Prompt:
    """One prompt: for which activity and group, in which template."""

    activity: Activity
    group: str
    template: str
    text: str


def read_activities(path: Path) -> list[Activity]:
    """The activities of a CSV with the columns id, category, activity; DataError with the line that is wrong."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if lacking:
                raise DataError(f"{path}: lacks the column {lacking[0]}; needed: {', '.join(COLUMNS)}")
            found: dict[str, Activity] = {}
            for row in reader:
                values = [(row[name] or "").strip() for name in COLUMNS]
                if not all(values):
                    raise DataError(f"{path}, line {reader.line_num}: id, category and activity must not be empty")
                if values[0] in found:
                    raise DataError(f"{path}, line {reader.line_num}: the id {values[0]!r} was there before")
                found[values[0]] = Activity(*values)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there; set `activities` of the audit") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
    if not found:
        raise DataError(f"{path}: holds no activities")
    return list(found.values())


def take(activities: list[Activity], size: int | None, seed: int) -> list[Activity]:
    """So many of the activities, in their order, by permanent random numbers within each category.

    Every category gets its share, so that a smaller audit looks at the same kinds of day (with fewer than one a
    category, whichever come first); a larger `size` keeps most of what a smaller one took.
    """
    if size is None or size >= len(activities):
        return activities
    strata: dict[str, list[Activity]] = {}
    for one in activities:
        strata.setdefault(one.category, []).append(one)
    if size < len(strata):
        strata = {"": activities}
    counts = allocate(np.array([len(members) for members in strata.values()]), size, 1)
    chosen: set[str] = set()
    for members, count in zip(strata.values(), counts, strict=True):
        ranked = sorted(members, key=lambda one: permanent_number(seed, one.id))
        chosen |= {one.id for one in ranked[: int(count)]}
    return [one for one in activities if one.id in chosen]


def prompts(audit: Audit, activities: list[Activity]) -> list[Prompt]:
    """All prompts of an audit: of each activity every template and, within it, every group."""
    return [
        Prompt(
            one,
            group,
            name,
            audit.templates[name].prompt.format(who=audit.templates[name].who[group], activity=one.words),
        )
        for one in activities
        for name in audit.use
        for group in audit.groups
    ]
