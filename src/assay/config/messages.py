"""Turns what pydantic says of params.yaml into one line: the key, the value, what is allowed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Location = tuple[str | int, ...]


def one_line(error: ValidationError, raw: dict[str, Any], root: type[BaseModel]) -> str:
    """The first problem as `key: what was wrong (value); what is allowed`."""
    return every_line(error, raw, root)[0]


def every_line(error: ValidationError, raw: dict[str, Any], root: type[BaseModel]) -> list[str]:
    """Every problem, a line each."""
    return list(dict.fromkeys(_line(one, raw, root) for one in error.errors()))


def _line(first: Any, raw: dict[str, Any], root: type[BaseModel]) -> str:
    kind, value, context = first["type"], first.get("input"), first.get("ctx", {})
    key = ".".join(str(part) for part in _visible(first["loc"], raw))
    shown = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    if kind == "extra_forbidden":
        return f"{key}: unknown key (value {shown}); allowed: {', '.join(_siblings(first['loc'], root))}"
    if kind == "missing":
        return f"{key}: missing; {_wanted(first['loc'], root)}"
    if kind == "value_error":
        return f"{key}: {context['error']}" if key else str(context["error"])
    if kind == "union_tag_invalid":
        return f"{key}.kind: {context['tag']!r} is unknown; allowed: {context['expected_tags'].replace(chr(39), '')}"
    if kind == "union_tag_not_found":
        return f"{key}.kind: missing; it says which kind of section this is"
    if kind == "literal_error":
        return f"{key}: {shown} is unknown; allowed: {context['expected']}"
    message = first["msg"][0].lower() + first["msg"][1:]
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        hint = f"; YAML reads {value} as text, write {Decimal(value).normalize():f}"
    return f"{key}: {message} (value {shown}){hint}"


def _model_at(loc: Location, root: type[BaseModel]) -> type[BaseModel] | None:
    """The section class that pydantic's location `loc` points into, or None."""
    here: Any = root
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            found = here.model_fields.get(str(part))
            if found is None:
                found = next((f for f in here.model_fields.values() if f.alias == part), None)
            here = found.annotation if found else None
        else:
            options = _sections(here)
            tagged = [
                s for s in options if "kind" in s.model_fields and part in get_args(s.model_fields["kind"].annotation)
            ]
            here = tagged[0] if tagged else here
            if not tagged and len(options) == 1 and part in options[0].model_fields:
                here = options[0].model_fields[str(part)].annotation
    options = _sections(here)
    return options[0] if len(options) == 1 else None


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """All section classes that stand inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for inner in get_args(annotation) for s in _sections(inner)]


def _siblings(loc: Location, root: type[BaseModel]) -> list[str]:
    model = _model_at(loc[:-1], root)
    return [f.alias or name for name, f in model.model_fields.items()] if model else ["see params.yaml"]


def _wanted(loc: Location, root: type[BaseModel]) -> str:
    model = _model_at(loc, root)
    if model:
        return f"needs a section (may be {{}}) with keys from: {', '.join(_siblings((*loc, ''), root))}"
    return "it must be set"


def _visible(loc: Location, raw: dict[str, Any]) -> list[str | int]:
    """`loc` without the tags of unions, which pydantic adds but the user never wrote."""
    shown: list[str | int] = []
    here: Any = raw
    for part in loc:
        inside = isinstance(here, dict) and part in here
        listed = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if inside or listed:
            shown.append(part)
            here = here[part]
        elif isinstance(here, dict) and here.get("kind") == part:
            continue
        else:
            shown.append(part)
            here = None
    return shown
