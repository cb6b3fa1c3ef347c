"""Asks an OpenAI-compatible server: paced, tried again where that can help, in the form that it takes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx2
import openai

from assay.config import Annotate, Teacher
from assay.errors import AccountRefused, LastingFault, LeavesHost, PassingFault, RowError, Taken, TeacherError, Told
from assay.remote import dialect
from assay.remote.dialect import Dialect
from assay.remote.faults import ACCOUNT, NOT_THIS_WAY, fault_of
from assay.remote.money import Meter, tokens_of
from assay.remote.pace import Pace, backoff
from assay.remote.server import api_key, body_of, http_client, retry_after, said_by, secret_headers
from assay.teacher.distribution import from_typed
from assay.teacher.reading import Reader, Reply, is_spent
from assay.teacher.rubric import Rubric
from assay.teacher.structure import ORDER, Question, Way, body, path, remembered, ways, with_repair
from assay.teacher.together import Together

LONGEST_WAIT_S = 3600.0
MOST_REFUSALS = 3  # so many posts refused in every way: it is not the posts


class Client:
    """An async client of one teacher; `ask` from many tasks at once."""

    def __init__(
        self,
        settings: Teacher,
        annotate: Annotate,
        rubric: Rubric,
        *,
        meter: Meter | None = None,
        known_way: tuple[str, bool] | None = None,
        known_dialect: str | None = None,
        on_way: Callable[[Way, Dialect], None] | None = None,
        before_send: Callable[[str], None] | None = None,
    ) -> None:
        """`known_way`, `known_dialect`: what an earlier run found that the server takes; `on_way` is told what this
        one finds.

        `before_send` gets the key of a question before each try and may refuse by raising.
        """
        self.settings, self.rubric, self.meter = settings, rubric, meter or Meter()
        self.pace = Pace(
            most=settings.concurrency,
            per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        )
        self.ways = ways(settings, annotate)
        self.dialect = dialect.remembered(known_dialect, settings)
        self._way = remembered(known_way, self.ways) or (self.ways[0] if len(self.ways) == 1 else None)
        self._before_send = before_send
        self._on_way, self._probing, self._refusals = on_way, asyncio.Lock(), 0
        self._hopeless: AccountRefused | None = None
        base_url = settings.base_url
        if base_url == "demo":
            from assay.teacher.demo import app

            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
            base_url = "http://demo.teacher/v1"
        else:
            http = http_client(base_url)
        secrets = [api_key(settings), *secret_headers(settings).values()]
        self.reader = Reader(settings, rubric.target, secrets)
        self.clean = self.reader.clean
        self.server = openai.AsyncOpenAI(
            api_key=secrets[0],
            base_url=base_url,
            timeout=settings.timeout_s,
            max_retries=0,
            default_headers={**settings.headers, **secret_headers(settings)},
            http_client=http,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.server.close()

    async def ask(self, question: Question, key: str = "") -> Reply:
        """The reply; PassingFault, LastingFault, BudgetReached or AccountRefused otherwise.

        An answer that does not fit is asked again once, with what is wrong with it; what then comes is
        the reply, fit or not. All of it ends by `deadline_s`.
        """
        deadline = time.monotonic() + self.settings.deadline_s
        if self._way is None:
            async with self._probing:
                if self._way is None:
                    return await self._probe(question, key, deadline)
        reply, request = await self._asked(question, self._way, key, deadline)
        return await self._checked(question, reply, request, self._way, key, deadline)

    async def _asked(
        self, question: Question, way: Way, key: str, deadline: float, *, probing: bool = False
    ) -> tuple[Reply, dict[str, Any]]:
        """The reply to a question, and the request that brought it: fields that the model refuses are changed."""
        tried, settings = [self.dialect], dialect.for_answers(self.settings, len(question.parts))
        while True:
            now = tried[-1]
            request = body(question, way, settings, now)
            try:
                reply = await self._try(question, request, way, key, deadline, probing=probing)
            except LastingFault as fault:
                other = now.after(fault.detail, fault.field, self.settings) if fault.status in NOT_THIS_WAY else None
                if other is None:
                    self.dialect = now  # it is not of these fields
                if other is None or other in tried:
                    raise
                tried.append(other)
                continue
            if now != self.dialect:
                self.dialect = now
                if self._way is not None and self._on_way:
                    self._on_way(self._way, now)
            return reply, request

    async def _checked(
        self, question: Question, reply: Reply, request: dict[str, Any], way: Way, key: str, deadline: float
    ) -> Reply:
        """The reply, or what came when it was asked for again; PassingFault where the server gives nothing at all."""
        problem = self._problem(reply, question)
        if problem is None or reply.cut or way.structure == "typed":
            return replace(reply, problem=problem)
        asked = Together(question.parts) if question.parts else self.rubric
        again = request if reply.why_empty else with_repair(request, reply.raw, asked.again(problem))
        try:
            second = (await self._try(question, again, way, key, deadline)).plus(reply)
        except (PassingFault, LastingFault, TeacherError, Taken):
            second = reply  # paid for; where the run has to stop, the next question tells
        if question.parts and second is not reply:
            second = Together(question.parts).merged(second, reply)
        problem = self._problem(second, question)
        if problem is not None and second.why_empty and not second.cut:
            raise PassingFault(problem.code, problem.detail)  # of the server, not of the post
        return replace(second, problem=problem)

    def judged(self, reply: Reply) -> Reply:
        """The reply with what is wrong with it."""
        return replace(reply, problem=self._problem(reply))

    def split(self, question: Question, reply: Reply) -> dict[str, Reply]:
        """The reply to each of several questions, by task."""
        return Together(question.parts).split(reply, self.reader.cut_answer)

    def _problem(self, reply: Reply, question: Question | None = None) -> RowError | None:
        if reply.why_empty:
            return self.reader.cut_answer(reply) if reply.cut else RowError("empty_answer", reply.why_empty)
        try:
            if question is not None and question.parts:
                Together(question.parts).check(reply.raw)
            elif reply.how == "typed":
                from_typed(reply.raw, self.rubric.target)
            else:
                self.rubric.parse(reply.raw)
        except RowError as error:
            return self.reader.cut_answer(reply) if reply.cut else error
        return None

    async def _probe(self, question: Question, key: str, deadline: float) -> Reply:
        """Ask the first question in each way until an answer fits; that way is then used for all.

        A server that refuses a field says so; one that ignores it gives an answer that does not fit.
        """
        if self._hopeless:
            raise self._hopeless
        refused: dict[str, LastingFault] = {}
        earlier: Reply | None = None
        for number, way in enumerate(self.ways):
            if earlier is not None and way.structure == self.ways[number - 1].structure:
                continue  # this form was ignored; without log-probabilities it would be so too
            try:
                reply, _ = await self._asked(question, way, key, deadline, probing=True)
            except (PassingFault, TeacherError, Taken):
                if earlier is None:
                    raise
                return earlier  # paid for; the next question looks for a way again
            except LastingFault as fault:
                if fault.status not in NOT_THIS_WAY:
                    raise
                refused[str(way)] = fault
                continue
            reply = reply.plus(earlier) if earlier is not None else reply
            problem = self._problem(reply, question)
            if problem is None:
                return self._found(way if reply.evidence else way._replace(logprobs=False), reply)
            if reply.cut:  # so it would be in every form
                return replace(reply, problem=problem)
            earlier = reply
            if way.structure == ORDER[-1]:
                break
        if earlier is None:
            self._refusals += 1
            last = refused[str(self.ways[-1])]
            if last.status in ACCOUNT or self._refusals >= MOST_REFUSALS:
                said = "; ".join(f"{how}: {fault.detail}" for how, fault in refused.items())
                self._hopeless = self._refused(last.status, said)
                raise self._hopeless
            raise last
        way = Way("plain", False) if Way("plain", False) in self.ways else self.ways[-1]
        if not earlier.why_empty:
            self._way = way  # nothing fitted yet: go on in plain words, and look again next time
        reply, request = await self._asked(question, way, key, deadline)
        return await self._checked(question, reply.plus(earlier), request, way, key, deadline)

    def _found(self, way: Way, reply: Reply) -> Reply:
        self._way = way
        if self._on_way:
            self._on_way(way, self.dialect)
        return reply

    # ------------------------------------------------------------------------------------- one try

    async def _try(
        self, question: Question, request: dict[str, Any], way: Way, key: str, deadline: float, *, probing: bool = False
    ) -> Reply:
        """Tries until an answer, a lasting fault, too many passing ones or the deadline."""
        expected, settings = tokens_of(request), dialect.for_answers(self.settings, len(question.parts))
        for attempt in range(self.settings.retries + 1):
            await self.pace.enter(expected + dialect.longest(settings))
            fault: PassingFault | None = None
            headers: Mapping[str, str] | None = None
            try:
                if self._before_send:
                    self._before_send(key)
                reserved = self.meter.reserve(key, request, settings)
            except BaseException:
                self.pace.leave(None)
                raise
            try:
                reply, headers = await self._send(question, request, way, probing=probing)
                self.meter.settle(reserved, reply.cost_usd, "answered", reply.prompt_tokens)
                return reply
            except PassingFault as passing:
                fault = passing
                least = reserved.usd if fault.charged else 0.0
                self.meter.settle(reserved, least if fault.cost_usd is None else fault.cost_usd, fault.code)
            except LastingFault as lasting:
                least = reserved.usd if lasting.code == "content_filter" else 0.0
                self.meter.settle(reserved, least if lasting.cost_usd is None else lasting.cost_usd, lasting.code)
                raise
            except AccountRefused:
                self.meter.settle(reserved, 0.0, "refused")
                raise
            except BaseException:
                self.meter.settle(reserved, None, "stopped")
                raise
            finally:
                self.pace.leave(fault, headers)
            if fault.wait_s is not None and fault.wait_s > LONGEST_WAIT_S:
                raise AccountRefused(
                    f"the teacher at {self.settings.base_url} asks to wait {fault.wait_s / 3600:.1f} hours ({fault}); "
                    "every answer so far is kept, run again then"
                )
            pause = backoff(attempt, fault.wait_s)
            if attempt == self.settings.retries or time.monotonic() + pause > deadline:
                raise fault
            await self.pace.sleep(pause)
        raise AssertionError("unreachable")

    async def _send(
        self, question: Question, request: dict[str, Any], way: Way, *, probing: bool
    ) -> tuple[Reply, Mapping[str, str]]:
        tokens_behind = Together(question.parts).evidence if question.parts else None
        try:
            call: Awaitable[httpx2.Response] = self.server.post(path(way), cast_to=httpx2.Response, body=request)
            response = await asyncio.wait_for(call, self.settings.timeout_s)  # also of a body that trickles
            return self.reader.read(self.reader.loads(response.content), way, tokens_behind), response.headers
        except Told as told:
            raise self._fault(
                told.status, told.said, told.wait_s, field=told.field, probing=probing, cost_usd=told.usd
            ) from told
        except (openai.APITimeoutError, TimeoutError) as error:
            raise PassingFault("timeout", f"no answer within {self.settings.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, LeavesHost):
                raise self._refused(None, str(error.__cause__)) from error
            raise PassingFault("connection", f"{type(error.__cause__ or error).__name__}") from error
        except openai.APIStatusError as error:
            told_body = body_of(error)
            names = [str(told_body.get(name) or "") for name in ("code", "type")]
            status = 402 if error.status_code == 429 and is_spent(names) else error.status_code
            wait = retry_after(error.response.headers)
            said, field = self.clean(said_by(error)), str(told_body.get("param") or "")
            raise self._fault(status, said, wait, field=field, probing=probing) from error
        except LeavesHost as error:
            raise self._refused(None, str(error)) from error
        except httpx2.HTTPError as error:  # cut while the body came
            raise PassingFault("connection", type(error).__name__) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            raise PassingFault("bad_response", f"not a chat completion: {type(error).__name__}") from error

    def _fault(
        self,
        status: int | None,
        said: str,
        wait_s: float | None,
        *,
        field: str,
        probing: bool,
        cost_usd: float | None = None,
    ) -> Exception:
        if status in ACCOUNT and not (probing and status in NOT_THIS_WAY):
            return self._refused(status, said)
        return fault_of(status, said, wait_s, field=field, cost_usd=cost_usd)

    def _refused(self, status: int | None, said: str) -> AccountRefused:
        settings = self.settings
        return AccountRefused(
            f"the teacher at {settings.base_url} refused ({status}): {said}; check "
            f"annotate.teacher.model {settings.model!r}, base_url and the key in "
            f"{settings.api_key_env or 'api_key_env (not set)'}. Every answer so far is kept"
        )


def sampling_key(settings: Teacher) -> str:
    """The settings that change what a model answers, as canonical JSON: part of an answer's key."""
    known: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    if settings.extra_body:
        known["extra_body"] = settings.extra_body
    return json.dumps(known, sort_keys=True)
