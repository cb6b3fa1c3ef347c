"""Which column of a table is what, by its name and by what stands in it; a proposal that a person confirms."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.corpora import cells
from assay.corpora.sheets import kind_of, open_sheet
from assay.errors import CorpusError, RowError

LOOKED_AT = 2000  # rows
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
FORMS = ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
HOURS = ("", " %H:%M", " %H:%M:%S", ", %H:%M", " %I:%M %p", " %I:%M:%S %p")
OTHERS = {  # words of names that speak of something else
    "id": {"user", "author", "account", "owner", "profile", "parent", "reply", "brand"},
    "created_at": {"user", "author", "account", "owner", "profile", "updated", "scraped"},
    "author": {"followers", "following", "friends", "verified", "location", "description", "count", "created", "url",
               "bio"},
}  # fmt: skip
ORDER = ("image", "text", "created_at", "id", "author", "language", "likes", "comments", "sponsored", "brands")
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
    "comments": ("comments", "comment", "replies"),
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
    either: str | None = None  # another form that reads as many dates: month first instead of day first
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
    found, values, nameless = _found(path, ORDER)
    if "id" not in found.columns:
        which = " with a name" if nameless else ""
        raise CorpusError(
            f"{path}: no column{which} has another value in each row, to tell posts by; add one, such as id"
        )
    if "created_at" in found.columns:
        dates = values[found.columns["created_at"]]
        found.date_form = _form(dates)
        found.either = _either(found.date_form, dates)
    if "image" in found.columns:
        _look_for_pictures(found, path.parent, values[found.columns["image"]])
    return found


def content(path: Path) -> Guess:
    """Which columns hold texts and pictures; short texts too where a column's name says so. CorpusError for neither."""
    return _found(path, ("image", "text"), short=True)[0]


def _found(path: Path, roles: Iterable[str], *, short: bool = False) -> tuple[Guess, dict[str, list[Any]], bool]:
    """What some of ours are in a table, the first cells of its columns, and whether it has columns without a name.

    `short`: a column that is named like texts is one, whatever their length.
    """
    said, rows, listed = _first_rows(path)
    names = [name for name in listed if str(name).strip()]  # a column without a name cannot be named
    if not rows or not names:
        raise CorpusError(f"{path}: no rows that can be read")
    values = {name: [cells.flat(row.get(name)) for row in rows] for name in names}
    found = Guess(said, len(rows))
    for role in roles:
        taken = set(found.columns.values())
        ranked = sorted(
            ((score, -place, name) for place, name in enumerate(names)
             if name not in taken and (score := _score(role, name, values[name])) > 0),
            reverse=True,
        )  # fmt: skip
        if ranked:
            found.columns[role] = ranked[0][2]
            found.why[role] = _why(role, values[ranked[0][2]])
    if short and "text" not in found.columns:
        said_so = {name.strip().lower(): name for name in names if name not in found.columns.values()}
        named = [said_so[one] for one in NAMES["text"] if one in said_so and not _are_numbers(values[said_so[one]])]
        found.columns |= {"text": named[0]} if named else {}
    if "text" not in found.columns and "image" not in found.columns:
        raise CorpusError(
            f"{path}: neither texts nor pictures are found in its columns: {', '.join(names)}; name one text or image"
        )
    return found, values, len(names) < len(listed)


def _first_rows(path: Path) -> tuple[str, list[dict[str, Any]], list[str]]:
    """How a table is read, its first rows and the names of its columns; CorpusError where it cannot be read."""
    if path.is_dir():
        raise CorpusError(f"{path} is a folder; name one table in it, and set `path` to the folder afterwards")
    try:
        sheet = open_sheet(path, list(pq.read_schema(path).names) if kind_of(path) == ".parquet" else [])
        rows = [line.data for line in islice(sheet.rows, LOOKED_AT) if not isinstance(line.data, RowError)]
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise CorpusError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return sheet.said, rows, sheet.columns or list(dict.fromkeys(name for row in rows for name in row))


