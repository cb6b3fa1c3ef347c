"""How good the labels are: the teacher against itself, another teacher, people, and its own earlier version."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.errors import CorpusError, DataError, RowError
from assay.measure.agreement import agreement, alpha, interval
from assay.measure.csvfile import as_given, harmless
from assay.posts import write_table
from assay.progress import say
from assay.remote.answers import Answer, AnswerStore
from assay.targets import NAMES, Target, Value
from assay.teacher.ask import ask
from assay.teacher.asking import Round
from assay.teacher.labels import value_of
from assay.teacher.questions import Brief, Company, Keys, questions
from assay.teacher.rubric import gold_value
from assay.teacher.together import keyed

HUMAN_COLUMNS = ("post_id", "coder", "value")
CHANCE = "p"  # a further column: the chance of the labelled post to be coded; empty: not chosen by lot
TIME = "at"  # a further column: when a post was coded, UTC; empty: not known
Humans = dict[str, dict[str, Value]]  # post -> coder -> value
Times = dict[tuple[str, str], str]  # (post, coder) -> time


@dataclass(frozen=True)
class Drift:
    """The same questions answered by two models, or by two versions of one."""

    before: str
    after: str
    pairs: list[tuple[Value, Value]]


def agreement_figures(found: Sequence[dict[str, Any]], target: Target, humans: Humans) -> dict[str, Any]:
    """Agreement of the teacher with itself, with the second teacher and with people, where there is any.

    `found`: labelled posts as `post_id`, `value`, `repeat`, `second`.
    """
    result: dict[str, Any] = {}
    for name, column in (("self", "repeat"), ("second_teacher", "second")):
        both = [row for row in found if row[column] is not None]
        if both:
            result[name] = agreement([row["value"] for row in both], [row[column] for row in both], target)
    values = {row["post_id"]: row["value"] for row in found}
    coded = {post: coders for post, coders in humans.items() if post in values}
    if coded:
        people = {post: target.joint(list(coders.values())) for post, coders in coded.items()}
        result["human"] = agreement([people[post] for post in coded], [values[post] for post in coded], target)
        result["human"] |= {"coders": len({coder for coders in coded.values() for coder in coders})}
        result["human"] |= _between_people(coded, target)
    return {"agreement": result} if result else {}


def _between_people(coded: Humans, target: Target) -> dict[str, Any]:
    """Krippendorff's alpha between the coders, over posts that at least two of them rated."""
    shared = [coders for coders in coded.values() if len(coders) > 1]
    names = sorted({coder for coders in shared for coder in coders})
    if len(shared) < 2 or target.shape == NAMES:
        return {}
    nan = float("nan")
    table = [[float(target.numbers([c[n]])[0]) if n in c else nan for n in names] for c in shared]
    between = interval(lambda ratings: alpha(ratings.T, target.agreement_level), [np.array(table)], 1)
    return {"between_people": {"posts": len(shared), "alpha": between}}


def read_humans(path: Path | None, target: Target) -> Humans:
    """The human labels of a task: CSV with post_id, coder and value (text, a number, or a JSON list)."""
    found: Humans = {}
    for number, row in _human_rows(path):
        try:
            own = found.setdefault(as_given(row["post_id"]), {})
            own[row["coder"]] = gold_value(as_given(row["value"]), target)
        except RowError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return found


