"""The tab on which many posts are scored at once: a table, a folder of pictures, or both; a CSV comes back."""

from __future__ import annotations

import asyncio
import csv
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from assay.corpora.sheets import SUFFIXES
from assay.errors import CorpusError, Refusal
from assay.measure.csvfile import harmless
from assay.scoring.prediction import Prediction
from assay.scoring.scores import heads, told
from assay.serve.inputs import Asked, check_post
from assay.serve.models import Served
from assay.serve.page import cards
from assay.serve.page.backend import Backend
from assay.serve.page.doors import COOKIE
from assay.serve.page.given import MOST_POSTS, File, Given, Row, read_given
from assay.targets import Target

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
OF_PICTURES = ("undecodable_image", "decompression_bomb")
TOGETHER = 16  # posts in a request to the model, of which this page has one at a time
PATIENCE_S = 300.0  # with a server that is busy, before a post counts as not scored
AT_ONCE = 2  # uploads that are scored at the same time; others wait

Scored = list[dict[str, Prediction]]


def many_tab(backend: Backend) -> None:
    """Files in, progress, and the scores beside the rows that they are of."""
    gr.HTML(
        f'<p class="a-note">A table of at most {MOST_POSTS:,} posts ({", ".join(name[1:] for name in SUFFIXES)}), '
        "whose columns of texts and pictures are found by themselves; a folder of pictures; or both, where the table "
        "names the pictures. <code>assay predict</code> takes any number.</p>"
    )
    with gr.Row():
        with gr.Column(min_width=280):
            table = _upload(backend, "A table", "single", 140, "table")
        with gr.Column(min_width=280):
            pictures = _upload(backend, "A folder of pictures", "directory", 140, "folder")
    model = gr.Dropdown(backend.models, value=backend.models[0], label="Model", visible=len(backend.models) > 1)
    with gr.Row():
        go = gr.Button("Score all", variant="primary", elem_id="score-all")
        stop = gr.Button("Stop", elem_id="stop-all")
    shown = gr.HTML(cards.waiting("Choose files, and press Score all."), elem_id="many")
    download = gr.DownloadButton("Download the scores (CSV)", visible=False, elem_id="download")

    async def score(
        table: list[File], pictures: list[File], model: str, request: gr.Request
    ) -> AsyncIterator[tuple[str, Any]]:
        hidden = gr.update(visible=False)
        try:
            given = await asyncio.to_thread(read_given, table[0] if table else None, pictures)
            if len(given.rows) > MOST_POSTS:
                raise CorpusError(f"{len(given.rows):,} pictures; this page takes at most {MOST_POSTS:,}")
            found: Scored = []
            begun = time.monotonic()
            yield cards.progress(0, len(given.rows), 0.0), hidden
            for start in range(0, len(given.rows), TOGETHER):
                served, part = await _scored(backend, model, given.rows[start : start + TOGETHER], _caller(request))
                found += part
                yield cards.progress(len(found), len(given.rows), time.monotonic() - begun), hidden
            path = await asyncio.to_thread(_written, given, found, served)
        except (CorpusError, Refusal) as error:
            yield cards.refused(str(error)), hidden
            return
        except OSError as error:
            yield cards.refused(f"The files could not be read ({error.strerror or error}); upload them again."), hidden
            return
        for one in (path, save_file_to_cache(path, os.environ["GRADIO_TEMP_DIR"])):
            backend.uploads.add(request.cookies.get(COOKIE, ""), [str(one)])
        yield cards.many(given, found, served, time.monotonic() - begun), gr.update(value=str(path), visible=True)

    event = go.click(
        score, [table, pictures, model], [shown, download], trigger_mode="once", concurrency_limit=AT_ONCE, **PRIVATE
    )
    stopped = cards.waiting("Stopped. Nothing is kept of what was scored; press Score all to begin again.")
    stop.click(None, None, None, cancels=[event]).then(  # not before the last word of what is stopped
        lambda: (stopped, gr.update(visible=False)), None, [shown, download], **PRIVATE
    )


def _upload(backend: Backend, label: str, count: Any, height: int, name: str) -> gr.File:
    """Files as they came: our own readers open them, and only those that this browser uploaded (see doors.py)."""
    found = gr.File(label=label, file_count=count, height=height, elem_id=name)

    def files(payload: Any) -> list[File]:
        listed = [] if payload is None else list(payload) if hasattr(payload, "root") else [payload]
        if not all(backend.uploads.is_file(one.path) for one in listed):
            raise gr.Error("These files were not uploaded from here; upload them again.", print_exception=False)
        return [File(str(one.orig_name or Path(one.path).name), Path(one.path)) for one in listed]

    found.preprocess = files  # type: ignore[method-assign, assignment]
    return found


async def _scored(backend: Backend, model: str, rows: list[Row], caller: str) -> tuple[Served, Scored]:
    """Answers to some rows, each with the reasons of its own; Refusal where the server has no time for long."""
    patience = time.monotonic() + PATIENCE_S
    while True:
        posts = await asyncio.to_thread(_read, rows)
        asked = Asked(model, [None] * len(rows), posts, partial=True, several=True, in_order=True)
        for number, (body, files) in enumerate(posts):
            try:
                check_post(body, files, backend.options)
            except Refusal as refusal:
                asked.faults[number] = refusal
        try:
            served, found = await backend.score_many(asked, caller)
        except Refusal as refusal:  # too busy, too many a minute
            if not refusal.retry_after_s or time.monotonic() > patience:
                raise
            await asyncio.sleep(min(max(refusal.retry_after_s, 0.2), 10.0))
            continue
        spoilt = False
        for row, fault in [(rows[number], fault) for number, fault in asked.faults.items()]:
            if fault.code in OF_PICTURES and row.text and row.pictures:  # the text alone, as in the pipeline
                row.lost.append(f"{fault.code}: {fault.detail}")
                row.pictures.clear()
                spoilt = True
        if not spoilt:
            return served, found


def _read(rows: list[Row]) -> list[tuple[str, list[bytes]]]:
    return [(row.text, [path.read_bytes() for path in row.pictures]) for row in rows]


def _written(given: Given, found: Scored, served: Served) -> Path:
    """The rows with their own columns and the answers beside them, as a file."""
    folder = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))
    targets = served.predictor.targets
    with open(folder / "scores.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [name for task, target in targets.items() for name in heads(task, target)]
        writer.writerow([harmless(name) for name in (*given.columns, *columns)])
        for row, by_task in zip(given.rows, found, strict=True):
            own = [row.cells.get(name) for name in given.columns]
            answers = [cell for task, target in targets.items() for cell in _cells(by_task[task], row, target)]
            writer.writerow([harmless(value) for value in (*own, *answers)])
    return folder / "scores.csv"


def _cells(one: Prediction, row: Row, target: Target) -> list[Any]:
    low, high = one.interval or (None, None)
    shares = list(one.probabilities.values()) if one.probabilities else None
    found = one.as_row() | {"interval_low": low, "interval_high": high, "probabilities": shares}
    return told(found | {"reason": row.reason(one) or None}, target)


def _caller(request: gr.Request) -> str:
    return request.client.host if request and request.client else ""
