"""Builds the page and hangs it into the application."""

from __future__ import annotations

import atexit
import hmac
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response

from assay.errors import SettingsError
from assay.places import with_extra
from assay.serve.docs import PATHS
from assay.serve.page.backend import Backend
from assay.serve.page.doors import Doors, Uploads
from assay.serve.service import Service

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1f3a5f"/>'
    '<path d="M6 20h20" stroke="#b9d2f1" stroke-width="5" stroke-linecap="round"/>'
    '<circle cx="19" cy="20" r="5" fill="#fff"/><path d="M8 10h9" stroke="#fff" stroke-width="4"/></svg>'
)
OPERATIONS = ("/healthz", "/readyz", "/metrics", "/openapi.json", *PATHS)


def mount(app: FastAPI, service: Service, path: str) -> None:
    """Hang the page into the application below `path`; SettingsError where gradio is lacking."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is told to anybody
    folder = tempfile.mkdtemp(prefix="assay-page-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        import gradio as gr
    except ImportError as error:
        raise SettingsError(f"the page needs gradio: {with_extra('page')}, or say --no-page") from error
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
