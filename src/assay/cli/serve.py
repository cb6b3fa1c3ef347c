"""The commands `assay serve` and `assay page`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError
from typer import Option

from assay.errors import SettingsError
from assay.places import with_extra

Models = Annotated[list[Path], Option("--model", help="A model folder; may be repeated.")]
Host = Annotated[str, Option(help="The address that it listens at.")]
Open = Annotated[bool, Option("--open", help="Serve a network without keys (else ASSAY_API_KEYS is needed).")]
Hosts = Annotated[
    list[str] | None,
    Option(
        "--allowed-host",
        metavar="NAME",
        help="A name under which the server is asked, beside localhost, addresses and this machine's name; * is any. "
        "May be repeated.",
    ),
]
ShowPosts = Annotated[
    bool | None,
    Option(help="Whether the page shows posts of the corpus; by default where only this machine or a key gets in."),
]


def serve(
    model: Models,
    host: Host = "127.0.0.1",
    port: Annotated[int, Option(help="0: any that is free.")] = 8080,
    open_: Open = False,
    allowed_host: Hosts = None,
    show_posts: ShowPosts = None,
    no_page: Annotated[bool, Option("--no-page", help="The API alone, without the page at /ui.")] = False,
    allow_training: Annotated[bool, Option("--allow-training", help="Let POST /train_model run the pipeline.")] = False,
    rate_per_minute: Annotated[float | None, Option(help="The most requests a minute of one key.")] = None,
    max_posts: Annotated[int, Option(help="Of one request.")] = 64,
    max_body_mib: Annotated[float, Option(help="Of one request.")] = 32.0,
    max_upload_mib: Annotated[float, Option(help="Of the files sent to the page at once.")] = 256.0,
    max_pixels: Annotated[int, Option(help="Of one picture, width times height.")] = 40_000_000,
    queue: Annotated[int, Option(help="The most posts that may wait.")] = 256,
    workers: Annotated[int | None, Option(help="Batches in work at once; by default 1 on a GPU, else up to 4.")] = None,
    batch: Annotated[int, Option(help="The most posts that the model works on at once.")] = 16,
    wait_ms: Annotated[float, Option(help="How long the first post of a batch waits for others.")] = 4.0,
    max_wait_s: Annotated[float, Option(help="Refuse posts that would wait longer, with 503.")] = 4.0,
    timeout_s: Annotated[float, Option(help="Of a request.")] = 30.0,
    reload_s: Annotated[float, Option(help="How often to look for a changed model folder.")] = 5.0,
) -> None:
    """Answer for trained students over HTTP."""
    _start(
        model,
        page=None if no_page or find_spec("gradio") is None else "/ui",
        host=host,
        port=port,
        open=open_,
        allowed_hosts=allowed_host or [],
        show_posts=show_posts,
        allow_training=allow_training,
        rate_per_minute=rate_per_minute,
        max_posts=max_posts,
        max_body_mib=max_body_mib,
        max_upload_mib=max_upload_mib,
        max_pixels=max_pixels,
        queue=queue,
        workers=workers,
        batch=batch,
        wait_ms=wait_ms,
        max_wait_s=max_wait_s,
        timeout_s=timeout_s,
        reload_s=reload_s,
    )


def page(
    model: Models,
    host: Host = "127.0.0.1",
    port: Annotated[int, Option(help="0: any that is free.")] = 4200,
    open_: Open = False,
    allowed_host: Hosts = None,
    show_posts: ShowPosts = None,
) -> None:
    """Show the web page of trained students alone, at http://127.0.0.1:4200."""
    hosts = allowed_host or []
    _start(model, page="/", api=False, host=host, port=port, open=open_, allowed_hosts=hosts, show_posts=show_posts)


def _start(models: list[Path], **given: Any) -> None:
    try:
        from assay.serve.options import Options
        from assay.serve.run import serve as run
        from assay.student.folder import read_config
    except ImportError as error:
        raise SettingsError(f"assay serve needs {error.name}: {with_extra('serve')}") from error
    try:
        options = Options(models=models, **given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]).replace("_", "-").replace("allowed-hosts", "allowed-host")
        said = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"--{where}: {said}" if where else said) from None
    for model in options.models:
        read_config(model)  # one line here, in place of a server's log
    run(options)
