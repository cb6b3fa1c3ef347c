"""Builds the page and hangs it into the application."""

from __future__ import annotations

import asyncio
import atexit
import hmac
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from assay.errors import AssayError, Refusal, SettingsError
from assay.scoring.explain import Explanation, explain
from assay.scoring.predict import Prediction, Predictor
from assay.serve.docs import PATHS
from assay.serve.inputs import Asked, check_post, packed
from assay.serve.models import Served
from assay.serve.options import posts_shown
from assay.serve.page.corpus import Corpus
from assay.serve.page.doors import Doors, Uploads
from assay.serve.service import Service
from assay.student.model import load_trained

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1f3a5f"/>'
    '<path d="M6 20h20" stroke="#b9d2f1" stroke-width="5" stroke-linecap="round"/>'
    '<circle cx="19" cy="20" r="5" fill="#fff"/><path d="M8 10h9" stroke="#fff" stroke-width="4"/></svg>'
)
OPERATIONS = ("/healthz", "/readyz", "/metrics", "/openapi.json", *PATHS)
STEPS = 24  # of integrated gradients


class Backend:
    """What the page asks of the server."""

    def __init__(self, service: Service, uploads: Uploads) -> None:
        self.service, self.options, self.uploads = service, service.options, uploads
        self.models = [path.name for path in self.options.models]
        self._copies: dict[str, tuple[str, Predictor]] = {}
        self._one = asyncio.Lock()
        self.posts = posts_shown(self.options, service.keys)

    def corpora(self) -> dict[str, Corpus]:
        """The scored corpora, by model and task as people read it."""
        found = {}
        for folder in self.options.models:
            try:
                targets = load_trained(folder).targets
            except AssayError:  # the server tells when it starts
                continue
            for task, target in targets.items():
                one = Corpus.of(folder, task, target)
                if one is not None:
                    found[folder.name if task == folder.name else f"{folder.name}: {task}"] = one
        return found

    async def asked(self, model: str, text: str, picture: str | None) -> Asked:
        """A post as it came from the page; Refusal where it is over a limit."""
        files = [await asyncio.to_thread(Path(picture).read_bytes)] if picture else []
        check_post(text or "", files, self.options)
        return Asked(model, [None], [(text or "", files)])

    async def score(self, asked: Asked, caller: str) -> tuple[Served, dict[str, Prediction]]:
        """The answers to a post, through the same queue as those of the API."""
        self.service.rates.take(caller)
        if not self.service.ready:
            raise Refusal(503, "loading", "the models are still loading; try again in a moment", retry_after_s=2)
        served, found = await self.service.predict(asked, time.monotonic() + self.options.timeout_s)
        return served, found[0]

    async def explain(self, asked: Asked, task: str, answer: str | None) -> Explanation:
        """What an answer rests on, by a copy of the model, since gradients may not run through the one at work."""
        served = self.service.models.get(asked.model)
        async with self._one:
            return await asyncio.to_thread(self._explained, served, asked, task, answer)

    def _explained(self, served: Served, asked: Asked, task: str, answer: str | None) -> Explanation:
        version, predictor = self._copies.get(served.name, ("", None))
        if predictor is None or version != served.version:
            predictor = Predictor(served.predictor.trained, max_pixels=self.options.max_pixels, cached=False)
            self._copies[served.name] = served.version, predictor
        made = served.predictor.trained.preprocessing
        post = packed(asked, image_px=made["image_px"], max_images=1, max_pixels=self.options.max_pixels)[0]
        image = post.images[0][1] if post.images else None
        return explain(predictor, text=post.text, image=image, task=task, answer=answer, steps=STEPS)


def mount(app: FastAPI, service: Service, path: str) -> None:
    """Hang the page into the application below `path`; SettingsError where gradio is lacking."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is told to anybody
    folder = tempfile.mkdtemp(prefix="assay-page-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        import gradio as gr
    except ImportError as error:
        raise SettingsError("the page needs gradio: pip install 'assay[page]', or say --no-page") from error
    from assay.serve.page import cards
    from assay.serve.page.build import build

    max_bytes = int(service.options.max_body_mib * 2**20)
    uploads = Uploads(Path(folder), max_bytes=max_bytes)
    backend = Backend(service, uploads)
    blocks = build(backend, api=service.options.api)
    blocks.has_launched = True  # else the library checks no path (processing_utils._check_allowed)
    app.add_middleware(Doors, place=path, uploads=uploads, others=OPERATIONS)

    def known(_: str, key: str) -> bool:
        given = key.encode("utf-8", "replace")
        same = [hmac.compare_digest(given, one.encode()) for one in service.keys]  # all of them: time tells nothing
        return any(same)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    if path != "/":

        @app.get("/", include_in_schema=False)
        @app.get(path, include_in_schema=False)
        async def to_page() -> RedirectResponse:
            return RedirectResponse(f"{path}/")

    settings: dict[str, Any] = {}
    if service.keys:
        settings = {"auth": known, "auth_message": "Any name; the password is one of this server's keys."}
    gr.mount_gradio_app(
        app,
        blocks,
        path=path,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=max_bytes,
        ssr_mode=False,
        css_paths=[cards.CSS],
        theme=gr.themes.Soft(
            primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        **settings,
    )
