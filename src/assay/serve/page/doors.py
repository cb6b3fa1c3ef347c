"""What stands before the page: the paths that a browser needs and no others, and files only of their own uploader.

The page's library checks no path while an application is mounted, copies whatever file a client names
before the page's own code sees it, and has endpoints that the page does not use. So requests are looked at
here, before it: a file counts only if this browser uploaded it, or if the page itself shows it to everybody.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.errors import Refusal
from assay.serve.rates import Rates

COOKIE = "assay_page"
LIBRARY = "/gradio_api"
GUESSES_PER_MINUTE = 30.0  # wrong keys at the log-in, from one address
MOST_SESSIONS, MOST_UPLOADS = 2_000, 6_000
READ = (
    *("/", "/config", "/theme.css", "/manifest.json", "/robots.txt", "/pwa_icon", "/favicon.ico", "/logout"),
    *("/user", "/login_check", "/token", "/app_id", "/info", "/startup-events", "/queue/data", "/upload_progress"),
)
READ_BELOW = ("/assets/", "/static/", "/svelte/", "/pwa_icon/", "/heartbeat/")
WRITE = ("/login", "/upload", "/queue/join", "/cancel", "/reset")


class Uploads:
    """Which files came from which browser, and which are for everybody; all lie below `folder`."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder, self.max_bytes = Path(os.path.realpath(folder)), max_bytes
        self._of: dict[str, dict[str, None]] = {}
        self._shared: set[str] = set()

    def add(self, session: str, paths: list[str]) -> None:
        """Files that a browser has uploaded; the oldest are forgotten."""
        own = self._of.pop(session, {})
        own.update(dict.fromkeys(os.path.realpath(path) for path in paths))
        self._of[session] = dict(list(own.items())[-MOST_UPLOADS:])
        while len(self._of) > MOST_SESSIONS:
            del self._of[next(iter(self._of))]

    def share(self, path: str) -> None:
        """A file that the page shows to everybody."""
        self._shared.add(os.path.realpath(path))

    def allows(self, session: str, path: str) -> bool:
        """Whether this browser may name the file."""
        real = os.path.realpath(path) if "\0" not in path else ""
        return (real in self._of.get(session, {}) or real in self._shared) and self.is_file(path)

    def is_file(self, path: str) -> bool:
        """A regular file of bounded length below the folder, by no link."""
        if os.path.realpath(path) != os.path.abspath(path) or not Path(path).is_relative_to(self.folder):
            return False
        try:
            found = os.lstat(path)
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size <= self.max_bytes


class Doors:
    """ASGI middleware around the application; requests that are not of the page pass unseen."""

    def __init__(self, app: ASGIApp, *, place: str, uploads: Uploads, others: tuple[str, ...]) -> None:
        """`place`: where the page lies; `others`: paths that are not of the page where it lies at the root."""
        self.app, self.place, self.uploads, self.others = app, place.rstrip("/"), uploads, others
        self._guesses = Rates(GUESSES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._below(scope) if scope["type"] == "http" else None
        if path is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if not _is_open(scope["method"], path):
            raise Refusal(404, "not_here", "the page has no such path")
        session = _cookies(request).get(COOKIE, "")
        fresh = "" if session else secrets.token_urlsafe(24)
        host = request.client.host if request.client else ""
        if path.startswith("/file=") and not self.uploads.allows(session, path.removeprefix("/file=")):
            raise Refusal(404, "not_here", "no such file")
        if path == "/queue/join":
            receive = await self._own_files_only(session, receive)
        if path == "/login":
            self._guesses.check(host)
        body = bytearray()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if fresh:
                    cookie = f"{COOKIE}={fresh}; HttpOnly; SameSite=Lax; Path={self.place or '/'}"
                    message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            elif path == "/upload" and status == 200:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    for own in {session, fresh or session}:  # also of a script that keeps no cookies
                        self.uploads.add(own, _paths(bytes(body)))
            await send(message)

        await self.app(scope, receive, noted)
        if path == "/login" and status != 200:
            self._guesses.spend(host)

    def _below(self, scope: Scope) -> str | None:
        """The path below the page's own, without the library's prefix; None for what is not of the page."""
        path = scope["path"]
        if not self.place:
            if path in self.others:
                return None
        elif path != self.place and not path.startswith(f"{self.place}/"):
            return None
        path = path[len(self.place) :].removeprefix(LIBRARY)
        return path if path.startswith("/file=") else path.rstrip("/") or "/"

    async def _own_files_only(self, session: str, receive: Receive) -> Receive:
        """The body with every file in it checked; Refusal 422 for one that this browser did not upload."""
        data, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            data.extend(message.get("body", b""))
            more = message.get("more_body", False)
        try:
            found = json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "bad_json", "not JSON") from error
        for one in _objects(found):
            named = one.get("path")
            if named is None:
                continue
            if not isinstance(named, str) or not self.uploads.allows(session, named):
                raise Refusal(422, "not_uploaded", "a file that was not uploaded from here; upload the picture again")
        sent = False
        whole = json.dumps(found).encode()  # what was checked is what is read: no second key of the same name

        async def checked() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # waits for the client to leave
            sent = True
            return {"type": "http.request", "body": whole, "more_body": False}

        return checked


def _is_open(method: str, path: str) -> bool:
    if method in ("GET", "HEAD"):
        return path in READ or path.startswith((*READ_BELOW, "/file="))
    return method == "POST" and path in WRITE


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within a value."""
    todo = [found]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            yield here
            todo += here.values()
        elif isinstance(here, list):
            todo += here


def _paths(body: bytes) -> list[str]:
    try:
        found = json.loads(body)
    except ValueError:
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def _cookies(request: Request) -> dict[str, str]:
    try:
        return {name: one.value for name, one in SimpleCookie(request.headers.get("cookie", "")).items()}
    except CookieError:
        return {}
