"""Asks the questions that have no answer yet: workers that claim keys and keep each answer the moment it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from assay.config import Teacher
from assay.errors import AccountRefused, AssayError, LastingFault, PassingFault, Taken
from assay.progress import progress, say
from assay.remote.answers import Answer, AnswerStore
from assay.remote.dialect import Dialect
from assay.remote.money import Meter
from assay.store import LEASE_S
from assay.teacher.client import Client
from assay.teacher.questions import Brief
from assay.teacher.reading import Reply
from assay.teacher.structure import Question, Way
from assay.teacher.together import Together, among

SAME_FAULT_LIMIT = 10  # so many refusals in a row: the set-up is wrong, not the posts
FEWEST_ASKED = 20  # fewer say nothing of a rate
PASSING_LIMIT = 30  # so many questions in a row that no try brought an answer to: the server is not well
Keyed = tuple[str, str, Question]  # key, question digest, question


@dataclass
class Round:
    """What one run of annotation did."""

    asked: int = 0
    from_store: int = 0
    passing: dict[str, PassingFault] = field(default_factory=dict)  # by key
    seconds: float = 0.0  # spent asking
    earlier_per_s: float | None = None  # the rate of the last answers in the store

    def speed(self, model: str, questions_a_post: float = 1.0) -> dict[str, Any]:
        """Posts a second of a teacher: in this run where it asked enough, else by when the last answers came."""
        now = self.asked / self.seconds if self.asked >= FEWEST_ASKED and self.seconds > 0 else None
        rate = now or self.earlier_per_s
        return {
            "model": model,
            "posts_per_s": None if rate is None else float(f"{rate / questions_a_post:.3g}"),
            "measured": "in this run" if now else "by the last answers in the store" if rate else None,
            "asked": self.asked,
            "seconds": round(self.seconds, 2),
        }


class Asking:
    """Asks one by one, several at a time; every answer is kept as it comes."""

    def __init__(
        self,
        questions: Iterator[Keyed],
        count: int,
        teacher: Teacher,
        brief: Brief,
        store: AnswerStore,
        meter: Meter,
        done: Round,
    ) -> None:
        self.questions, self.count, self.teacher, self.store, self.done = questions, count, teacher, store, done
        self.client = Client(
            teacher,
            brief.settings,
            brief.rubric,
            meter=meter,
            known_way=store.way(teacher.base_url, teacher.model),
            known_dialect=store.dialect(teacher.base_url, teacher.model),
            on_way=self._found_way,
            before_send=self._still_mine,
        )
        self.claimed: set[str] = set()  # the questions in hand
        self.lost: set[str] = set()  # of these, what another process has taken meanwhile
        self.stop: AssayError | None = None
        self.hopeless = 0  # faults in a row that no other post is likely to escape
        self.waiting = False
        self.later: deque[Keyed] = deque()  # held by another process

    def _found_way(self, way: Way, dialect: Dialect) -> None:
        self.store.keep_way(self.teacher.base_url, self.teacher.model, way.structure, way.logprobs)
        self.store.keep_dialect(self.teacher.base_url, self.teacher.model, dialect.as_json())
        if self.teacher.base_url != "demo":
            said = f"; {dialect}" if str(dialect) else ""
            say(f"annotate: {self.teacher.model} takes questions as {way}{said}")

    def _still_mine(self, key: str) -> None:
        """Taken where the claim on a question ran out while it waited for its turn."""
        if key in self.lost:
            raise Taken

    async def _beat(self) -> None:
        """Renew the claims on the questions in hand, for as long as this process lives."""
        while True:
            await asyncio.sleep(LEASE_S / 4)
            try:
                self.lost |= self.store.renew(list(self.claimed), LEASE_S)
            except AssayError as error:  # without claims another process would ask the same
                self.stop = self.stop or error
                self.client.pace.end()
                return

    async def run(self) -> None:
        self.bar = progress(what="annotate", total=self.count)
        beat = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.teacher.concurrency, self.count)):
                    group.create_task(self._work())
        finally:
            beat.cancel()
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
        if not self.store.claim(key, LEASE_S):
            if self.store.known([key]):  # another process has asked it meanwhile
                self.done.from_store += 1
                self.bar.update()
            else:
                self.later.append((key, digest, question))
                if not self.waiting:
                    say(
                        "annotate: another process is asking some of these questions; waiting for its answers "
                        f"({self.store.holder(key)}; `assay answers claims` shows all, `--release` gives them back)"
                    )
                self.waiting = True
            return
        self.done.asked += 1
        question = self._with_claimed(key, question)
        mine = [part.key for part in question.parts] or [key]
        self.claimed.update(mine)
        try:
            reply = await self.client.ask(question, key)
        except PassingFault as fault:
            self.done.passing[key] = fault
            self._give_back(mine)
            self._stop_if_hopeless(fault)
        except LastingFault as fault:
            if fault.code != "content_filter":
                self._stop_if_hopeless(fault)
            self.store.put([refusal(key, digest, self.teacher, fault)])
            self._give_back(mine[1:])  # the other questions may be taken where they are asked alone
        except Taken:
            self._give_back(mine[1:])
            self.done.asked -= 1
            self.later.append((key, digest, question))
            return
        except AssayError:
            self._give_back(mine)
            raise
        except Exception as error:  # whatever a server can think of: this post fails, the run goes on
            self.done.passing[key] = PassingFault("internal", f"{type(error).__name__}: {error}"[:160])
            self._give_back(mine)
        else:
            self.hopeless = 0
            self.store.put(self._answers(key, digest, question, reply))
            self._give_back(mine[1:])
        finally:
            self.claimed.difference_update(mine)
            self.lost.difference_update(mine)
        self.bar.update()

    def _with_claimed(self, key: str, question: Question) -> Question:
        """The question with those of other tasks that nobody else is asking now."""
        others = {part.key for part in question.parts[1:] if self.store.claim(part.key, LEASE_S)}
        return among(question, {key} | others)

    def _give_back(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.store.release(key)

    def _answers(self, key: str, digest: str, question: Question, reply: Reply) -> list[Answer]:
        if not question.parts:
            return [answer_of(key, digest, reply)]
        replies, names = self.client.split(question, reply), Together(question.parts).tasks
        return [
            replace(answer_of(part.key, part.digest, replies[part.task]), asked_with=names)
            for number, part in enumerate(question.parts)
            if number == 0 or replies[part.task].problem is None  # the others: where their own task asks alone
        ]

    def _stop_if_hopeless(self, fault: PassingFault | LastingFault) -> None:
        self.hopeless += 1
        own = isinstance(fault, LastingFault) or fault.code in ("connection", "empty_answer")
        if self.hopeless < (SAME_FAULT_LIMIT if own else PASSING_LIMIT):
            return
        url = self.teacher.base_url
        if isinstance(fault, PassingFault) and fault.code == "connection":
            raise AccountRefused(
                f"the teacher at {url} cannot be reached ({fault}); is annotate.teacher.base_url right and the server "
                "up? Every answer so far is kept"
            )
        if isinstance(fault, PassingFault):
            if fault.code == "empty_answer":
                self.store.forget_way(url, self.teacher.model)
            raise AccountRefused(
                f"{self.hopeless} questions in a row had no answer ({fault}); the teacher at {url} does not work now. "
                "Every answer so far is kept; mend it, or wait, and run again"
            )
        self.store.forget_way(url, self.teacher.model)
        raise AccountRefused(
            f"{self.hopeless} questions in a row were refused ({fault}); the teacher at {url} cannot serve these "
            "settings. Mend annotate.teacher, then `assay answers --forget-failed`, then run again"
        )


def answer_of(key: str, digest: str, reply: Reply, cost_usd: float | None = None) -> Answer:
    """A reply as it is kept, usable or not; `cost_usd` where it is not what the reply says."""
    return Answer(
        key,
        "ok" if reply.problem is None else "invalid",
        None if reply.problem is None else str(reply.problem),
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
    return Answer(key, "failed", str(fault), None, teacher.model, "plain", None, None, fault.cost_usd, None, digest)
