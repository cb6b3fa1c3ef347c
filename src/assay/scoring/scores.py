"""A student's scores beside the rows of the table that the posts came from, as CSV for people."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import Params, TableCorpus
from assay.corpora import cells
from assay.corpora.sheets import kind_of, open_sheet
from assay.corpora.table import Table, open_layout, places
from assay.errors import CorpusError, DataError, RowError, SettingsError
from assay.measure.csvfile import harmless
from assay.posts import shards
from assay.progress import say
from assay.targets import NUMBER, Target

DROPPED = "dropped"  # a row that became no post: data/corpora/<corpus>/problems.parquet says why
REPEATED = "repeated"  # a row with the id of an earlier one, which alone became a post
COLUMNS = ("status", "value", "probabilities", "interval_low", "interval_high", "prediction_set", "unlike", "reason")


def write_scores(name: str, params: Params, data: Path, out: Path) -> dict[str, int]:
    """Write every row of the task's table, all its columns first, then what the student says of it.

    Of corpora that are no table the rows are posts by id. Returns how many rows have which status; DataError where the
    corpus was not scored.
    """
    if name not in params.tasks:
        raise SettingsError(f"no task {name!r}; allowed: {', '.join(params.tasks)}")
    task = params.tasks[name]
    joints = [joint for joint, members in params.joint.items() if name in members]
    folders = [data / "predictions" / name, *(data / "predictions" / joint / name for joint in joints)]
    folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        raise DataError(f"{folders[0]} is not there; run `dvc repro infer@{name}` first")
    scored = pa.concat_tables([pq.read_table(path, columns=["post_id", *COLUMNS]) for path in shards(folder)])
    place = {post_id: row for row, post_id in enumerate(scored["post_id"].to_pylist())}
    corpus = params.corpora[task.corpus]
    if isinstance(corpus, TableCorpus):
        layout = open_layout(corpus, places(corpus))
        own_places = {path.resolve() for path in layout.files}
        if out.resolve() in own_places or (
            len(own_places) > 1 and out.resolve().parent in {p.parent for p in own_places}
        ):
            raise SettingsError(f"{out}: there lie the corpus' own tables; name a file elsewhere")
        columns, rows = _source(layout, corpus)
    else:
        columns, rows = ["post_id"], (("", post_id, {"post_id": post_id}) for post_id in place)
    if out.is_dir():
        raise SettingsError(f"{out} is a folder; name a file")
    why = _dropped(data / "corpora" / task.corpus / "problems.parquet")
    counts: dict[str, int] = {}
    seen: set[str] = set()
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([harmless(column) for column in (*columns, *heads(name, task.target))])
        for source, post_id, row in rows:
            at = place.get(post_id) if post_id is not None and source not in why else None
            status = DROPPED if at is None else REPEATED if post_id in seen else None
            found = {"reason": why.get(source)} if at is None or status else scored.slice(at, 1).to_pylist()[0]
            own = told(found | ({"status": status} if status else {}), task.target)
            counts[own[0]] = counts.get(own[0], 0) + 1
            seen |= {post_id} if post_id is not None and at is not None else set()
            writer.writerow([harmless(value) for value in (*(row.get(column) for column in columns), *own)])
    partial.replace(out)
    return counts


def _dropped(path: Path) -> dict[str, str]:
    """By source row, why it became no post; {} where no problems are there."""
    if not path.exists():
        return {}
    rows = pq.read_table(path, columns=["source", "severity", "code"]).to_pylist()
    return {row["source"]: row["code"] for row in rows if row["severity"] == "dropped"}


_Rows = Iterator[tuple[str, str | None, dict[str, Any]]]
"""Of each row its place (file:number), its post's id (None: it has none), and its cells."""


def _source(layout: Table, corpus: TableCorpus) -> tuple[list[str], _Rows]:
    """All columns of the corpus' tables, and their rows."""
    wanted = list(corpus.columns.named.values())
    columns: dict[str, None] = {}
    files = []
    for path in layout.files:
        try:
            sheet = open_sheet(path, _wanted(path, wanted), layout.options)
            found = sheet.columns or chain.from_iterable(
                one.data for one in sheet.rows if not isinstance(one.data, RowError)
            )
            columns |= dict.fromkeys(map(str, found))
            files.append(path)
        except CorpusError as error:
            if len(layout.files) == 1:
                raise
            say(f"export: {error}")  # which ingest has left out as well

    def rows() -> _Rows:
        for path in files:
            for line in open_sheet(path, _wanted(path, wanted), layout.options).rows:
                data = {} if isinstance(line.data, RowError) else line.data
                post_id = cells.identifier(cells.flat(data.get(corpus.columns.id)), [])
                yield f"{path.name}:{line.number}", post_id, data

    return list(columns), rows()


def _wanted(path: Path, mapped: list[str]) -> list[str]:
    """What to read of a table: of Parquet, which reads no more than is named, all columns."""
    return list(pq.read_schema(path).names) if kind_of(path) == ".parquet" else mapped


def heads(name: str, target: Target) -> list[str]:
    """The names of the columns in which a task's answers stand."""
    start = f"assay_{name}"
    if target.shape == NUMBER:
        return [f"{start}_status", start, f"{start}_low", f"{start}_high", f"{start}_unlike", f"{start}_reason"]
    shares = [f"{start}_p_{one}" for one in target.groups]
    return [f"{start}_status", start, f"{start}_set", *shares, f"{start}_unlike", f"{start}_reason"]


def told(found: dict[str, Any], target: Target) -> list[Any]:
    """The cells of a row; empty where there is nothing to say."""
    value, shares = found.get("value"), found.get("probabilities")
    listed = ", ".join(value) if isinstance(value, list) else value
    first = [found["status"], _short(listed)]
    last = [found.get("unlike"), found.get("reason")]
    if target.shape == NUMBER:
        return [*first, _short(found.get("interval_low")), _short(found.get("interval_high")), *last]
    likely = ", ".join(found.get("prediction_set") or [])
    return [*first, likely, *([_short(one) for one in shares] if shares else [None] * len(target.groups)), *last]


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
