"""Which names the server answers to, and which pages of others may not send it anything.

A page of a stranger, opened in a browser of this machine or network, can send requests here: under a name
of its own that points here (DNS rebinding), or as a form. Addresses, localhost and this machine's name are
always answered; other names have to be told (`--allowed-host`).
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.requests import Request

from assay.errors import Refusal
from assay.serve.options import Options

ANY = "*"


class Hosts:
    """The names of one server."""

    def __init__(self, options: Options) -> None:
        self.any = ANY in options.allowed_hosts
        own = ("localhost", socket.gethostname(), options.host, *options.allowed_hosts)
        self.names = {name.lower() for name in own}

    def check(self, request: Request) -> None:
        """Refusal 403 for a foreign name, and for a request that a page of another origin sends."""
        told = request.headers.getlist("host")
        host = _name(told[0]) if len(told) == 1 else None
        if not self.any and (host is None or not (host in self.names or _is_address(host))):
            raise Refusal(
                403, "unknown_host", "the Host header is no name of this server; start it with --allowed-host NAME"
            )
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        same = origin is None or (origin != "null" and urlsplit(origin).netloc.lower() == told[0].lower())
        known = origin is not None and _name(urlsplit(origin).netloc) in self.names
        if not (same or known) or (origin is None and site not in ("none", "same-origin")):
            raise Refusal(403, "foreign_origin", "a page of another origin may not send requests here")


def _name(host: str) -> str | None:
    """A host without its port, lower-cased; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
