"""A `python`, and an `assay`, for the pipelines of tests that have the heavy packages imported already.

A stage of a test's pipeline is a process of its own, of which most of the time is the import of torch, transformers
and scikit-learn. Here one process imports these (and nothing of assay) and forks for each stage: what is tested is
loaded afresh in every stage, what is not is loaded once. Whatever is no `python script.py …` runs in a python of its
own, and so do the runs that are killed (`Repository.start`), since a fork is not in their group of processes. Servers
are forks too; signals reach them (`ASSAY_WARM_PID` names a file for the number of their process).
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "transformers.models.bert.modeling_bert",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "sklearn.model_selection",
    "scipy.stats",
    "fairlearn.metrics",
    "pyarrow.parquet",
    "pyarrow.compute",
    "pydantic",
    "openai",
    "matplotlib.pyplot",
    "dvclive.live",
    "imagehash",
    "jinja2",
    "phonenumbers",
    "charset_normalizer",
    "fastapi",
    "uvicorn",
    "gradio",
)
CLIENT = """#!{python} -ISE
import json, os, signal, socket, sys
if len(sys.argv) < 2 or not sys.argv[1].endswith(".py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
told = json.dumps({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}).encode()
socket.send_fds(link, [len(told).to_bytes(8, "big")], [0, 1, 2])
link.sendall(told)
pid = int.from_bytes(link.recv(8), "big")
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(pid, number))
if "ASSAY_WARM_PID" in os.environ:
    open(os.environ["ASSAY_WARM_PID"], "w").write(str(pid))
found = link.recv(1)
sys.exit(found[0] if found else 70)
"""


@cache
def folder() -> Path:
    """A folder to put first in PATH; the process behind it ends with this one."""
    home = Path(tempfile.mkdtemp(prefix="assay-warm-"))
    address = str(home / "socket")
    path = home / "python"
    path.write_text(CLIENT.format(python=sys.executable, address=address))
    path.chmod(0o755)
    (home / "command.py").write_text("import sys\nfrom assay.cli import main\nsys.argv[0] = 'assay'\nmain()\n")
    (home / "assay").write_text(f'#!/bin/sh\nexec {path} {home}/command.py "$@"\n')
    (home / "assay").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["GRADIO_ANALYTICS_ENABLED"] = "False"
    listening = socket.socket(socket.AF_UNIX)  # from now on whoever connects is answered when all is imported
    listening.bind(address)
    listening.listen(64)
    words = [sys.executable, __file__, str(listening.fileno())]
    server = subprocess.Popen(words, env=env, pass_fds=[listening.fileno()])
    atexit.register(server.kill)
    listening.close()
    return home


def serve(listening: socket.socket) -> None:
    """Fork for every script that a client asks for."""
    for name in HEAVY:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks that wait for a script are nobody's to reap
    while True:
        link, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(link)
        link.close()


def _answer(link: socket.socket) -> None:
    """Run the script in a fork of this fork, and tell how it ended."""
    head, fds, _, _ = socket.recv_fds(link, 8, 3)
    length, told = int.from_bytes(head, "big"), b""
    while len(told) < length:
        told += link.recv(length - len(told))
    child = os.fork()
    if child == 0:
        link.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os._exit(_run(**json.loads(told)))
    for fd in fds:
        os.close(fd)
    link.sendall(child.to_bytes(8, "big"))
    threading.Thread(target=_end_with, args=(link, child), daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    link.sendall(bytes([status if status >= 0 else 128 - status]))
    os._exit(0)


def _end_with(link: socket.socket, child: int) -> None:
    """A script ends when the process that asked for it has ended."""
    if not link.recv(1):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _run(argv: list[str], cwd: str, env: dict[str, str]) -> int:
    """The exit code of a script that is run as a python of its own would run it."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    own = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv, sys.path[:] = argv, [str(Path(argv[0]).resolve().parent), *map(os.path.abspath, own), *sys.path[1:]]
    code: object = 0
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # what the end of an interpreter does, and `os._exit` does not
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code) if isinstance(code, int) else 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
