"""Sample + rubric + answer store -> labels table. What is stored is not asked again.

The table depends on its inputs alone: it is rebuilt whole from the store each time. What was asked
now and what came from the store is in the returned figures.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from assay.config import Annotate, AnyCorpus, Task, Teacher
from assay.errors import DataError, RowError, TooManyFailures
from assay.parallel import without_loop
from assay.posts import gold_names, shards, stream
from assay.progress import say
from assay.remote.answers import COLUMNS, Answer, AnswerStore
from assay.remote.faults import counted
from assay.targets import Target
from assay.teacher.ask import ask
from assay.teacher.asking import Round
from assay.teacher.brands import brand_figures
from assay.teacher.corrections import corrected
from assay.teacher.dry_run import write_requests
from assay.teacher.labels import LabelsFile, labelled, row_of
from assay.teacher.privacy import handles
from assay.teacher.quality import (
    Humans,
    agreement_figures,
    ask_anchors,
    by_no_review,
    drift_figures,
    read_humans,
    write_people,
)
from assay.teacher.questions import Brief, Company, Keys, all_keys, each, questions, rows
from assay.teacher.rubric import Rubric, gold_value
from assay.text import BrandIndex

LABEL_ROWS = 1000  # of the table that are in memory at once


@without_loop
def annotate(
    sample: Path,
    out: Path,
    *,
    settings: Annotate,
    target: Target,
    rubric: Path,
    task: str = "",
    keep_handles: Sequence[str] = (),
    humans: Path | None = None,
    people_out: Path | None = None,
    committed: Path | None = None,
    company: Mapping[str, Brief] | None = None,
    dictionary: BrandIndex | None = None,
) -> dict[str, Any]:
    """Label the sample and write the labels table to `out`; returns the figures of annotate.json, and `speed`.

    `task` names what a budget is for, `keep_handles` are handles of brands, which stay in texts, and
    `humans` is the table of human labels, where there is one, which goes to `people_out` as the report reads it;
    `committed` is the labels table whose version at HEAD can fill the store (default: `out`); `company` are the tasks
    of `ask_with`, whose answers are kept for them; the brands that a teacher names are compared with `dictionary`.
    TeacherError, after everything that was answered is kept and without writing `out`, when the account was refused,
    the budget is spent or more than `max_failed_share` failed for passing reasons.
    """
    people = write_people(humans, target, people_out) if people_out else read_humans(humans, target)
    if settings.source == "column":
        with LabelsFile(out, target) as file:
            own = _from_column(sample, str(settings.column), target)
            file.add(corrected(own, people, target) if settings.people == "learn" else own)
            return file.finish() | {"asked": 0, "from_store": 0}
    brief = Brief(Rubric.load(rubric, target, brands=settings.brands), settings, keep_handles)
    keys, digests = all_keys(sample, brief)
    with AnswerStore() as store:
        if settings.dry_run:
            write_requests(sample, brief, keys, digests, store, Path(settings.dry_run), task or out.stem, company)
        done = _ask_missing(
            sample, brief, keys, digests, store, seed=str(committed or out), task=task or out.stem, company=company
        )
        drift = ask_anchors(sample, brief, keys, digests, store, done, task or out.stem, company)
        with LabelsFile(out, target, rubric=brief.rubric.text) as file:
            compared, named = _write(sample, brief, keys, store, done, file, people)
            if file.posts and file.passing / file.posts > settings.max_failed_share:
                raise TooManyFailures(
                    f"{file.passing} of {file.posts} posts failed for passing reasons "
                    f"({counted(done.passing.values())}), over annotate.max_failed_share "
                    f"{settings.max_failed_share:g}; all answers are kept, run again to ask the rest"
                )
            if file.lacking():
                say(f"annotate: {file.lacking()}; `assay answers --ask-again REASON` has them asked again")
            figures = file.finish()
    figures |= {
        "asked": done.asked,
        "from_store": done.from_store,
        "speed": done.speed(settings.teacher.model, _a_post(keys)),
    }
    if dictionary is not None and settings.brands:
        figures["brands"] = brand_figures(named, dictionary)
    return figures | agreement_figures(compared, target, by_no_review(humans, people)) | drift_figures(drift, target)


def _write(
    sample: Path,
    brief: Brief,
    keys: dict[str, Keys | None],
    store: AnswerStore,
    done: Round,
    file: LabelsFile,
    people: Humans,
) -> tuple[list[dict[str, Any]], list[tuple[list[str], list[str]]]]:
    """Write the table from the store, some rows at a time.

    Returns the rows that agreement is measured on, and the brands of the teacher and of the dictionary a post.
    """
    compared, named = [], []
    spoilt: dict[str, str] = {}
    columns = ["post_id", "text", "inclusion_p", *(["brands"] if brief.rubric.brands else [])]
    for batch in stream(sample, columns, LABEL_ROWS):
        answers = store.get(each(keys[row["post_id"]] for row in batch))
        found = [labelled(row, keys[row["post_id"]], answers, done.passing, brief.rubric, spoilt) for row in batch]
        told = corrected(found, people, brief.rubric.target) if brief.settings.people == "learn" else found
        file.add(told, {post for post in (row["post_id"] for row in batch) if _is_open(keys[post], answers)})
        compared += [
            {name: row[name] for name in ("post_id", "value", "repeat", "second")}
            for row in found
            if row["status"] == "ok" and _is_compared(row, people)
        ]
        named += [
            (row["brands"], post["brands"])
            for row, post in zip(found, batch, strict=True)
            if row["status"] == "ok" and row["brands"] is not None
        ]
    store.mark_invalid(spoilt)
    return compared, named


def _a_post(keys: dict[str, Keys | None]) -> float:
    """Questions a post, the mean of those that have any: votes and repeats count."""
    counts = [len(one.turns()) for one in keys.values() if one]
    return sum(counts) / len(counts) if counts else 1.0


def _is_open(own: Keys | None, answers: dict[str, Answer]) -> bool:
    """Whether a vote of a post has no answer: it failed for a passing reason, or was not asked."""
    return own is not None and any(key not in answers for key in own.votes)


def _is_compared(row: dict[str, Any], people: Humans) -> bool:
    return row["repeat"] is not None or row["second"] is not None or row["post_id"] in people


def brief_of(name: str, task: Task, corpus: AnyCorpus, rubrics: Path) -> Brief:
    """The brief of a task of params, whose rubric lies in `rubrics`."""
    rubric = Rubric.load(rubrics / task.annotate.rubric_file(name), task.target, brands=task.annotate.brands)
    return Brief(rubric, task.annotate, handles(corpus))


def _ask_missing(
    sample: Path,
    brief: Brief,
    keys: dict[str, Keys | None],
    digests: dict[str, str],
    store: AnswerStore,
    *,
    seed: str,
    task: str,
    company: Mapping[str, Brief] | None = None,
) -> Round:
    wanted = set(each(keys.values()))
    missing = wanted - store.known(wanted)
    if missing:
        missing -= _seed(store, missing, seed)
    done = Round(from_store=len(wanted) - len(missing))
    settings = brief.settings
    second = {one.second for one in keys.values() if one and one.second}
    for name, other in (company or {}).items():  # what these tasks have committed is not asked along either
        theirs = set(each(all_keys(sample, other)[0].values()))
        lacking = theirs - store.known(theirs)
        if lacking and missing:
            _seed(store, lacking, str(Path(seed).with_name(f"{name}.parquet")))
    others = Company(task, company, store.known) if company else None
    todo_by_teacher: list[tuple[Teacher, set[str]]] = [(settings.teacher, missing - second)]
    if settings.second_teacher:
        todo_by_teacher.append((settings.second_teacher, missing & second))
    for teacher, todo in todo_by_teacher:
        if todo:
            asked = questions(sample, brief, keys, digests, todo, others)
            started = time.perf_counter()
            ask(asked, len(todo), teacher, brief, store, done, task)
            done.seconds += time.perf_counter() - started
    done.earlier_per_s = store.rate(settings.teacher.model)
    for name, count in (others.asked if others else {}).items():
        say(f"annotate: for {count} of these posts {name} went into the same calls")
    say(f"annotate: {len(wanted)} questions, {done.from_store} from the store, {done.asked} asked now")
    return done


def _seed(store: AnswerStore, missing: set[str], path: str) -> set[str]:
    """Fill the store from the labels table committed at HEAD, where DVC can get it; returns the keys."""
    import dvc.api

    if Path(path).is_absolute():  # of no repository: asked as a library
        return set()
    try:
        table = pq.read_table(io.BytesIO(dvc.api.read(path, rev="HEAD", mode="rb")))
    except Exception as error:  # a remote's own errors too: seeding only saves money
        say(
            "annotate: no committed labels to seed the answer store from (none at HEAD, or no DVC remote has them: "
            f"{type(error).__name__})"
        )
        return set()
    kept = [
        one
        for row in table.to_pylist()
        for one in row.get("answers") or []
        if one["key"] in missing and one["status"] == "ok"
    ]
    answers = {one["key"]: Answer(**{name: one.get(name) for name in COLUMNS}) for one in kept}
    store.put(list(answers.values()), from_elsewhere=True)
    say(f"annotate: {len(answers)} answers taken over from the labels committed at HEAD")
    return set(answers)


def _from_column(sample: Path, column: str, target: Target) -> list[dict[str, Any]]:
    names = gold_names(pq.read_schema(shards(sample)[0]))
    if column not in names:
        raise DataError(
            f"annotate.column: the corpus has no gold column {column!r}; allowed: {', '.join(names) or 'none'}"
        )
    found = []
    for row in rows(sample, ["post_id", "inclusion_p", f"gold_{column}"]):
        try:
            value = gold_value(row[f"gold_{column}"], target)
            found.append(row_of(row, target, status="ok", value=value, how="column"))
        except RowError as error:
            found.append(row_of(row, target, status="failed", reason=str(error), how="column"))
    return found