def _score(role: str, name: str, values: list[Any]) -> float:
    """How likely a column is what is looked for; 0: it is not."""
    known = [v for v in values if not cells.is_missing(v)]
    if not known:
        return 0.0
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    ranks = [NAMES[role].index(word) for word in (*words, "".join(words)) if word in NAMES[role]]
    named = 2.0 - min(ranks) / 20 - (1.0 if OTHERS.get(role, set()) & set(words) else 0.0) if ranks else 0.0
    if role == "id":
        return _score_of_id(values, known, named)
    if role == "text":
        longer = _length(known)
        return 0.0 if _are_pictures(known) or _are_numbers(known) or not longer else longer + named
    if role == "image":
        return 1.0 + named if _are_pictures(known) else 0.0
    if role == "created_at":
        return named + 1.0 if _are_dates(known) and (named or not _are_numbers(known)) else 0.0
    if role in ("likes", "comments"):
        return named if _are_numbers(known) else 0.0
    if role == "sponsored":
        flags = sum(cells.flag(v, "", []) is not None for v in known)
        return named if flags >= 0.8 * len(known) else 0.0
    if role == "author":
        return 0.0 if _are_pictures(known) or OTHERS["author"] & set(words) else named
    return named


def _score_of_id(values: list[Any], known: list[Any], named: float) -> float:
    """An id is short and another in each row; a column of that name may have gaps and repeats, which ingest tells."""
    plain = all(isinstance(v, str | int) and len(str(v)) <= 64 and " " not in str(v) for v in known)
    distinct = len({str(v) for v in known}) / len(values)
    if not plain or _are_pictures(known) or distinct < 0.9 or (distinct < 1 and not named):
        return 0.0
    decimal = any(re.fullmatch(r"[+-]?\d+[.,]\d+", str(v)) for v in known)
    return named + (0.5 if distinct == 1 else 0.25) if named or not decimal else 0.0


def _length(values: list[Any]) -> float:
    """0 to 1: how long texts are, 20 words or more being 1; 0: they are tags. Scripts without blanks go by letters."""
    words = [max(len(str(v).split()), sum(ord(c) > 0x2E7F or 0xE00 <= ord(c) < 0xE80 for c in str(v)) / 2)
             for v in values]  # fmt: skip
    mean = sum(words) / len(words)
    return min(mean / 20, 1.0) if mean >= 1.5 else 0.0


def _are_pictures(values: Iterable[Any]) -> bool:
    listed = [str(v).lower() for v in values]
    return sum(any(end in one for end in PICTURES) for one in listed) >= len(listed) / 2


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(re.fullmatch(r"[+-]?(\d+([.,]\d+)?|\d{1,3}(,\d{3})+)", str(v).strip()) for v in values)


def _are_dates(values: list[Any]) -> bool:
    """Most are, by the plain readings or by one form; small numbers (a day, an hour) are none."""
    if _are_numbers(values) and not all(re.fullmatch(r"(19|20)\d{6}|\d{9,13}(\.\d+)?", str(v).strip()) for v in values):
        return False
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


def _either(form: str | None, values: list[Any]) -> str | None:
    """The form with the month first, where it reads as many dates."""
    if form is None or not form.startswith("%d"):
        return None
    other = f"%m{form[2]}%d{form[5:]}"
    known = [v for v in values if not cells.is_missing(v)]
    read = [sum(cells.moment(v, "", [], one) is not None for v in known) for one in (form, other)]
    return other if read[1] >= read[0] else None


def _why(role: str, values: list[Any]) -> str:
    known = [v for v in values if not cells.is_missing(v)]
    example = " ".join(str(known[0]).split())[:40]
    return f"{len(known)} of {len(values)} rows, such as {example!r}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _look_for_pictures(found: Guess, folder: Path, values: list[Any]) -> None:
    """Set where most pictures lie: beside the table, or in a folder beside it."""
    wanted = [one for v in values for one in cells.strings(v, "image", [])]
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]
    there = {place: sum(_is_file(place / one) for one in wanted) for place in places}
    best = max(places, key=lambda place: there[place])  # the first of equals: beside the table
    found.pictures = there[best], len(wanted)
    found.images_root = best if best != folder and there[best] else None
