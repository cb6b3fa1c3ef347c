"""The scoring of many posts, some at a time, through the queue that all requests share."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay import images
from assay.errors import ImageProblem, Refusal
from assay.measure.csvfile import harmless
from assay.scoring.prediction import Prediction, table_row
from assay.scoring.scores import heads, told
from assay.serve.inputs import Asked, check_post
from assay.serve.models import Served
from assay.serve.page.backend import Backend
from assay.serve.page.given import Given, Row
from assay.targets import Target

TOGETHER = 16  # posts in a request, of which a job has one at a time
PATIENCE_S = 300.0  # with a server that is busy, before posts count as failed
FRESH_S = 300.0  # uploads that still wait are touched so often: what is old is deleted
OF_PICTURES = ("undecodable_image", "decompression_bomb")

Answers = dict[str, Prediction]
"""What is said of a post, by task."""


class Job:
    """The posts of an upload and what a model says of them; what it cannot say is a reason of the post."""

    def __init__(self, backend: Backend, model: str, given: Given, caller: str) -> None:
        self.backend, self.model, self.given, self.caller = backend, model, given, caller
        self.found: list[Answers] = []
        self.served: Served | None = None
        self._patient_until = time.monotonic() + PATIENCE_S

    async def run(self) -> AsyncIterator[int]:
        """How many posts are done, whenever some more are; Refusal where there is no such model."""
        fresh = time.monotonic()
        while len(self.found) < len(self.given.rows):
            if time.monotonic() - fresh > FRESH_S:
                fresh = time.monotonic()
                await asyncio.to_thread(self._touch)
            rows = await asyncio.to_thread(self._next)
            served, part = await self._scored(rows)
            if self.served is not None and served.version != self.served.version:  # replaced meanwhile: all by one
                self.found.clear()
                self.served = served
                continue
            self.served = served
            self.found += part
            yield len(self.found)

    def _next(self) -> list[Row]:
        """The rows of the next request: few enough, and with no more bytes than a request may have."""
        most, size = int(self.backend.options.max_body_mib * 2**20), 0
        rows: list[Row] = []
        for row in self.given.rows[len(self.found) :][: min(TOGETHER, self.backend.options.max_posts)]:
            row.pictures = row.pictures[: self.backend.options.max_images]
            size += sum(path.stat().st_size for path in row.pictures if path.exists())
            if rows and size > most:
                break
            rows.append(row)
        return rows

    def _touch(self) -> None:
        for row in self.given.rows[len(self.found) :]:
            for path in row.pictures:
                with suppress(OSError):
                    os.utime(path)

    async def _scored(self, rows: list[Row]) -> tuple[Served, list[Answers]]:
        while True:
            asked = await asyncio.to_thread(self._asked, rows)
            try:
                served, found = await self.backend.score_many(asked, self.caller)
            except Refusal as refusal:
                if refusal.code == "too_many_pixels" and len(rows) > 1:
                    half = len(rows) // 2
                    _, first = await self._scored(rows[:half])
                    served, second = await self._scored(rows[half:])
                    return served, first + second
                if refusal.retry_after_s is not None and time.monotonic() < self._patient_until:
                    await asyncio.sleep(min(max(refusal.retry_after_s, 0.2), 10.0))
                    continue
                served = self.backend.service.models.get(self.model)
                failed = Prediction("failed", None, reason=f"{refusal.code}: {refusal.detail}")
                return served, [dict.fromkeys(served.predictor.targets, failed) for _ in rows]
            self._patient_until = time.monotonic() + PATIENCE_S
            spoilt = [row for n, row in enumerate(rows) if n in asked.faults and asked.faults[n].code in OF_PICTURES]
            if not await asyncio.to_thread(self._without_bad, spoilt):
                return served, found

    def _asked(self, rows: list[Row]) -> Asked:
        posts = [(row.text, _read(row)) for row in rows]
        asked = Asked(self.model, [None] * len(rows), posts, partial=True, several=True, in_order=True)
        for number, (body, files) in enumerate(posts):
            try:
                check_post(body, files, self.backend.options)
            except Refusal as refusal:
                asked.faults[number] = refusal
        return asked

    def _without_bad(self, rows: list[Row]) -> bool:
        """Take from rows the pictures that cannot be decoded, as the pipeline does; whether there were any."""
        before = sum(len(row.pictures) for row in rows)
        for row in rows:
            good = []
            for path in row.pictures:
                try:
                    images.decode(path.read_bytes(), self.backend.options.max_pixels)
                    good.append(path)
                except ImageProblem as problem:
                    row.lost.append(f"{problem.code}: {path.name}: {problem.detail}")
                except OSError:
                    good.append(path)  # told when it is read
            row.pictures = good
        return sum(len(row.pictures) for row in rows) < before


def _read(row: Row) -> list[bytes]:
    """The pictures of a row; one that is gone is told."""
    found, there = [], []
    for path in row.pictures:
        try:
            found.append(path.read_bytes())
            there.append(path)
        except OSError:
            row.lost.append(f"missing_image: {path.name}, which was uploaded too long ago")
    row.pictures = there
    return found


def write_scores(given: Given, found: list[Answers], targets: Mapping[str, Target], path: Path) -> None:
    """The rows with their own columns and the answers beside them, as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [name for task, target in targets.items() for name in heads(task, target)]
        writer.writerow([harmless(name) for name in (*given.columns, *names)])
        for row, by_task in zip(given.rows, found, strict=True):
            own = [_cell(row.cells.get(name)) for name in given.columns]
            answers = [cell for task, target in targets.items() for cell in _answers(by_task[task], row, target)]
            writer.writerow([harmless(value) for value in (*own, *answers)])


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=True, default=str)
    return value


def _answers(one: Prediction, row: Row, target: Target) -> list[Any]:
    return told(table_row("", one, "", in_train=False) | {"reason": row.reason(one) or None}, target)
