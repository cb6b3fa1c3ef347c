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
from assay.corpora.sheets import open_sheet
from assay.corpora.table import Table, open_layout, places
from assay.errors import DataError, RowError, SettingsError
from assay.measure.csvfile import harmless
from assay.posts import shards
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
    own = [joint for joint, members in params.joint.items() if name in members]
    folders = [data / "predictions" / name, *(data / "predictions" / joint / name for joint in own)]
    folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        raise DataError(f"{folders[0]} is not there; run `dvc repro infer@{name}` first")
    scored = pa.concat_tables([pq.read_table(path, columns=["post_id", *COLUMNS]) for path in shards(folder)])
    place = {post_id: row for row, post_id in enumerate(scored["post_id"].to_pylist())}
    corpus = params.corpora[task.corpus]
    if isinstance(corpus, TableCorpus):
        layout = open_layout(corpus, places(corpus))
        columns, rows = _source(layout, corpus)
    else:
        columns, rows = ["post_id"], ((post_id, {"post_id": post_id}) for post_id in place)
    counts: dict[str, int] = {}
    seen: set[str] = set()
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([harmless(column) for column in (*columns, *_heads(name, task.target))])
        for post_id, row in rows:
            at = place.get(post_id) if post_id is not None else None
            status = DROPPED if at is None else REPEATED if post_id in seen else None
            found = {} if at is None or status else scored.slice(at, 1).to_pylist()[0]
            told = _told(found | ({"status": status} if status else {}), task.target)
            counts[told[0]] = counts.get(told[0], 0) + 1
            seen |= {post_id} if post_id is not None else set()
            writer.writerow([harmless(value) for value in (*(row.get(column) for column in columns), *told)])
    partial.replace(out)
    return counts


def _source(layout: Table, corpus: TableCorpus) -> tuple[list[str], Iterator[tuple[str | None, dict[str, Any]]]]:
    """All columns of the corpus' tables, and their rows with the ids of posts; None for rows that cannot be read."""
    files = [path for path in layout.files if str(path) not in layout.unread]
    columns: dict[str, None] = {}
    for path in files:
        sheet = open_sheet(path, list(corpus.columns.named.values()), layout.options)
        found = sheet.columns or chain.from_iterable(
            one.data for one in sheet.rows if not isinstance(one.data, RowError)
        )
        columns |= dict.fromkeys(map(str, found))

    def rows() -> Iterator[tuple[str | None, dict[str, Any]]]:
        for path in files:
            for line in open_sheet(path, list(corpus.columns.named.values()), layout.options).rows:
                data = {} if isinstance(line.data, RowError) else line.data
                yield cells.identifier(cells.flat(data.get(corpus.columns.id)), []), data

    return list(columns), rows()


def _heads(name: str, target: Target) -> list[str]:
    start = f"assay_{name}"
    if target.shape == NUMBER:
        return [f"{start}_status", start, f"{start}_low", f"{start}_high", f"{start}_unlike", f"{start}_reason"]
    shares = [f"{start}_p_{one}" for one in target.groups]
    return [f"{start}_status", start, f"{start}_set", *shares, f"{start}_unlike", f"{start}_reason"]


def _told(found: dict[str, Any], target: Target) -> list[Any]:
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
