"""What stands before every request: keys, rates, sizes, slow senders, counts and a log line without content."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.errors import Refusal
from assay.serve.docs import PATHS
from assay.serve.hosts import Hosts
from assay.serve.rates import Rates
from assay.serve.service import Service

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
GUESSES_PER_MINUTE = 60.0  # of wrong keys from one address
OPEN = (
    "/healthz",
    "/readyz",
    "/metrics",
    *PATHS,
    "/openapi.json",
    "/favicon.ico",
    "/",
)


UPLOAD_S = 600.0  # for files sent to the page
PROBES = ("/healthz", "/readyz", "/metrics")  # of orchestrators, which use names of their own


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self.app, self.options, self.metrics = app, service.options, service.metrics
        self._keys = [key.encode() for key in service.keys]
        self._rates, self._guesses = service.rates, Rates(GUESSES_PER_MINUTE)
        self._hosts = Hosts(service.options)
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, begun = time.perf_counter(), 500, False
        refused: list[Refusal] = []  # while the body was read: what an application below makes of it is not sent

        async def counted(message: Message) -> None:
            nonlocal status, begun
            if refused and not begun:
                return
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
            await send(message)

        self.active += 1
        caller = ""
        scope["deadline"] = time.monotonic() + self.options.timeout_s
        try:
            caller = self._admit(Request(scope))
            await self.app(scope, self._limited(scope, receive, refused), counted)
            if refused and not begun:
                raise refused.pop()
        except Refusal as refusal:
            refused.clear()
            if not begun:
                await answer(refusal)(scope, receive, counted)
        except asyncio.CancelledError:
            status = 499
            raise
        except ClientDisconnect:
            status = 499  # nobody is there to be told
        except Exception:
            if refused and not begun:
                await answer(refused.pop())(scope, receive, counted)
                return
            if not begun:
                await answer(Refusal(500, "internal", "the server failed; its log has the time"))(
                    scope, receive, counted
                )
            raise
        finally:
            self.active -= 1
            took = time.perf_counter() - started
            path = str(self.options.page) if self._is_page(scope["path"]) else _route(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(took)
            if path not in ("/healthz", "/readyz", "/metrics"):
                _log(scope, path, status, took, caller)

    def _admit(self, request: Request) -> str:
        """Who asks; Refusal 401, 429 or 503."""
        path, host = request.scope["path"], request.client.host if request.client else ""
        if path not in PROBES:
            self._hosts.check(request)
        if self._is_upload(path):
            self._rates.take(host)  # files of the page lie on disk for a while
        if path in OPEN or self._is_page(path):
            return ""
        given = request.headers.get("x-api-key") or _bearer(request.headers.get("authorization", ""))
        caller = host
        if self._keys:
            sent = given.encode("utf-8", "replace")
            same = [hmac.compare_digest(sent, key) for key in self._keys]  # all of them: time tells nothing
            if not given or not any(same):
                if given:
                    self._guesses.take(caller)
                said = "the key is not known" if given else "a key is needed: Authorization: Bearer … or X-API-Key"
                raise Refusal(401, "unauthorized", said)
            caller = hashlib.sha256(sent).hexdigest()[:8]
        self._rates.take(caller)
        if self.active > 2 * self.options.queue:
            raise Refusal(503, "too_busy", "too many requests at once", retry_after_s=1)
        return caller

    def _is_page(self, path: str) -> bool:
        """The page has a log-in of its own, and asks for rates where posts are scored."""
        place = self.options.page
        if place == "/":
            return path not in OPEN
        return place is not None and (path == place or path.startswith(f"{place}/"))

    def _is_upload(self, path: str) -> bool:
        """Files sent to the page."""
        return self._is_page(path) and path.endswith("/upload")

    def _limited(self, scope: Scope, receive: Receive, refused: list[Refusal]) -> Receive:
        """The body, cut off where it grows over the limit or trickles."""
        mib, seconds = self.options.max_body_mib, self.options.timeout_s
        if self._is_upload(scope["path"]):
            mib, seconds = self.options.max_upload_mib, UPLOAD_S
        most = int(mib * 2**20)
        told = dict(scope["headers"]).get(b"content-length", b"0")
        size, until = 0, time.monotonic() + seconds

        async def limited() -> Message:
            nonlocal size
            if told.isdigit() and int(told) > most:
                raise Refusal(413, "body_too_large", f"at most {mib:g} MiB a request")
            try:
                message = await asyncio.wait_for(receive(), max(0.01, until - time.monotonic()))
            except TimeoutError:
                raise Refusal(408, "slow_upload", f"the body did not come within {seconds:g} s") from None
            size += len(message.get("body", b""))
            if size > most:
                raise Refusal(413, "body_too_large", f"at most {mib:g} MiB a request")
            return message

        body_done = False

        async def whole() -> Message:
            nonlocal body_done
            if body_done:
                return await receive()  # waits for the client to leave
            try:
                message = await limited()
            except Refusal as refusal:
                refused.append(refusal)
                raise
            body_done = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return whole


def answer(refusal: Refusal) -> JSONResponse:
    """The response to a refused request."""
    headers = refusal.headers()
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status in (408, 413):
        headers["Connection"] = "close"
    return JSONResponse(refusal.body(), refusal.status, headers)


def _bearer(header: str) -> str:
    scheme, _, value = header.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _route(scope: MutableMapping[str, Any]) -> str:
    """The path as the API spells it, so that no client can make new names of metrics."""
    route = scope.get("route")
    return str(getattr(route, "path", None) or "other")


def _log(scope: Scope, path: str, status: int, took: float, caller: str) -> None:
    """One JSON line on stderr, without text, picture, name or key."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line: dict[str, Any] = {"at": stamp, "method": scope["method"], "path": path, "status": status}
    line |= {"ms": round(1000 * took, 1), "caller": caller} | scope.get("assay", {})
    print(json.dumps(line), file=sys.stderr, flush=True)
