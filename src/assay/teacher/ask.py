"""Asks one teacher, one by one or by its batch endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from assay.config import Teacher
from assay.remote.answers import AnswerStore
from assay.remote.money import AuditLog, Meter
from assay.teacher.asking import Asking, Keyed, Round
from assay.teacher.batch import ask_in_batches
from assay.teacher.questions import Brief


def ask(
    questions: Iterable[Keyed], count: int, teacher: Teacher, brief: Brief, store: AnswerStore, done: Round, task: str
) -> None:
    """Ask one teacher and keep its answers; TeacherError when annotation has to stop.

    One by one or by the batch endpoint, within the budget, and with an audit log of what leaves the machine.
    """
    log = AuditLog(teacher, task) if teacher.base_url != "demo" else None
    meter = Meter(store, scope=task, budget=brief.settings.budget_usd, log=log)
    try:
        batch = brief.settings.mode == "batch"
        left = store.batches(teacher.base_url, task)
        if batch or left:
            ask_in_batches(questions if batch else (), teacher, brief, store, meter, done, task)
        if not batch:
            asyncio.run(Asking(iter(questions), count, teacher, brief, store, meter, done).run())
    finally:
        if log:
            log.close()
