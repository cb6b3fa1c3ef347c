"""Students of several folds that learn at once, a process and a core each."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import Student, Train
from assay.errors import DataError
from assay.parallel import processes
from assay.progress import cores, hush
from assay.splits import grouped_folds
from assay.student.blend import fit_linear
from assay.student.fit import Fitted, device_of, fit
from assay.student.folds import fit_with_folds, keep_arrays
from assay.student.model import Start, StudentModel
from assay.student.parts import Part
from assay.student.resume import Curve
from assay.student.team import Team
from assay.targets import Target

STOPPING = 8  # one in so many of what a student learns from tells when to stop
WORTH = 2000  # posts times students from which processes of their own pay
Arrays = dict[str, Any]
"""A student's tensors by name, `curves` (JSON) and `best_epoch`, as a file keeps them."""


@dataclass(frozen=True)
class Job:
    """The student without one fold, what it learns from, and the file `done` that keeps it once it has learnt."""

    number: int
    rest: Part
    student: Student
    targets: dict[str, Target]
    settings: Train
    checkpoint: Path | None
    done: Path | None
    what: str
    start: Start | None = None

    def learn(self, on_epoch: Callable[[Curve], None] | None = None) -> Arrays:
        """The student, its hidden layers stopped by a part of its posts or by inner folds of them."""
        fitted = self._fit(on_epoch)
        found: Arrays = {name: tensor.numpy() for name, tensor in fitted.model.state_dict().items()}
        found |= {"curves": json.dumps(fitted.curves), "best_epoch": fitted.best_epoch}
        if self.done and Team().is_main:
            keep_arrays(self.done, found)
        return found

    def _fit(self, on_epoch: Callable[[Curve], None] | None) -> Fitted:
        given: dict[str, Any] = {"student": self.student, "targets": self.targets, "settings": self.settings}
        given |= {"checkpoint": self.checkpoint, "on_epoch": on_epoch, "start": self.start}
        if self.settings.inner_folds:
            return fit_with_folds(self.rest, new_towers=lambda: None, **given)
        learn, stop = stopping(self.rest, self.targets, self.settings.seed)
        fitted = fit(self.rest.take(learn), self.rest.take(stop), what=self.what, **given)
        fit_linear(fitted.model, self.rest, self.targets, self.settings.seed)
        return fitted

    def model_of(self, arrays: Arrays) -> StudentModel:
        """The student that arrays hold."""
        features = self.rest.features
        model = StudentModel(self.student, self.targets, features.image.shape[1], features.text.shape[1], self.start)
        model.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})
        return model.eval()


def stopping(part: Part, targets: dict[str, Target], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a part to learn from, and those that tell when to stop: whole groups, about one post in eight."""
    task, target = next(iter(targets.items()))
    groups = len(np.unique(part.group))
    if groups < 2:
        raise DataError("train.crossfit leaves one leakage group to learn from; label more posts, or set it to 0")
    where = grouped_folds(target.strata_with_gaps(part.values[task]), part.group, min(STOPPING, groups), seed)
    return np.flatnonzero(where > 0), np.flatnonzero(where == 0)


def learn_all(jobs: list[Job], on_epoch: Callable[[Curve], None] | None) -> Iterator[tuple[int, Arrays]]:
    """Every job's number and arrays, as they are done; `on_epoch` gets the figures of student 0."""
    workers = _workers(jobs)
    if workers < 2:
        for job in jobs:
            yield job.number, job.learn(on_epoch if job.number == 0 else None)
        return
    context = processes()
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])  # torch is loaded once, before there are threads
    pool = ProcessPoolExecutor(workers - 1, context, _start_worker)
    first, rest = jobs[0], jobs[1:]
    try:
        todo = {pool.submit(job.learn): job for job in rest}
        yield first.number, first.learn(on_epoch if first.number == 0 else None)
        for future in list(todo)[::-1]:  # this process learns too: first the one that is shown, then what nobody began
            if future.cancel():
                job = todo.pop(future)
                yield job.number, job.learn()
        for future in as_completed(todo):
            yield todo[future].number, future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process in which a student learnt has ended, perhaps for want of memory; those that were done are kept; "
            f"run again, with ASSAY_WORKERS below {workers}"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def replay(arrays: Arrays, on_epoch: Callable[[Curve], None]) -> None:
    """Give the figures of every epoch of a student that has learnt already."""
    for curve in json.loads(str(arrays["curves"])):
        on_epoch(curve)


def _workers(jobs: list[Job]) -> int:
    """How many learn at once: one on a GPU, in a team, for little work, and of a target that a plugin brought."""
    if not jobs or Team().size > 1 or device_of(jobs[0].settings).type != "cpu":
        return 1
    known = all(type(target).__module__.startswith("assay.") for target in jobs[0].targets.values())
    if not known or len(jobs) * len(jobs[0].rest) < WORTH:
        return 1
    return min(cores(), len(jobs))


def _start_worker() -> None:
    """A worker is quiet, uses one core, and ends with the process that started it, however that ends."""
    hush()
    os.environ["ASSAY_WORKERS"] = "1"  # of whatever asks how many cores there are
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def leave() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
