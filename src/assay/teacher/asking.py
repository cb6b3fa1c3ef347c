"""Asks the questions that have no answer yet: workers that claim keys and keep each answer the moment it arrives."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from assay.config import Teacher
from assay.errors import AccountRefused, AssayError
from assay.progress import progress, say
from assay.teacher.answers import Answer, AnswerStore
from assay.teacher.client import Client, Reply
from assay.teacher.faults import LastingFault, PassingFault, Taken
from assay.teacher.money import AuditLog, Meter
from assay.teacher.questions import Asker
from assay.teacher.structure import Question, Way

SAME_FAULT_LIMIT = 10  # so many refusals in a row: the set-up is wrong, not the posts
Asked = tuple[str, str, Question]  # key, question digest, question


@dataclass
class Round:
    """What one run of annotation did."""

    asked: int = 0
    from_store: int = 0
    passing: dict[str, PassingFault] = field(default_factory=dict)  # by key


def ask(
    questions: Iterable[Asked], count: int, teacher: Teacher, asker: Asker, store: AnswerStore, done: Round, task: str
) -> None:
    """Ask one teacher and keep its answers; TeacherError when annotation has to stop.

    One by one or by the batch endpoint, within the budget, and with an audit log of what leaves the machine.
    """
    log = AuditLog(teacher, task) if teacher.base_url != "demo" else None
    meter = Meter(store, scope=task, budget=asker.settings.budget_usd, log=log)
    try:
        batch = asker.settings.mode == "batch"
        left = store.rows("SELECT 1 FROM batches WHERE base_url = ? AND scope = ?", (teacher.base_url, task))
        if batch or left:
            from assay.teacher.batch import ask_in_batches

            ask_in_batches(questions if batch else (), teacher, asker, store, meter, done, task)
        if not batch:
            asyncio.run(_Asking(iter(questions), count, teacher, asker, store, meter, done).run())
    finally:
        if log:
            log.close()


class _Asking:
    def __init__(
        self,
        questions: Iterator[Asked],
        count: int,
        teacher: Teacher,
        asker: Asker,
        store: AnswerStore,
        meter: Meter,
        done: Round,
    ) -> None:
        self.questions, self.count, self.teacher, self.store, self.done = questions, count, teacher, store, done
        self.lease = teacher.deadline_s + 2 * teacher.timeout_s + 60
        self.client = Client(
            teacher,
            asker.settings,
            asker.rubric,
            meter=meter,
            known_way=store.way(teacher.base_url, teacher.model),
            on_way=self._found_way,
            before_send=self._still_mine,
        )
        self.claimed: dict[str, float] = {}  # when, of the questions in hand
        self.stop: AssayError | None = None
        self.hopeless = 0  # faults in a row that no other post is likely to escape
        self.waiting = False
        self.later: deque[Asked] = deque()  # held by another process

    def _found_way(self, way: Way) -> None:
        self.store.keep_way(self.teacher.base_url, self.teacher.model, way.structure, way.logprobs)
        if self.teacher.base_url != "demo":
            say(f"annotate: {self.teacher.model} takes questions as {way}")

    def _still_mine(self, key: str) -> None:
        """Renew a claim that grows old while a question waits for its turn; Taken when it is lost."""
        now = time.monotonic()
        if key in self.claimed and now - self.claimed[key] > self.lease / 2:
            if not self.store.claim(key, self.lease):
                raise Taken
            self.claimed[key] = now

    async def run(self) -> None:
        self.bar = progress(what="annotate", total=self.count)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.teacher.concurrency, self.count)):
                    group.create_task(self._work())
        finally:
            self.bar.close()
            await self.client.close()
        if self.stop:
            raise self.stop

    async def _work(self) -> None:
        while not self.stop:
            following = next(self.questions, None)
            waited = following is None and bool(self.later)
            if waited:
                await asyncio.sleep(0.25)
                following = self.later.popleft() if self.later else None
            if following is None:
                if self.later:
                    continue
                return
            try:
                await self._one(*following)
            except AssayError as error:
                self.stop = self.stop or error
                self.client.pace.end()

    async def _one(self, key: str, digest: str, question: Question) -> None:
        if not self.store.claim(key, self.lease):
            if self.store.known([key]):  # another process has asked it meanwhile
                self.done.from_store += 1
                self.bar.update()
            else:
                self.later.append((key, digest, question))
                if not self.waiting:
                    say("annotate: another process is asking some of these questions; waiting for its answers")
                self.waiting = True
            return
        self.done.asked += 1
        self.claimed[key] = time.monotonic()
        try:
            reply = await self.client.ask(question, key)
        except PassingFault as fault:
            self.done.passing[key] = fault
            self.store.release(key)
            if fault.code == "connection":
                self._stop_if_hopeless(fault)
        except LastingFault as fault:
            if fault.code != "content_filter":
                self._stop_if_hopeless(fault)
            self.store.put([refusal(key, digest, self.teacher, fault)])
        except Taken:
            self.done.asked -= 1
            self.later.append((key, digest, question))
            return
        except AssayError:
            self.store.release(key)
            raise
        except Exception as error:  # whatever a server can think of: this post fails, the run goes on
            self.done.passing[key] = PassingFault("internal", f"{type(error).__name__}: {error}"[:160])
            self.store.release(key)
        else:
            self.hopeless = 0
            self.store.put([answer_of(key, digest, reply)])
        finally:
            self.claimed.pop(key, None)
        self.bar.update()

    def _stop_if_hopeless(self, fault: PassingFault | LastingFault) -> None:
        self.hopeless += 1
        if self.hopeless < SAME_FAULT_LIMIT:
            return
        url = self.teacher.base_url
        if isinstance(fault, PassingFault):
            raise AccountRefused(
                f"the teacher at {url} cannot be reached ({fault}); is annotate.teacher.base_url right and the server "
                "up? Every answer so far is kept"
            )
        self.store.forget_way(url, self.teacher.model)
        raise AccountRefused(
            f"{self.hopeless} questions in a row were refused ({fault}); the teacher at {url} cannot serve these "
            "settings. Mend annotate.teacher, then `assay answers --forget-failed`, then run again"
        )


def answer_of(key: str, digest: str, reply: Reply, cost_usd: float | None = None) -> Answer:
    """A reply as it is kept; `cost_usd` where it is not what the reply says."""
    return Answer(
        key,
        "ok",
        None,
        reply.raw,
        reply.model,
        reply.how,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.cost_usd if cost_usd is None else cost_usd,
        reply.evidence,
        digest,
    )


def refusal(key: str, digest: str, teacher: Teacher, fault: LastingFault) -> Answer:
    """A lasting fault as it is kept, so that it is not asked again."""
    return Answer(key, "failed", str(fault), None, teacher.model, "plain", None, None, None, None, digest)
