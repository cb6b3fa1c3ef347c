"""Sample + rubric + answer store -> labels table. What is stored is not asked again.

The table depends on its inputs alone: it is rebuilt whole from the store each time. What was asked
now and what came from the store is in the returned figures.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import Annotate, AnyCorpus, Target, Teacher
from assay.errors import DataError, RowError, TooManyFailures
from assay.posts import gold_names, shards, write_table
from assay.progress import say
from assay.teacher.answers import COLUMNS, Answer, AnswerStore
from assay.teacher.asking import Round, ask
from assay.teacher.dry_run import write_requests
from assay.teacher.labels import figures, label_schema, labelled, row_of
from assay.teacher.quality import agreement_figures, ask_anchors, drift_figures, read_humans
from assay.teacher.questions import Asker, Keys, all_keys, each, questions, rows
from assay.teacher.rubric import Rubric, gold_value


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
) -> dict[str, Any]:
    """Label the sample and write the labels table to `out`; returns the figures of annotate.json.

    `task` names what a budget is for, `keep_handles` are handles of brands, which stay in texts, and
    `humans` is the table of human labels, where there is one. TeacherError, after everything that was
    answered is kept and without writing `out`, when the account was refused, the budget is spent or
    more than `max_failed_share` failed for passing reasons.
    """
    if settings.source == "column":
        found = _from_column(sample, str(settings.column), target)
        return _finish(found, target, out, Round())
    asker = Asker(Rubric.load(rubric, target), settings, keep_handles)
    keys, digests = all_keys(sample, asker)
    with AnswerStore() as store:
        if settings.dry_run:
            write_requests(sample, asker, keys, store, Path(settings.dry_run))
        done = _ask_missing(sample, asker, keys, digests, store, seed=str(out), task=task or out.stem)
        drift = ask_anchors(sample, asker, keys, digests, store, done, task or out.stem)
        answers = store.get(each(keys.values()))
        found = [
            labelled(row, keys[row["post_id"]], answers, done.passing, asker.rubric)
            for row in rows(sample, ["post_id", "text", "inclusion_p"])
        ]
        extra = agreement_figures(found, target, read_humans(humans, target)) | drift_figures(drift, target)
    passing = [row for row in found if row["key"] in done.passing and row["status"] != "ok"]
    if found and len(passing) / len(found) > settings.max_failed_share:
        reasons = ", ".join(f"{n} {code}" for code, n in Counter(f.code for f in done.passing.values()).most_common())
        raise TooManyFailures(
            f"{len(passing)} of {len(found)} posts failed for passing reasons ({reasons}), over "
            f"annotate.max_failed_share {settings.max_failed_share:g}; all answers are kept, run again to ask the rest"
        )
    return _finish(found, target, out, done) | extra


def handles(corpus: AnyCorpus) -> list[str]:
    """The handles of a corpus' brands, which are no personal data."""
    return sorted({handle for brand in corpus.brands.values() for handle in brand.handles})


def _ask_missing(
    sample: Path,
    asker: Asker,
    keys: dict[str, Keys | None],
    digests: dict[str, str],
    store: AnswerStore,
    *,
    seed: str,
    task: str,
) -> Round:
    wanted = set(each(keys.values()))
    missing = wanted - store.get(wanted).keys()
    if missing:
        missing -= _seed(store, missing, seed)
    done = Round(from_store=len(wanted) - len(missing))
    settings = asker.settings
    second = {one.second for one in keys.values() if one and one.second}
    askers: list[tuple[Teacher, set[str]]] = [(settings.teacher, missing - second)]
    if settings.second_teacher:
        askers.append((settings.second_teacher, missing & second))
    for teacher, todo in askers:
        if todo:
            ask(questions(sample, asker, keys, digests, todo), len(todo), teacher, asker, store, done, task)
    say(f"annotate: {len(wanted)} questions, {done.from_store} from the store, {done.asked} asked now")
    return done


def _seed(store: AnswerStore, missing: set[str], path: str) -> set[str]:
    """Fill the store from the labels table committed at HEAD, where DVC can get it; returns the keys."""
    import dvc.api

    try:
        table = pq.read_table(io.BytesIO(dvc.api.read(path, rev="HEAD", mode="rb")))
    except Exception as error:  # a remote's own errors too: seeding only saves money
        say(
            "annotate: no committed labels to seed the answer store from (none at HEAD, or no DVC remote has them: "
            f"{type(error).__name__})"
        )
        return set()
    kept = [one for row in table.to_pylist() for one in row.get("answers") or [] if one["key"] in missing]
    answers = {one["key"]: Answer(**{name: one.get(name) for name in COLUMNS}) for one in kept}
    store.put(list(answers.values()))
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


def _finish(found: list[dict[str, Any]], target: Target, out: Path, done: Round) -> dict[str, Any]:
    if not any(row["status"] == "ok" for row in found):
        first = next((row["reason"] for row in found), "the sample is empty")
        raise DataError(f"no post got a label; the first reason: {first}")
    write_table(pa.Table.from_pylist(found, schema=label_schema(target)), out)
    return figures(found) | {"asked": done.asked, "from_store": done.from_store}
