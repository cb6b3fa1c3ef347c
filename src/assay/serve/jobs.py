"""Training as a job: in a child process, beside the model that is served, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay.errors import Refusal
from assay.places import home
from assay.progress import say
from assay.serve import beside

KEPT = 20  # finished jobs that are remembered
STOP_S = 10.0  # that a stopped job has to end by itself
LOG_BYTES = 64_000  # of the end of a log


@dataclass
class Job:
    """One run of training."""

    id: str
    task: str
    status: str  # running, done, failed, stopped
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None


class Jobs:
    """The jobs of one server; `root` is the repository whose pipeline is run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs: dict[str, Job] = {}
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, task: str) -> Job:
        """Start training a task; Refusal 409 while another one trains."""
        if any(job.status == "running" for job in self.jobs.values()):
            raise Refusal(409, "training", "a training job is running already", retry_after_s=60)
        job = Job(secrets.token_hex(6), task, "running", time.time())
        self.jobs[job.id] = job
        for old in list(self.jobs)[:-KEPT]:
            del self.jobs[old]
        try:
            child = await self._run(job)
        except BaseException:
            job.status, job.ended_at = "failed", time.time()
            raise
        self._children[job.id] = child
        waiting = asyncio.create_task(self._wait(job, child))
        self._tasks.add(waiting)
        waiting.add_done_callback(self._tasks.discard)
        return job

    async def _run(self, job: Job) -> asyncio.subprocess.Process:
        with open(await asyncio.to_thread(self._new_log, job.id), "wb") as file:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "assay.serve.beside", "--root", str(self.root), "--task", job.task),
                *("--work", str(beside.workplace(self.root, job.id))),
                cwd=self.root,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != "ASSAY_API_KEYS"},
            )

    async def _wait(self, job: Job, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        work, ended = beside.workplace(self.root, job.id), job.status
        if ended == "running":
            ended = "failed"
            if code == 0:
                try:
                    await asyncio.to_thread(beside.take_place, self.root, work, job.task)
                    ended = "done"
                except OSError as error:
                    say(f"serve: the new {job.task} cannot take its place: {error}; the old one stays")
        await asyncio.to_thread(beside.leave, work)
        del self._children[job.id]
        job.exit_code, job.ended_at, job.status = code, time.time(), ended

    async def close(self) -> None:
        """Stop a running job; what is served stays, and training goes on from its last epoch when started again."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for name, child in list(self._children.items()):
                self.jobs[name].status = "stopped"
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_S)

    def get(self, name: str) -> Job:
        """A job by its id; Refusal 404 where there is none."""
        if name not in self.jobs:
            raise Refusal(404, "no_such_job", "no such job")
        return self.jobs[name]

    def log(self, name: str) -> str:
        """The end of a job's log."""
        path = self._log(self.get(name).id)
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")

    def _new_log(self, name: str) -> Path:
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        return log

    def _log(self, name: str) -> Path:
        return home() / "jobs" / f"{name}.log"


def shown(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return asdict(job)
