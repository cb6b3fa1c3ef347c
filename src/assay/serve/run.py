"""Starts the server and ends it gracefully."""

from __future__ import annotations

import logging
import signal

import uvicorn

from assay.encode.seeding import seed_everything
from assay.progress import say
from assay.serve.api import make_app
from assay.serve.options import Options


def serve(options: Options) -> None:
    """Serve until a signal comes; what was taken is finished first."""
    seed_everything(1)
    app = make_app(options)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    names = ", ".join(path.name for path in options.models)
    where = f"http://{options.host}:{options.port}"
    said = f"serve: {names} at {where}" + (", documentation at /docs" if options.api else "")
    said += {"/ui": ", the page at /ui", "/": ", the page"}.get(options.page or "", "")
    say(said)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends gracefully, and raises the signal once more
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # else every client could say who it is
        timeout_keep_alive=15,
        timeout_graceful_shutdown=max(5, round(options.timeout_s) + 5),
        backlog=2048,
    )
