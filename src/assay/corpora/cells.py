"""Cells of tables and fields of JSON as values: what is not understood is named, never taken for empty.

Each function appends (code, detail) to `lost` for a value that is there and cannot be read.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

Lost = list[tuple[str, str]]
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(days=365 * 120), datetime(2200, 1, 1, tzinfo=UTC)
TRUE = {"1", "true", "yes", "y", "t", "on"}
FALSE = {"0", "false", "no", "n", "f", "off"}
MOST = 2**62
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NO_COMMAS = re.compile(rf"\[\s*(?:{_QUOTED})(?:\s+(?:{_QUOTED}))+\s*\]", re.DOTALL)
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.0*)?")
_POINT_ZERO = re.compile(r"[+-]?\d+\.0+")
_DAY_FIRST = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T,]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(.*)", re.DOTALL)


def is_missing(value: Any) -> bool:
    """Nothing, an empty text, or NaN, as pandas writes what is missing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def flat(value: Any) -> Any:
    """A value as it can be sent to other processes: scalars and lists of scalars; what is deeper is only named."""
    if isinstance(value, list | tuple | set) or (hasattr(value, "tolist") and not isinstance(value, bytes | str)):
        listed = value.tolist() if hasattr(value, "tolist") else list(value)
        if not isinstance(listed, list):
            return listed
        return [one if _is_scalar(one) else Nested(type(one).__name__) for one in listed]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if _is_scalar(value) else Nested(type(value).__name__)


class Nested(str):
    """Stands for a value that is no scalar, by the name of its type."""


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | bool | int | float | date | datetime)


def text(value: Any, name: str, lost: Lost) -> str | None:
    """A text; numbers as they are written."""
    if is_missing(value):
        return None
    if isinstance(value, Nested | list):
        _unread(name, value, lost)
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def identifier(value: Any, lost: Lost, name: str = "id") -> str | None:
    """An id: whole numbers without a point, also where pandas made floats of them."""
    if is_missing(value):
        return None
    if isinstance(value, Nested | list | bytes):
        _unread(name, value, lost)
        return None
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        lost.append(("rounded_id", f"{value!r}: a number with a point cannot hold all digits of an id"))
        return repr(value)
    found = str(value).strip()
    if _POINT_ZERO.fullmatch(found):
        return found.partition(".")[0]
    if re.fullmatch(r"\d(\.\d+)?[eE]\+?\d+", found):
        lost.append(("rounded_id", f"{found}: a number with an exponent has lost digits of the id"))
    return found or None


def strings(value: Any, name: str, lost: Lost, separator: str | None = None) -> list[str]:
    """A list, a list written as JSON, as Python or by numpy without commas, or one value (split by a separator)."""
    if is_missing(value):
        return []
    if isinstance(value, str) and not isinstance(value, Nested):
        stripped = value.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            value = _listed(stripped)
            if value is None:
                _unread(name, stripped, lost)
                return []
        else:
            value = value.split(separator) if separator else [value]
    if isinstance(value, str | dict | bytes) or not isinstance(value, Iterable):
        value = [value]
    found = []
    for item in value:
        if is_missing(item):
            continue
        if isinstance(item, Nested | dict | list | tuple | bytes | bool):
            _unread(name, item, lost)
        elif str(item).strip():
            found.append(str(item).strip())
    return found


def _listed(written: str) -> list[Any] | None:
    """The items of a list as it is written, None where it is none."""
    if _NO_COMMAS.fullmatch(written):  # Python would join them
        return [ast.literal_eval(one) for one in re.findall(_QUOTED, written, re.DOTALL)]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return list(found) if isinstance(found, list | tuple) else None
    return None


def flag(value: Any, name: str, lost: Lost) -> bool | None:
    """Yes or no in the usual words, 1 and 0, also with a point."""
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return value
    said = str(value).strip().lower() if not isinstance(value, Nested | list) else ""
    said = said.partition(".")[0] if _POINT_ZERO.fullmatch(said) else said
    if said in TRUE or said in FALSE:
        return said in TRUE
    if said not in ("none", "null", "nan", "na", "n/a"):
        _unread(name, value, lost)
    return None


