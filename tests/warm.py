"""A `python`, an `assay` and a `dvc` for the pipelines of tests that have the heavy packages imported already.

A stage of a test's pipeline is a process of its own, of which most of the time is the import of torch, transformers
and scikit-learn. Here one process imports these (and nothing of assay) and forks for each stage: what is tested is
loaded afresh in every stage, what is not is loaded once. Whatever is no `python script.py …` runs in a python of its
own, and so do the pipelines that are killed (`Repository.start`), since a fork is not in their group of processes.
Servers are forks too, and so is code that is killed alone (`Child`); signals reach them (`ASSAY_WARM_PID` names a file
for the number of their process).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
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
    "dvc.cli",
    "dvc.commands.experiments.run",
    "dvc.commands.metrics",
    "dvc.repo.reproduce",
    "dvc.repo.status",
    "dvc_data.index",
    "dvc_task.worker",
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
    for name, module in (("assay", "assay.cli"), ("dvc", "dvc.cli")):
        code = f"import sys\nfrom {module} import main\nsys.argv[0] = {name!r}\nsys.exit(main())\n"
        (home / f"{name}-command.py").write_text(code)
        (home / name).write_text(f'#!/bin/sh\nexec {path} {home}/{name}-command.py "$@"\n')
        (home / name).chmod(0o755)
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


class Child(subprocess.Popen[bytes]):
    """Code that runs in a fork, from the project's folder; `kill` is kill -9 of the fork itself."""

    def __init__(self, code: str, *arguments: object, place: Path, env: dict[str, str] | None = None) -> None:
        """`place`: where its files may lie."""
        own = Path(tempfile.mkdtemp(dir=place))
        (own / "child.py").write_text(code)
        self._noted = own / "pid"
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        given = os.environ | (env or {}) | {"ASSAY_WARM_PID": str(self._noted), "PYTHONPATH": path}
        words = [str(folder() / "python"), str(own / "child.py"), *map(str, arguments)]
        super().__init__(words, cwd=root, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(OSError, ValueError):  # it may not have begun, or have ended
                os.kill(int(self._noted.read_text()), signal.SIGKILL)
                return
            super().kill()


def serve(listening: socket.socket) -> None:
    """Fork for every script that a client asks for, and tell the client how it ended; who asked and is gone has it
    killed.
    """
    for name in HEAVY:
        __import__(name)
    gc.collect()
    gc.freeze()  # what is there is not looked at again, and so copied, in each fork
    ended, wake = os.pipe()
    for fd in (ended, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    links: dict[int, socket.socket] = {}
    waiting = selectors.DefaultSelector()
    for source in (listening, ended):
        waiting.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listening:
                link, _ = listening.accept()
                if child := _forked(link, [listening, *links.values()]):
                    links[child] = link
                    waiting.register(link, selectors.EVENT_READ, child)
            elif key.fileobj == ended:
                os.read(ended, 4096)
                for child in list(links):
                    _tell(child, links, waiting)
            elif key.data in links:  # the client has nothing more to say but that it is gone
                waiting.unregister(links[key.data])
                os.kill(key.data, signal.SIGKILL)


def _tell(child: int, links: dict[int, socket.socket], waiting: selectors.BaseSelector) -> None:
    """Where a script has ended, say how."""
    found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        return
    link, code = links.pop(child), os.waitstatus_to_exitcode(status)
    with suppress(KeyError):
        waiting.unregister(link)
    with suppress(OSError), link:
        link.sendall(bytes([code if code >= 0 else 128 - code]))


def _forked(link: socket.socket, others: list[socket.socket]) -> int | None:
    """The number of the process that runs the script which the client names; None where the client is gone already."""
    head, fds, _, _ = socket.recv_fds(link, 8, 3)
    length, told = int.from_bytes(head, "big"), b""
    while len(told) < length and (more := link.recv(length - len(told))):
        told += more
    child = os.fork() if told and len(told) == length else None
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (link, *others):
            one.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        os._exit(_run(**json.loads(told)))
    for fd in fds:
        os.close(fd)
    with suppress(OSError):  # that it is gone is seen soon
        link.sendall((child or 0).to_bytes(8, "big"))
    if child is None:
        link.close()
    return child


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
