"""Who looked at posts of a corpus: a line for each read by a person's command or page, without content."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time

from assay.errors import DataError
from assay.places import home


def note_read(what: str, corpus: str, posts: int, **more: str) -> None:
    """Append a line to `$ASSAY_HOME/logs/reads-<month>.jsonl`, before the posts are shown; DataError where it fails.

    `what`: the command or the part of the page; `corpus`: the corpus or the task it was scored for; `more` says who
    asked, where that is known better than by the process. Stages of the pipeline are not people, and write none.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.getuid())
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "what": what,
        "corpus": corpus,
        "posts": posts,
        "user": user,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        **more,
    }
    path = home() / "logs" / f"reads-{time.strftime('%Y-%m')}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"audit log {path}: {error.strerror}; no post is shown without it") from error
