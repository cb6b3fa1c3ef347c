"""Asks by the OpenAI Batch API: half the price, up to a day's wait, nothing submitted twice.

Each step is written down before the next one: the keys of a batch, the uploaded file, the batch. A
batch that was submitted in the very moment of a kill is found again by the digest in its metadata.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import openai
from filelock import FileLock

from assay.config import Teacher
from assay.errors import AccountRefused, BudgetReached, LastingFault, PassingFault, Told
from assay.places import home
from assay.progress import progress, say
from assay.remote.answers import AnswerStore
from assay.remote.dialect import longest
from assay.remote.faults import NOT_THIS_WAY, fault_of
from assay.remote.ledger import SENT, Batch
from assay.remote.money import UNKNOWN_IMAGE_TOKENS, Meter, price, tokens_of
from assay.remote.pace import backoff
from assay.teacher.asking import Keyed, Round, answer_of, refusal
from assay.teacher.client import Client
from assay.teacher.questions import Brief
from assay.teacher.structure import Structure, Way, body, path, remembered

MAX_REQUESTS = 50_000
MAX_BYTES = 190 * 2**20  # servers take 200 MB
ENDED = {"completed", "expired", "cancelled", "failed"}


def ask_in_batches(
    questions: Iterable[Keyed], teacher: Teacher, brief: Brief, store: AnswerStore, meter: Meter, done: Round, task: str
) -> None:
    """Ask all questions by batches and keep their answers; goes on with batches that an earlier run left open."""
    name = f"batch-{_short(task + teacher.base_url)}"
    with FileLock(home() / f"{name}.lock"), store.alone(name):
        asyncio.run(_Batches(teacher, brief, store, meter, done, task).run(iter(questions)))


class _Batches:
    def __init__(
        self, teacher: Teacher, brief: Brief, store: AnswerStore, meter: Meter, done: Round, task: str
    ) -> None:
        self.teacher, self.store, self.meter, self.done, self.task = teacher, store, meter, done, task
        self._largest: int | None = None
        self._cost = 0.0  # of the file that is being written, at most
        known = store.dialect(teacher.base_url, teacher.model)
        self.client = Client(teacher, brief.settings, brief.rubric, known_dialect=known)
        self.server = self.client.server.with_options(max_retries=max(teacher.retries, 2))
        self.way = remembered(store.way(teacher.base_url, teacher.model), self.client.ways) or self.client.ways[0]

    async def run(self, questions: Iterator[Keyed]) -> None:
        try:
            await self._run(questions)
        except openai.APIStatusError as error:
            raise AccountRefused(
                f"the teacher at {self.teacher.base_url} refused a batch ({error.status_code}): "
                f"{self.client.clean(str(error.message))}; has this server the Batch API? Every answer so far is kept"
            ) from error
        except openai.APIConnectionError as error:
            raise AccountRefused(
                f"the teacher at {self.teacher.base_url} cannot be reached; run again to go on with its batches"
            ) from error
        finally:
            await self.client.close()

    async def _run(self, questions: Iterator[Keyed]) -> None:
        for batch in self._open():
            if batch.state != "submitted":
                await self._recover(batch)
        taken = {key for batch in self._open() for key in batch.keys}
        reached: BudgetReached | None = None
        try:
            for batch, file in self._files(one for one in questions if one[0] not in taken):
                await self._submit(batch, file)
        except BudgetReached as error:
            reached = error  # what is submitted already is collected first
        await self._collect_all()
        if reached:
            raise reached

    # ---------------------------------------------------------------------------------- submitting

    def _files(self, questions: Iterator[Keyed]) -> Iterator[tuple[Batch, Path]]:
        """Files within the limits of the API, each with the keys in it."""
        folder = home() / "batches"
        folder.mkdir(parents=True, exist_ok=True)
        following = next(questions, None)
        while following:
            keys: dict[str, str] = {}
            part, size = folder / f".{self.store.owner[1]}.part", 0
            with open(part, "wb") as file:
                while following and len(keys) < MAX_REQUESTS:
                    key, digest, question = following
                    request = body(question, self.way, self.teacher, self.client.dialect)
                    line = json.dumps(
                        {"custom_id": key, "method": "POST", "url": f"/v1{path(self.way)}", "body": request}
                    ).encode()
                    if keys and size + len(line) > MAX_BYTES:
                        break
                    if self.store.claim(key):
                        file.write(line + b"\n")
                        keys[key], size = digest, size + len(line) + 1
                        self._cost += self._expected(request)
                    following = next(questions, None)
            if not keys:
                part.unlink()
                return
            batch = Batch(_short(self.task + "".join(sorted(keys))), keys, self.way.structure, self.way.logprobs)
            self._reserve(batch)
            named = part.with_name(f"{batch.digest}.jsonl")
            part.replace(named)
            self._keep(batch)
            yield batch, named

    def _expected(self, request: dict[str, Any]) -> float:
        return (price(self.teacher, self._tokens(request), longest(self.teacher)) or 0.0) * self.teacher.batch_price

    def _tokens(self, request: dict[str, Any]) -> int:
        """At most so many tokens: by the largest that this model has counted so far, else a high guess."""
        if self._largest is None:
            self._largest = self.store.largest_prompt(self.teacher.model)
        if self._largest:
            return max(self._largest, tokens_of(request, 0))
        return tokens_of(request, UNKNOWN_IMAGE_TOKENS)

    def _reserve(self, batch: Batch) -> None:
        usd, self._cost = self._cost, 0.0
        if self.meter.budget is None:
            return
        if not usd:
            raise AccountRefused(
                "annotate.budget_usd with mode: batch needs usd_per_million_input and usd_per_million_output"
            )
        if self.store.reserve(self.task, batch.digest, usd, self.meter.budget, owner=(SENT, 0, "")) is None:
            for key in batch.keys:
                self.store.release(key)
            raise BudgetReached(
                f"annotate.budget_usd {self.meter.budget:g} does not have the {usd:.4f} that the next batch of "
                f"{len(batch.keys)} may cost at most; {self.store.spent(self.task):.4f} are spent on "
                f"{self.task}. Every answer is kept; raise the budget and run again to go on"
            )

    async def _submit(self, batch: Batch, file: Path) -> None:
        for key in batch.keys:
            self.meter.note(key, "sent")
        self.meter.check()
        with open(file, "rb") as content:
            uploaded = await self.server.files.create(file=(f"{batch.digest}.jsonl", content), purpose="batch")
        batch.state, batch.file_id = "uploaded", uploaded.id
        self._keep(batch)
        file.unlink()
        await self._create(batch)

    async def _create(self, batch: Batch) -> None:
        once = self.server.with_options(max_retries=0)  # a second POST would be a second batch
        for attempt in range(max(self.teacher.retries, 2) + 1):
            try:
                created = await once.batches.create(
                    input_file_id=str(batch.file_id),
                    endpoint=f"/v1{path(_way(batch))}",  # type: ignore[arg-type]
                    completion_window="24h",
                    metadata={"assay": batch.digest},
                )
                found = created.id
                break
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                await asyncio.sleep(backoff(attempt, None))
                there = await self._on_server(batch)  # it may have arrived all the same
                if there:
                    found = there
                    break
                if attempt == max(self.teacher.retries, 2):
                    raise
        batch.state, batch.batch_id = "submitted", found
        self._keep(batch)
        for key in batch.keys:
            self.meter.note(key, "submitted")
        self.done.asked += len(batch.keys)
        say(f"annotate: batch {found} with {len(batch.keys)} questions submitted")

    async def _recover(self, batch: Batch) -> None:
        """Find out how far a killed run came with a batch, and go on from there."""
        there = await self._on_server(batch)
        if there:
            batch.state, batch.batch_id = "submitted", there
            self._keep(batch)
            return
        if batch.file_id:
            await self._create(batch)
            return
        self._drop(batch)  # nothing had left the machine; its questions are asked anew

    async def _on_server(self, batch: Batch) -> str | None:
        """The id that a batch has on the server, where it arrived."""
        async for other in self.server.batches.list(limit=100):
            if (other.metadata or {}).get("assay") == batch.digest:
                return other.id
        return None

    # ---------------------------------------------------------------------------------- collecting

    async def _collect_all(self) -> None:
        left = self._open()
        total = sum(len(batch.keys) for batch in left)
        with progress(what="annotate (batch)", total=total) as bar:
            collected = 0
            while left:
                finished = 0
                for batch in left:
                    now = await self.server.batches.retrieve(str(batch.batch_id))
                    counts = now.request_counts
                    finished += (counts.completed + counts.failed) if counts else 0
                    if now.status in ENDED:
                        await self._collect(batch, now)
                        collected += len(batch.keys)
                        finished -= (counts.completed + counts.failed) if counts else 0
                bar.update(max(0, min(collected + finished, total) - bar.n))
                left = self._open()
                if left:
                    await asyncio.sleep(self.teacher.batch_poll_s)

    async def _collect(self, batch: Batch, now: Any) -> None:
        """Keep what a batch brought, then forget it; what it did not answer is asked in the next run."""
        if now.status == "failed" and not now.output_file_id:
            self._drop(batch)
            said = (
                "; ".join(str(one.message) for one in (now.errors.data or [])[:3]) if now.errors else "no reason given"
            )
            raise AccountRefused(f"the server refused batch {now.id}: {self.client.clean(said)}; mend annotate.teacher")
        seen: set[str] = set()
        spent = 0.0
        for file_id in (now.output_file_id, now.error_file_id):
            if file_id:
                content = await self.server.files.content(file_id)
                for line in content.content.split(b"\n"):
                    if line.strip():
                        spent += self._keep_line(line, batch, seen)
        for key in batch.keys.keys() - seen:
            self.done.passing[key] = PassingFault("batch_" + now.status, "the batch ended without this answer")
        self._drop(batch, spent)

    def _keep_line(self, line: bytes, batch: Batch, seen: set[str]) -> float:
        """Keep the answer of one line; returns what it cost."""
        try:
            found = json.loads(line)
            key = found["custom_id"]
            digest = batch.keys[key]
        except (ValueError, KeyError, TypeError):
            return 0.0
        seen.add(key)
        response = found.get("response") or {}
        status = int(response.get("status_code") or 0)
        try:
            if status != 200:
                said = self.client.clean(json.dumps(found.get("error") or response.get("body") or ""))
                raise fault_of(status, said) if status else PassingFault("batch_error", said)
            reply = self.client.judged(self.client.reader.read(response["body"], _way(batch)))
        except Told as told:
            self.done.passing[key] = PassingFault(f"http_{told.status}" if told.status else "server_error", told.said)
            return told.usd or 0.0
        except PassingFault as fault:
            self.done.passing[key] = fault
            return fault.cost_usd or 0.0
        except LastingFault as fault:
            if self._is_of_a_field(fault):
                self.done.passing[key] = PassingFault(fault.code, fault.detail)
            else:
                self.store.put([refusal(key, digest, self.teacher, fault)])
            return fault.cost_usd or 0.0
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            self.done.passing[key] = PassingFault("bad_response", type(error).__name__)
            return 0.0
        cost = (reply.cost_usd or 0.0) * self.teacher.batch_price
        if reply.why_empty and not reply.cut:
            self.done.passing[key] = PassingFault("empty_answer", reply.why_empty)
            return cost
        self.store.put([answer_of(key, digest, reply, cost if reply.cost_usd is not None else None)])
        return cost

    def _is_of_a_field(self, fault: LastingFault) -> bool:
        """Whether the model refuses a field of the request; the next run leaves it out."""
        if fault.status not in NOT_THIS_WAY:
            return False
        other = self.client.dialect.after(fault.detail, fault.field, self.teacher)
        if other is None:
            return False
        self.store.keep_dialect(self.teacher.base_url, self.teacher.model, other.as_json())
        return True

    # ---------------------------------------------------------------------------------- the book

    def _open(self) -> list[Batch]:
        return self.store.batches(self.teacher.base_url, self.task)

    def _keep(self, batch: Batch) -> None:
        self.store.keep_batch(self.teacher.base_url, self.task, batch)

    def _drop(self, batch: Batch, spent: float = 0.0) -> None:
        """Forget a batch with its file; book what it cost."""
        self.store.end_batch(self.task, batch.digest, batch.keys, spent)
        (home() / "batches" / f"{batch.digest}.jsonl").unlink(missing_ok=True)


def _way(batch: Batch) -> Way:
    """How a batch's questions are asked, and so how its answers are read."""
    return Way(cast(Structure, batch.structure), batch.logprobs)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
