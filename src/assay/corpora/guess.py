"""Which column of a table is what, by its name and by what stands in it; a proposal that a person confirms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from assay.corpora import cells
from assay.corpora.sheets import open_sheet
from assay.errors import CorpusError, RowError

LOOKED_AT = 2000  # rows
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
FORMS = ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
HOURS = ("", " %H:%M", " %H:%M:%S", ", %H:%M")
NAMES = {  # whole words of column names, likeliest first
    "id": ("id", "postid", "uuid", "shortcode", "key", "nr", "no", "number"),
    "text": (
        "text",
        "caption",
        "message",
        "body",
        "content",
        "tweet",
        "post",
        "comment",
        "description",
        "title",
        "texto",
        "texte",
        "beitrag",
    ),
    "image": ("image", "img", "picture", "photo", "file", "filename", "media", "path", "bild", "foto", "imagen"),
    "author": (
        "author",
        "user",
        "username",
        "account",
        "handle",
        "owner",
        "screenname",
        "profile",
        "who",
        "autor",
        "auteur",
        "benutzer",
        "nutzer",
        "usuario",
        "utilisateur",
    ),
    "created_at": (
        "created",
        "date",
        "datetime",
        "timestamp",
        "time",
        "posted",
        "published",
        "day",
        "when",
        "datum",
        "fecha",
    ),
    "language": ("language", "lang", "locale"),
    "likes": ("likes", "like", "favorites", "favourites", "hearts"),
    "comments": ("comments", "replies"),
    "sponsored": ("sponsored", "ad", "paid", "promoted"),
    "brands": ("brands", "brand"),
}
TOLD = ("id", "text", "image", "author", "created_at")  # also shown where there is none


@dataclass
class Guess:
    """What each of ours is in a table, and how the table is read."""

    said: str
    rows: int
    columns: dict[str, str] = field(default_factory=dict)
    date_form: str | None = None  # as strptime reads it; None: plain dates
    why: dict[str, str] = field(default_factory=dict)
    images_root: Path | None = None  # where most of the pictures lie, if not beside the table
    pictures: tuple[int, int] = (0, 0)  # of those named in the rows that were looked at: there, and all

    def as_columns(self) -> dict[str, Any]:
        """`columns` of a corpus in params.yaml."""
        found: dict[str, Any] = {"id": self.columns["id"], "text": None, "image": None} | self.columns
        if self.date_form:
            found["created_at"] = {"column": self.columns["created_at"], "format": self.date_form}
        return found


def guess(path: Path) -> Guess:
    """Look at the first rows of a table; CorpusError where it is none, has no ids, or neither text nor picture."""
    sheet = open_sheet(path, [])
    rows = [line.data for line in islice(sheet.rows, LOOKED_AT) if not isinstance(line.data, RowError)]
    names = sheet.columns or list(dict.fromkeys(name for row in rows for name in row))
    if not rows or not names:
        raise CorpusError(f"{path}: no rows that can be read")
    values = {name: [cells.flat(row.get(name)) for row in rows] for name in names}
    found = Guess(sheet.said, len(rows))
    for role in NAMES:
        taken = set(found.columns.values())
        ranked = sorted(
            ((score, -place, name) for place, name in enumerate(names)
             if name not in taken and (score := _score(role, name, values[name])) > 0),
            reverse=True,
        )  # fmt: skip
        if ranked:
            found.columns[role] = ranked[0][2]
            found.why[role] = _why(role, values[ranked[0][2]])
    if "id" not in found.columns:
        raise CorpusError(f"{path}: no column has another value in each row, to tell posts by; add one, such as id")
    if "text" not in found.columns and "image" not in found.columns:
        raise CorpusError(f"{path}: neither texts nor pictures are found in its columns: {', '.join(names)}")
    if "created_at" in found.columns:
        found.date_form = _form(values[found.columns["created_at"]])
    if "image" in found.columns:
        _look_for_pictures(found, path.parent, values[found.columns["image"]])
    return found


def _score(role: str, name: str, values: list[Any]) -> float:
    """How likely a column is what is looked for; 0: it is not."""
    known = [v for v in values if not cells.is_missing(v)]
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    ranks = [NAMES[role].index(word) for word in (*words, "".join(words)) if word in NAMES[role]]
    named = 2.0 - min(ranks) / 20 if ranks else 0.0
    if not known:
        return 0.0
    if role == "id":
        plain = all(isinstance(v, str | int) and len(str(v)) <= 64 and " " not in str(v) for v in known)
        unique = len(known) == len(values) and len({str(v) for v in known}) == len(values) and plain
        return 0.5 + named if unique else 0.0
    if role == "text":
        words_each = sum(len(str(v).split()) for v in known) / len(known)
        longer = min(words_each / 20, 1.0) if words_each >= 2 and not _are_pictures(known) else 0.0
        return longer + (named if longer or (named and not _are_pictures(known)) else 0.0)
    if role == "image":
        return 1.0 + named if _are_pictures(known) else 0.0
    if role == "created_at":
        return named + 1.0 if _are_dates(known) and (named or not _are_numbers(known)) else 0.0
    if role in ("likes", "comments"):
        return named if _are_numbers(known) else 0.0
    if role == "author":
        return named if not _are_pictures(known) else 0.0
    return named


def _are_pictures(values: Iterable[Any]) -> bool:
    listed = [str(v).lower() for v in values]
    return sum(any(end in one for end in PICTURES) for one in listed) >= len(listed) / 2


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(re.fullmatch(r"[+-]?[\d.,]+", str(v).strip()) for v in values)


def _are_dates(values: list[Any]) -> bool:
    """Most are, by the plain readings or by one form."""
    return _plain(values) >= 0.8 * len(values) or _form(values) is not None


def _plain(values: list[Any]) -> int:
    return sum(cells.moment(v, "", []) is not None for v in values)


def _form(values: list[Any]) -> str | None:
    """The form by which more dates are read than plainly; None where plain readings do. Day first where either fits."""
    known = [v for v in values if not cells.is_missing(v)]
    plain = _plain(known)
    if plain == len(known):
        return None
    counts = {
        form + hour: sum(cells.moment(v, "", [], form + hour) is not None for v in known)
        for form in FORMS
        for hour in HOURS
    }
    best = max(counts, key=lambda form: counts[form])  # the first of equals
    return best if counts[best] > plain and counts[best] >= 0.8 * len(known) else None


def _why(role: str, values: list[Any]) -> str:
    known = [v for v in values if not cells.is_missing(v)]
    example = " ".join(str(known[0]).split())[:40]
    return f"{len(known)} of {len(values)} rows, such as {example!r}"


def _look_for_pictures(found: Guess, folder: Path, values: list[Any]) -> None:
    """Set where most pictures lie: beside the table, or in a folder beside it."""
    wanted = [one for v in values for one in cells.strings(v, "image", [])]
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]
    there = {place: sum((place / one).is_file() for one in wanted) for place in places}
    best = max(places, key=lambda place: there[place])  # the first of equals: beside the table
    found.pictures = there[best], len(wanted)
    found.images_root = best if best != folder and there[best] else None
