"""Label Studio's exports -> labels by post and coder: JSON, JSON-MIN and CSV, each annotation used or named.

The coder is the id that Label Studio gave the person, or a hash where only an address is known. Annotations
without a coder, as imports through the API leave them, are coders of their own: none overwrites another.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from assay.authors import author_key, hash_author
from assay.errors import CorpusError, DataError, RowError
from assay.targets import NAMES, NUMBER, Target, Value
from assay.teacher.quality import Humans
from assay.teacher.rubric import gold_value

RATING = "rating"
POST = "post_id"
CHANCE = "people_p"  # the chance of a labelled post to be drawn for people
FORMS = "export the project from Label Studio as JSON, JSON-MIN or CSV"


class Note(NamedTuple):
    """One annotation: where it stands, of which post, by whom, and what it says or why that cannot be used."""

    where: str
    post: str | None
    coder: Any
    value: Any  # or a RowError
    chance: Any = None


def read_export(path: Path, target: Target) -> tuple[Humans, dict[str, float], list[str]]:
    """The labels of an export, by post and coder; the posts' chances to be drawn, where the export tells them; and what
    could not be used or was odd, a line each.
    """
    found: Humans = {}
    chances: dict[str, float] = {}
    problems: list[str] = []
    for note in _notes(path, target):
        if isinstance(note.value, RowError) or note.post is None:
            problems.append(f"{note.where}: {note.value}")
            continue
        coders = found.setdefault(note.post, {})
        coder = _coder(note.coder)
        if coder is None:
            coder = f"unknown-{1 + sum(name.startswith('unknown-') for name in coders)}"
            problems.append(f"{note.where}: no coder is told; used as {coder}")
        if coder in coders:
            problems.append(f"{note.where}: coder {coder} has labelled this post before; the later label counts")
        coders[coder] = note.value
        with contextlib.suppress(TypeError, ValueError):
            if 0 < float(note.chance) <= 1:
                chances[note.post] = float(note.chance)
    found = {post: coders for post, coders in found.items() if coders}
    if not found:
        raise DataError(f"{path}: no annotation can be used; {problems[0] if problems else 'there is none'}")
    return found, chances, problems


def _notes(path: Path, target: Target) -> Iterator[Note]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: {error}; {FORMS}") from error
    if text.lstrip()[:1] not in ("[", "{"):
        yield from _of_csv(path, text, target)
        return
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: {error}; {FORMS}") from error
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        where = f"task {number}"
        if not isinstance(task, dict):
            yield _unused(where, None, "not an object")
        elif "data" in task or "annotations" in task or "completions" in task:
            yield from _of_task(task, where, target)
        else:
            yield _flat(task, where, target)


def _of_task(task: dict[str, Any], where: str, target: Target) -> Iterator[Note]:
    """The annotations of a task in the full form; in the oldest exports they are called completions."""
    data = task.get("data")
    post = data.get(POST) if isinstance(data, dict) else None
    if post is None:
        yield _unused(where, None, f"no data.{POST}")
        return
    where, post = f"{where}, post {post}", str(post)
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):
        yield _unused(where, post, "no annotations")
        return
    if not annotations and task.get("predictions"):
        yield _unused(where, post, "predictions of a model alone, no annotation")
    for annotation in annotations:
        if not isinstance(annotation, dict):
            yield _unused(where, post, "an annotation that is not there")
        elif annotation.get("was_cancelled"):
            yield _unused(where, post, "skipped by its coder")
        else:
            try:
                value: Any = _value(annotation.get("result"), target)
            except (RowError, KeyError, TypeError, IndexError, AttributeError) as error:
                value = (
                    error if isinstance(error, RowError) else RowError("no_label", f"{type(error).__name__} {error}")
                )
            yield Note(where, post, annotation.get("completed_by"), value, (data or {}).get(CHANCE))


def _flat(row: dict[str, Any], where: str, target: Target) -> Note:
    """A row of JSON-MIN or CSV: one annotation, its rating by the name of the question."""
    post = row.get(POST)
    if post in (None, ""):
        return _unused(where, None, f"no {POST}")
    where, coder = f"{where}, post {post}", row.get("annotator", row.get("completed_by"))
    if row.get(RATING) in (None, "") and target.shape != NAMES:
        return _unused(where, str(post), f"no {RATING}")
    try:
        return Note(where, str(post), coder, _rated(row.get(RATING), target), row.get(CHANCE))
    except RowError as error:
        return Note(where, str(post), coder, error)


def _of_csv(path: Path, text: str, target: Target) -> Iterator[Note]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {POST, RATING} <= set(rows.fieldnames or ()):
        has = ", ".join(rows.fieldnames or ())[:120] or "nothing"
        raise CorpusError(f"{path}: needs the columns {POST} and {RATING}, it has {has}; {FORMS}")
    for number, row in enumerate(rows, 2):
        yield _flat(row, f"line {number}", target)


def _unused(where: str, post: str | None, why: str) -> Note:
    return Note(where, post, None, RowError("not_used", why))


def _coder(by: Any) -> str | None:
    """Who labelled: the id of the person, or a hash of an address; never a name."""
    if isinstance(by, dict):
        if by.get("id") is not None:
            return str(by["id"])
        by = by.get("email") or by.get("username")
    if by is None or isinstance(by, bool | list | float) or not str(by).strip():
        return None
    said = str(by).strip()
    return said if said.isdigit() else f"h-{hash_author(said, author_key())}"


def _value(results: Any, target: Target) -> Value:
    """The value of an annotation's results; RowError where they hold none, or two."""
    if not isinstance(results, list):
        raise RowError("no_label", "the annotation has no result")
    own = [one for one in results if isinstance(one, dict) and one.get("from_name") == RATING]
    if not own and not (target.shape == NAMES and not results):
        names = sorted({str(one.get("from_name")) for one in results if isinstance(one, dict)})
        raise RowError("no_label", f"nothing is called {RATING!r}; the result has {', '.join(names) or 'nothing'}")
    if target.shape == NUMBER:
        if len(own) > 1:
            raise RowError("two_labels", "two numbers for one question")
        return _rated(own[0]["value"]["number"], target)
    choices: list[Any] = []
    for one in own:
        chosen = one["value"]["choices"]
        choices += chosen if isinstance(chosen, list) else [chosen]
    return _rated(choices, target)


def _flattened(value: Any) -> Iterator[Any]:
    """The single answers in a rating; in JSON-MIN a number stands as `[{"number": 4.5}]`, choices as a list or one."""
    if isinstance(value, list):
        for one in value:
            yield from _flattened(one)
    elif isinstance(value, dict):
        yield from _flattened(value.get("choices", value.get("number")))
    else:
        yield value


def _rated(value: Any, target: Target) -> Value:
    """A rating as it stands in one of the forms: a number, a name, a list of names, or JSON of these."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    listed = [one for one in _flattened(value) if one not in (None, "")]
    if target.shape == NAMES:
        return gold_value(json.dumps([str(one) for one in listed]), target)
    if len(listed) != 1:
        raise RowError("two_labels" if listed else "no_label", f"{len(listed)} answers to a question of one: {listed}")
    return gold_value(str(listed[0]), target)
