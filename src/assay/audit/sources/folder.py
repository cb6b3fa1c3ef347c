"""Images made elsewhere: a folder and a mapping table that says what each file shows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from assay import images
from assay.audit.kept import Made
from assay.audit.prompts import Activity, Prompt
from assay.audit.sources.base import Request, shows_nothing
from assay.config import Audit, FolderSource
from assay.errors import CorpusError, DataError, ImageProblem
from assay.places import corpus_root

NO_NOISE = -1  # nobody knows what the images started from
NEEDED = ("file", "activity", "group")


def mapped(settings: FolderSource, audit: Audit, activities: list[Activity]) -> list[tuple[str, Request]]:
    """(file, what it shows) of each row of the mapping, activity by activity.

    The columns `seed`, `template`, `category` and `prompt` may be absent: rows of one activity and group are then
    numbered, and the category is that of the activity's id or words in the table of activities, if it is there.
    """
    root = corpus_root(settings.path)
    table = root / settings.mapping
    if not root.is_dir() or not any(root.iterdir()):
        state = "empty" if root.is_dir() else "not there"
        raise CorpusError(f"{root}: {state}; set `path` of the generator to the folder that holds the images")
    known = {name: one for one in activities for name in (one.id, one.words)}
    found: list[tuple[str, Request]] = []
    seen: set[tuple[str, str, str, int]] = set()
    files: set[str] = set()
    numbered: Counter[tuple[str, str, str]] = Counter()
    for line, row in _rows(table):
        group, name = row["group"], row["activity"]
        if group not in audit.groups:
            raise DataError(f"{table}, line {line}: group {group!r} is unknown; allowed: {', '.join(audit.groups)}")
        activity = known.get(name) or Activity(name, row.get("category") or "other", name)
        template = row.get("template") or audit.use[0]
        if row.get("seed"):
            if not re.fullmatch("[0-9]{1,9}", row["seed"]):
                raise DataError(f"{table}, line {line}: seed {row['seed']!r} is no whole number")
            seed = int(row["seed"])
        else:
            numbered[activity.id, group, template] += 1
            seed = numbered[activity.id, group, template]
        place = (activity.id, group, template, seed)
        if place in seen:
            raise DataError(f"{table}, line {line}: {name}, {group}, template {template}, seed {seed} was there before")
        seen.add(place)
        if row["file"] in files:
            raise DataError(f"{table}, line {line}: the file {row['file']} was there before")
        files.add(row["file"])
        prompt = Prompt(activity, group, template, row.get("prompt") or "")
        found.append((row["file"], Request(row["file"], prompt, seed, NO_NOISE)))
    if not found:
        raise DataError(f"{table}: maps no file")
    order = {name: i for i, name in enumerate(dict.fromkeys(one.prompt.activity.id for _, one in found))}
    return sorted(found, key=lambda one: order[one[1].prompt.activity.id])


def read(settings: FolderSource, file: str, max_pixels: int) -> Made:
    """One image, its bytes as they are, or why it cannot be used."""
    try:
        data = images.read_bytes(corpus_root(settings.path), file)
        picture = images.decode(data, max_pixels)
    except ImageProblem as problem:
        return Made("failed", str(problem), None, {})
    facts = {"width": picture.width, "height": picture.height, "model": settings.path}
    reason = shows_nothing(picture)
    return Made("failed", reason, None, facts) if reason else Made("ok", None, data, facts)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in NEEDED if name not in (reader.fieldnames or [])]
            if lacking:
                raise DataError(f"{table}: lacks the column {lacking[0]}; needed: {', '.join(NEEDED)}")
            for row in reader:
                values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
                if not all(values[name] for name in NEEDED):
                    raise DataError(f"{table}, line {reader.line_num}: {', '.join(NEEDED)} must not be empty")
                yield reader.line_num, values
    except FileNotFoundError as error:
        raise CorpusError(
            f"{table}: not there; it must map each file to what it shows, with the columns {', '.join(NEEDED)}"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as CSV in UTF-8: {error}") from error
