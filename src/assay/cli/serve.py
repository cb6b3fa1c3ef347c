"""The commands `assay serve` and `assay page`."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.errors import SettingsError
from assay.places import with_extra


def add_serve(commands: Any) -> None:
    """Add `serve` and `page` to the command line."""
    serve = commands.add_parser("serve", help="answer for trained students over HTTP")
    _add_common(serve, port=8080)
    serve.add_argument("--no-page", action="store_true", help="the API alone, without the page at /ui")
    serve.add_argument("--allow-training", action="store_true", help="let POST /train_model run the pipeline")
    serve.add_argument("--rate-per-minute", type=float, help="the most requests a minute of one key")
    serve.add_argument("--max-posts", type=int, default=64, help="of one request")
    serve.add_argument("--max-body-mib", type=float, default=32.0, help="of one request")
    serve.add_argument("--max-upload-mib", type=float, default=256.0, help="of the files sent to the page at once")
    serve.add_argument("--max-pixels", type=int, default=40_000_000, help="of one picture, width times height")
    serve.add_argument("--queue", type=int, default=256, help="the most posts that may wait")
    serve.add_argument("--workers", type=int, help="batches in work at once; default: 1 on a GPU, else up to 4")
    serve.add_argument("--batch", type=int, default=16, help="the most posts that the model works on at once")
    serve.add_argument("--wait-ms", type=float, default=4.0, help="how long the first post of a batch waits for others")
    serve.add_argument("--max-wait-s", type=float, default=4.0, help="refuse posts that would wait longer, with 503")
    serve.add_argument("--timeout-s", type=float, default=30.0, help="of a request")
    serve.add_argument("--reload-s", type=float, default=5.0, help="how often to look for a changed model folder")
    serve.set_defaults(run=_serve)
    _add_page(commands)


def _add_page(commands: Any) -> None:
    page = commands.add_parser("page", help="the web page of trained students alone, at http://127.0.0.1:4200")
    _add_common(page, port=4200)
    page.set_defaults(run=_page)


def _add_common(parser: argparse.ArgumentParser, *, port: int) -> None:
    parser.add_argument("--model", type=Path, action="append", required=True, help="a model folder; may be repeated")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument(
        "--open", action="store_true", help="serve a network without keys (else ASSAY_API_KEYS is needed)"
    )
    parser.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the server is asked, beside localhost, addresses and this machine's name; * is any",
    )
    parser.add_argument(
        "--show-posts",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the page shows posts of the corpus; by default where only this machine or a key gets in",
    )


def _serve(args: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(args).items() if name not in ("run", "model", "no_page")}
    page = None if args.no_page or find_spec("gradio") is None else "/ui"
    _start(args.model, page=page, **given)


def _page(args: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(args).items() if name not in ("run", "model")}
    _start(args.model, page="/", api=False, **given)


def _start(models: list[Path], **given: Any) -> None:
    try:
        from assay.serve.options import Options
        from assay.serve.run import serve
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
    serve(options)
