"""Asks an OpenAI-compatible server: paced, tried again where that can help, in the form that it takes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import openai

from assay.config import Annotate, Teacher
from assay.errors import AccountRefused, RowError, TeacherError
from assay.teacher.distribution import evidence, from_typed
from assay.teacher.faults import ACCOUNT, NOT_THIS_WAY, LastingFault, PassingFault, Taken, fault_of
from assay.teacher.limits import Pace, backoff
from assay.teacher.money import Meter, price, tokens_of
from assay.teacher.rubric import Rubric
from assay.teacher.server import api_key, one_line, readable, retry_after, said_by, secret_headers
from assay.teacher.structure import ORDER, Question, Way, body, content_of, path, remembered, ways, with_repair

LONGEST_WAIT_S = 3600.0
MOST_REFUSALS = 3  # so many posts refused in every way: it is not the posts


@dataclass(frozen=True)
class Reply:
    """The server's answer, unparsed, with what it said of its cost; of all tries together."""

    raw: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    how: str = "plain"  # typed, or plain
    evidence: str | None = None  # tokens of the value with their alternatives, see distribution.evidence
    cut: bool = False  # the answer was longer than max_tokens

    def plus(self, earlier: Reply) -> Reply:
        """This answer with the tokens and the cost of an earlier try added."""
        sums: dict[str, Any] = {}
        for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
            values = [v for v in (getattr(self, name), getattr(earlier, name)) if v is not None]
            sums[name] = sum(values) if values else None
        return replace(self, **sums)


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
        on_way: Callable[[Way], None] | None = None,
        before_send: Callable[[str], None] | None = None,
    ) -> None:
        """`known_way`: what an earlier run found that the server takes; `on_way` is told what this one finds.

        `before_send` gets the key of a question before each try and may refuse by raising.
        """
        self.settings, self.rubric, self.meter = settings, rubric, meter or Meter()
        self.pace = Pace(
            most=settings.concurrency,
            per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        )
        self.ways = ways(settings, annotate)
        self._way = remembered(known_way, self.ways) or (self.ways[0] if len(self.ways) == 1 else None)
        self._before_send = before_send
        self._on_way, self._probing, self._refusals = on_way, asyncio.Lock(), 0
        self._hopeless: AccountRefused | None = None
        http: httpx2.AsyncClient | None = None
        base_url = settings.base_url
        if base_url == "demo":
            from assay.teacher.demo import app

            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
            base_url = "http://demo.teacher/v1"
        self._secrets = [api_key(settings), *secret_headers(settings).values()]
        self.server = openai.AsyncOpenAI(
            api_key=self._secrets[0],
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
        request = body(question, self._way, self.settings)
        return await self._checked(request, self._way, key, deadline)

    async def _checked(self, request: dict[str, Any], way: Way, key: str, deadline: float) -> Reply:
        reply = await self._try(request, way, key, deadline)
        problem = self._problem(reply)
        if problem is None or reply.cut or way.structure == "typed":
            return reply
        try:
            again = await self._try(with_repair(request, reply.raw, self.rubric.again(problem)), way, key, deadline)
        except (PassingFault, LastingFault, TeacherError, Taken):
            return reply  # paid for; where the run has to stop, the next question tells
        return again.plus(reply)

    def _problem(self, reply: Reply) -> RowError | None:
        try:
            from_typed(reply.raw, self.rubric.target) if reply.how == "typed" else self.rubric.parse(reply.raw)
        except RowError as error:
            return error
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
                reply = await self._try(body(question, way, self.settings), way, key, deadline, probing=True)
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
            if self._problem(reply) is None:
                return self._found(way if reply.evidence else way._replace(logprobs=False), reply)
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
        request = body(question, way, self.settings)
        self._way = way  # nothing fitted yet: go on in plain words, and look again next time
        return (await self._checked(request, way, key, deadline)).plus(earlier)

    def _found(self, way: Way, reply: Reply) -> Reply:
        self._way = way
        if self._on_way:
            self._on_way(way)
        return reply

    # ------------------------------------------------------------------------------------- one try

    async def _try(
        self, request: dict[str, Any], way: Way, key: str, deadline: float, *, probing: bool = False
    ) -> Reply:
        """Tries until an answer, a lasting fault, too many passing ones or the deadline."""
        expected = tokens_of(request)
        for attempt in range(self.settings.retries + 1):
            await self.pace.enter(expected + self.settings.max_tokens)
            fault: PassingFault | None = None
            headers: Mapping[str, str] | None = None
            try:
                if self._before_send:
                    self._before_send(key)
                reserved = self.meter.reserve(key, request, self.settings)
            except BaseException:
                self.pace.leave(None)
                raise
            try:
                reply, headers = await self._send(request, way, probing=probing)
                self.meter.settle(reserved, reply.cost_usd, "answered", reply.prompt_tokens)
                return reply
            except PassingFault as passing:
                fault = passing
                self.meter.settle(reserved, reserved.usd if fault.charged else 0.0, fault.code)
            except RowError as lasting:
                self.meter.settle(reserved, reserved.usd if lasting.code == "content_filter" else 0.0, lasting.code)
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

    async def _send(self, request: dict[str, Any], way: Way, *, probing: bool) -> tuple[Reply, Mapping[str, str]]:
        try:
            call: Awaitable[httpx2.Response] = self.server.post(path(way), cast_to=httpx2.Response, body=request)
            response = await asyncio.wait_for(call, self.settings.timeout_s)  # also of a body that trickles
            return self.read(json.loads(response.content), way), response.headers
        except (openai.APITimeoutError, TimeoutError) as error:
            raise PassingFault("timeout", f"no answer within {self.settings.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise PassingFault("connection", f"{type(error.__cause__ or error).__name__}") from error
        except openai.APIStatusError as error:
            raise self._fault(error, probing=probing) from error
        except httpx2.HTTPError as error:  # cut while the body came
            raise PassingFault("connection", type(error).__name__) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            raise PassingFault("bad_response", f"not a chat completion: {type(error).__name__}") from error

    def _fault(self, error: openai.APIStatusError, *, probing: bool) -> Exception:
        status, said = error.status_code, self.clean(said_by(error))
        if status in ACCOUNT and not (probing and status in NOT_THIS_WAY):
            return self._refused(status, said)
        return fault_of(status, said, retry_after(error.response.headers))

    def clean(self, said: str) -> str:
        """A server's message in one line, without the key, which some repeat."""
        return one_line(said, self._secrets)

    def _refused(self, status: int | None, said: str) -> AccountRefused:
        settings = self.settings
        return AccountRefused(
            f"the teacher at {settings.base_url} refused ({status}): {said}; check "
            f"annotate.teacher.model {settings.model!r}, base_url and the key in "
            f"{settings.api_key_env or 'api_key_env (not set)'}. Every answer so far is kept"
        )

    def read(self, answer: dict[str, Any], way: Way) -> Reply:
        """The reply in a server's body; PassingFault or LastingFault where there is none to be read."""
        usage, model = answer.get("usage") or {}, readable(str(answer.get("model") or self.settings.model))
        if way.structure == "typed":
            tokens = usage.get("input_tokens"), usage.get("output_tokens")
            raw = json.dumps(answer["answers"])
            return Reply(raw, model, *tokens, self._cost(usage, tokens), "typed")
        choices = answer.get("choices")
        if not choices:
            raise PassingFault("bad_response", "no choices in the body")
        choice = choices[0]
        reason, message = choice.get("finish_reason"), choice.get("message")
        if not isinstance(message, dict):
            raise PassingFault("bad_response", f"no message in the body (finish reason {reason})")
        if reason == "content_filter" or message.get("refusal"):
            raise LastingFault("content_filter", self.clean(str(message.get("refusal") or "")))
        raw = readable(content_of(message, way))
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        listed = (choice.get("logprobs") or {}).get("content") if way.logprobs else None
        return Reply(
            raw,
            model,
            *tokens,
            self._cost(usage, tokens),
            evidence=evidence(raw, listed, self.rubric.target) if listed else None,
            cut=reason == "length",
        )

    def _cost(self, usage: dict[str, Any], tokens: tuple[int | None, int | None]) -> float | None:
        told = usage.get("cost")
        if isinstance(told, int | float) and not isinstance(told, bool):
            return float(told)
        return price(self.settings, *tokens)


def sampling(settings: Teacher) -> str:
    """The settings that change what a model answers, as canonical JSON: part of an answer's key."""
    known: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    if settings.extra_body:
        known["extra_body"] = settings.extra_body
    return json.dumps(known, sort_keys=True)