def whole(value: Any, name: str, lost: Lost) -> int | None:
    """A whole number, 0 or more; thousands may be grouped by commas."""
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", "none", "null", "nan", "na")):
        return None
    written = value.strip() if isinstance(value, str) else value
    if isinstance(written, str) and _GROUPED.fullmatch(written):
        written = written.replace(",", "")
    try:
        number = float(written) if not isinstance(written, bool | list | Nested) else math.nan
    except (TypeError, ValueError, OverflowError):
        _unread(name, value, lost)
        return None
    if not math.isfinite(number) or number != int(number) or not 0 <= number < MOST:
        _unread(name, value, lost)
        return None
    return int(written) if isinstance(written, int) else int(number)


def moment(value: Any, name: str, lost: Lost, form: str | None = None) -> datetime | None:
    """A time: ISO, seconds or milliseconds since 1970, RFC 2822, Twitter's own, or a date whose day is plain.

    Where day and month could be taken for each other, the date is not guessed. `form`: texts are written so, as
    strptime reads it, and in no other way.
    """
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", "none", "null", "nan", "nat")):
        return None
    try:
        if form and isinstance(value, str):
            found = _in_utc(datetime.strptime(value.strip(), form))
        else:
            found = _moment(value)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        found = None
    if found is None:
        _unread(name, value, lost)
        return None
    return found


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, date):
        return _in_utc(datetime(value.year, value.month, value.day))
    if isinstance(value, bool | list | Nested | bytes):
        return None
    written = str(value).strip()
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", written) and not re.fullmatch(r"(19|20)\d{6}", written):
        seconds = float(written)
        seconds /= 1000 if abs(seconds) > 1e11 else 1
        return _in_utc(datetime.fromtimestamp(int(seconds), UTC))
    for read in (datetime.fromisoformat, _year_first, _day_first, parsedate_to_datetime, _twitter):
        try:
            found = read(written)
        except (ValueError, TypeError, IndexError):
            continue
        if found is not None:
            return _in_utc(found)
    return None


def _in_utc(found: datetime) -> datetime | None:
    """The time in UTC, whole seconds; None outside of what a post can have."""
    found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return found.replace(microsecond=0) if EARLIEST <= found < LATEST else None


def _year_first(written: str) -> datetime | None:
    found = _YEAR_FIRST.fullmatch(written)
    return datetime.fromisoformat(f"{found[1]}-{int(found[2]):02d}-{int(found[3]):02d}{found[4]}") if found else None


def _day_first(written: str) -> datetime | None:
    found = _DAY_FIRST.fullmatch(written)
    if not found:
        return None
    one, two = int(found[1]), int(found[3])
    if found[2] == "." or one > 12 or one == two:
        day, month = one, two
    elif two > 12:
        day, month = two, one
    else:
        return None  # 01/02/2021: nobody can tell
    hour, minute, second = (int(part or 0) for part in found.groups()[4:])
    return datetime(int(found[4]), month, day, hour, minute, second)


def _twitter(written: str) -> datetime:
    return datetime.strptime(written, "%a %b %d %H:%M:%S %z %Y")


def label(value: Any, name: str, lost: Lost) -> str | None:
    """A gold label as text: whole numbers without a point, lists as JSON."""
    if is_missing(value):
        return None
    if isinstance(value, Nested):
        _unread(name, value, lost)
        return None
    if isinstance(value, list | tuple | set):
        if any(isinstance(item, Nested) for item in value):
            _unread(name, value, lost)
            return None
        return json.dumps([str(item) for item in value if not is_missing(item)], ensure_ascii=False)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST:
        return str(int(value))
    found = str(value).strip()
    return (found.partition(".")[0] if _POINT_ZERO.fullmatch(found) else found) or None


def _unread(name: str, value: Any, lost: Lost) -> None:
    shown = f"a {value}" if isinstance(value, Nested) else repr(value)
    lost.append((f"unreadable_{name}", shown[:120]))
