"""The tab on which many posts are scored at once: a table, a folder of pictures, or both; a CSV comes back."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from assay.corpora.sheets import SUFFIXES
from assay.errors import CorpusError, Refusal
from assay.serve.page import cards
from assay.serve.page.backend import Backend, caller
from assay.serve.page.doors import COOKIE
from assay.serve.page.given import MOST_POSTS, File, read_apart
from assay.serve.page.job import Job, write_scores

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
READING = "Reading the files …"
AT_ONCE = 2  # uploads that are scored at the same time; others wait


def many_tab(backend: Backend) -> None:
    """Files in, progress, and the scores beside the rows that they are of."""
    gr.HTML(
        f'<p class="a-note">A table of at most {MOST_POSTS:,} posts ({", ".join(name[1:] for name in SUFFIXES)}), '
        "whose columns of texts and pictures are found by themselves; a folder of pictures; or both, where the table "
        f"names the pictures. At most {backend.options.max_upload_mib:g} MiB at once; <code>assay predict</code> takes "
        "any number.</p>"
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
        begun = time.monotonic()
        yield cards.waiting(READING), hidden
        try:
            given = await asyncio.to_thread(read_apart, table[0] if table else None, pictures)
            job = Job(backend, model, given, caller(request))
            yield cards.progress(0, len(given.rows), 0.0), hidden
            async for done in job.run():
                yield cards.progress(done, len(given.rows), time.monotonic() - begun), hidden
            if job.served is None:
                raise CorpusError("no row to score")
            path = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])) / "scores.csv"
            await asyncio.to_thread(write_scores, given, job.found, job.served.predictor.targets, path)
        except (CorpusError, Refusal) as error:
            yield cards.refused(str(error)), hidden
            return
        except OSError as error:
            yield cards.refused(f"The files could not be read ({error.strerror or error}); upload them again."), hidden
            return
        backend.uploads.add(request.cookies.get(COOKIE, ""), [str(path)])
        card = cards.many(given, job.found, job.served, time.monotonic() - begun)
        yield card, gr.update(value=str(path), visible=True)

    event = go.click(
        score, [table, pictures, model], [shown, download], trigger_mode="once", concurrency_limit=AT_ONCE, **PRIVATE
    )
    stopped = cards.waiting("Stopped. Nothing is kept of what was scored; press Score all to begin again.")

    def stop_shown(now: str) -> tuple[Any, Any]:
        """Nothing where nothing runs."""
        runs = "progressbar" in now or READING in now
        return (stopped, gr.update(visible=False)) if runs else (gr.update(), gr.update())

    stop.click(None, None, None, cancels=[event]).then(  # not before the last word of what is stopped
        stop_shown, shown, [shown, download], **PRIVATE
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