def _human_rows(path: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a table of human labels, by number; none where there is no table."""
    if path is None or not path.exists():
        return
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                if not set(HUMAN_COLUMNS) <= row.keys():
                    raise CorpusError(f"{path}: columns must be {', '.join(HUMAN_COLUMNS)}")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: {error}") from error


def by_no_review(path: Path | None, people: Humans) -> Humans:
    """Codes but for those of a review, where people saw the label, of posts that were picked for being far off."""
    times, chances = read_times(path), read_chances(path)
    own: Humans = {}
    for post, said in people.items():
        kept = {coder: value for coder, value in said.items() if post in chances or (post, coder) not in times}
        own |= {post: kept} if kept else {}
    return own


def write_people(humans: Path | None, target: Target, out: Path) -> Humans:
    """Write what people said of posts as the report reads it, with the chance of each to be coded (null: not by lot).

    A table of its own, beside the labels: more codes change no student.
    """
    people, chances = read_humans(humans, target), read_chances(humans)
    each = [[{"coder": coder, "value": one} for coder, one in sorted(said.items())] for said in people.values()]
    schema = pa.schema(
        [
            ("post_id", pa.string()),
            ("people", pa.list_(pa.struct([("coder", pa.string()), ("value", target.arrow)]))),
            ("people_p", pa.float64()),
        ]
    )
    rows = {"post_id": list(people), "people": each, "people_p": [chances.get(post) for post in people]}
    write_table(pa.table(rows, schema=schema), out)
    return people


def read_chances(path: Path | None) -> dict[str, float]:
    """The chances of coded posts to be coded, where the table of human labels tells them."""
    found = {}
    for number, row in _human_rows(path):
        if row.get(CHANCE):
            try:
                chance = float(row[CHANCE])
            except ValueError:
                chance = 0.0
            if not 0 < chance <= 1:
                raise DataError(f"{path}, line {number}: p is {row[CHANCE]!r}, must be above 0 and at most 1")
            found[as_given(row["post_id"])] = chance
    return found


# ------------------------------------------------------------------------------------------- drift


def ask_anchors(
    sample: Path,
    brief: Brief,
    keys: dict[str, Keys | None],
    digests: dict[str, str],
    store: AnswerStore,
    done: Round,
    task: str,
    company: Mapping[str, Brief] | None = None,
) -> list[Drift]:
    """Answers of two versions to the same questions, where the version that the server reports has changed.

    A fixed set of the posts that the older version answered is then asked again: with other tasks those that were
    asked so, alone the others. Answers of another model of params to the same questions are compared too; they cost
    nothing.
    """
    settings = brief.settings
    if not settings.anchors or settings.teacher.base_url == "demo":
        return []
    own = [one.votes[0] for one in keys.values() if one]
    versions = store.models(own)
    result = _other_models(brief, {digests[key]: key for key in own}, versions, store)
    if len(versions) > 1:
        found = store.get(own)
        newest = versions[-1]
        old = sorted(
            key
            for key, one in found.items()
            if one.status == "ok" and one.model != newest and bool(one.asked_with) == bool(company)
        )
        turn = f"anchor {newest}"
        chosen = {brief.key(digests[key], settings.teacher, turn): key for key in old[: settings.anchors]}
        missing = chosen.keys() - store.known(chosen)
        if missing:
            say(f"annotate: {settings.teacher.model} now answers as {newest}; {len(missing)} anchors are asked again")
            todo = {chosen[key]: key for key in missing}
            others = Company(task, company, store.known, turn) if company else None
            once_more = questions(sample, brief, keys, digests, set(todo), others)
            anchors = ((todo[key], digest, keyed(question, todo[key])) for key, digest, question in once_more)
            ask(anchors, len(todo), settings.teacher, brief, store, done, task)
        again = store.get(chosen)
        for version in versions[:-1]:
            pairs = [
                (value_of(found[key], brief.rubric), value_of(again.get(anchor), brief.rubric))
                for anchor, key in chosen.items()
                if found[key].model == version
            ]
            result.append(Drift(version, newest, [(a, b) for a, b in pairs if a is not None and b is not None]))
    return result


def _other_models(brief: Brief, mine: dict[str, str], models: list[str], store: AnswerStore) -> list[Drift]:
    """The same questions as the last other model of this rubric answered them; `mine`: question -> key."""
    second = brief.settings.second_teacher
    known = [*models, *([second.model] if second else [])]
    others: dict[str, dict[str, Answer]] = {}
    for answer in store.answers_to(mine, without=known):
        others.setdefault(str(answer.model), {})[str(answer.question)] = answer
    if not others or not models:
        return []
    model, old = list(others.items())[-1]
    new = store.get(mine[question] for question in old)
    pairs = [(value_of(one, brief.rubric), value_of(new.get(mine[q]), brief.rubric)) for q, one in old.items()]
    return [Drift(model, models[-1], [(a, b) for a, b in pairs if a is not None and b is not None])]


def drift_figures(found: Sequence[Drift], target: Target) -> dict[str, Any]:
    """Agreement of each two versions."""
    figures = [
        {"from": one.before, "to": one.after} | agreement([a for a, _ in one.pairs], [b for _, b in one.pairs], target)
        for one in found
        if one.pairs
    ]
    return {"drift": figures} if figures else {}


def read_times(path: Path | None) -> Times:
    """When a person coded a post, where the table of human labels tells it."""
    return {(as_given(row["post_id"]), row["coder"]): row[TIME] for _, row in _human_rows(path) if row.get(TIME)}


def write_humans(
    path: Path, found: Humans, chances: Mapping[str, float] | None = None, times: Times | None = None
) -> None:
    """Write human labels, sorted, so that the file can be kept in git; it is there whole or as it was.

    `chances` of posts to be coded, `times` when they were (the column is left out where none is known).
    """
    chances, times = chances or {}, times or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*HUMAN_COLUMNS, CHANCE, *([TIME] if times else [])])
        for post in sorted(found):
            for coder in sorted(found[post]):
                value = found[post][coder]
                text = (
                    json.dumps(value)
                    if isinstance(value, list)
                    else f"{value:g}"
                    if isinstance(value, float)
                    else value
                )
                when = [times.get((post, coder), "")] if times else []
                writer.writerow([harmless(post), coder, harmless(text), chances.get(post, ""), *when])
    partial.replace(path)
