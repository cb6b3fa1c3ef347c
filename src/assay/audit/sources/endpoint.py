"""The images endpoint of any server that speaks the OpenAI protocol, paced and tried again like the teacher."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import openai

from assay.audit.kept import Made
from assay.audit.sources.base import Keep, PassingFailure, Request, checked
from assay.config import OpenAISource
from assay.errors import AccountRefused, BudgetReached, DataError
from assay.teacher.answers import AnswerStore
from assay.teacher.faults import ACCOUNT, LastingFault, PassingFault, fault_of
from assay.teacher.limits import Pace, backoff
from assay.teacher.money import Ledger, Reserved
from assay.teacher.server import api_key, one_line, retry_after, said_by, secret_headers

MOST_BYTES = 64_000_000  # of an image that a server gives as a link
LONGEST_WAIT_S = 3600.0


class Endpoint:
    """Asks for one image at a time, many at once; a server that knows no seed gives another image each time."""

    def __init__(self, settings: OpenAISource, *, name: str, scope: str, max_pixels: int) -> None:
        """`name`: of the generator in params; `scope`: what a budget is for, over all runs."""
        self.settings, self.scope, self.max_pixels = settings, scope, max_pixels
        self.batch = 8 * settings.concurrency
        kept = {"model", "size", "negative_prompt", "negative_field", "seed_field", "extra_body"}
        self.identity: dict[str, Any] = {"kind": "openai", **settings.model_dump(include=kept)}
        section = f"generators.{name}"
        headers = secret_headers(settings, section)
        self._key, self._headers = api_key(settings, section), {**settings.headers, **headers}
        self._secrets = [self._key, *headers.values()]

    def make(self, requests: Sequence[Request], keep: Keep) -> None:
        asyncio.run(self._all(requests, keep))

    async def _all(self, requests: Sequence[Request], keep: Keep) -> None:
        settings = self.settings
        server = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            max_retries=0,
            default_headers=self._headers,
        )
        pace = Pace(most=settings.concurrency, per_minute=settings.requests_per_minute)
        stopped: list[BaseException] = []

        async def one(request: Request) -> None:
            if stopped:
                return
            try:
                keep(request, await self._one(request, server, pace, ledger))
            except (PassingFault, LastingFault) as fault:
                passing = isinstance(fault, PassingFault)
                keep(request, PassingFailure(str(fault)) if passing else Made("failed", str(fault), None, {}))
            except Exception as error:  # the account, the budget, the disk: no image can be had
                stopped.append(error)
                pace.end()

        try:
            with AnswerStore() as store:
                ledger = Ledger(store)
                await asyncio.gather(*(one(request) for request in requests))
        finally:
            await server.close()
        if stopped:
            raise stopped[0]

    async def _one(self, request: Request, server: openai.AsyncOpenAI, pace: Pace, ledger: Ledger) -> Made:
        settings = self.settings
        body: dict[str, Any] = {"model": settings.model, "prompt": request.prompt.text, "n": 1}
        body |= {"size": settings.size} if settings.size else {}
        body |= {"response_format": settings.response_format} if settings.response_format else {}
        body |= {settings.seed_field: request.seed} if settings.seed_field else {}
        if settings.negative_prompt and settings.negative_field:
            body[settings.negative_field] = settings.negative_prompt
        body |= settings.extra_body
        for attempt in range(settings.retries + 1):
            await pace.enter(1)
            fault: PassingFault | None = None
            headers = None
            reserved = self._reserve(request.key, ledger, pace)
            started = time.perf_counter()
            try:
                data, headers, said = await self._send(body, server)
                ledger.settle(self.scope, reserved, reserved.usd, "answered")
                facts = {"model": str(said or settings.model), "model_hash": str(said or settings.model)}
                return checked(data, started=started, max_pixels=self.max_pixels, **facts)
            except PassingFault as passing:
                fault = passing
                ledger.settle(self.scope, reserved, reserved.usd if passing.charged else 0.0, passing.code)
            except (LastingFault, AccountRefused):
                ledger.settle(self.scope, reserved, 0.0, "refused")
                raise
            except BaseException:
                ledger.settle(self.scope, reserved, reserved.usd, "stopped")
                raise
            finally:
                pace.leave(fault, headers)
            if fault.wait_s is not None and fault.wait_s > LONGEST_WAIT_S:
                raise AccountRefused(
                    f"the server asks to wait {fault.wait_s / 3600:.1f} hours ({fault}); run again then"
                )
            if attempt == settings.retries:
                raise fault
            await pace.sleep(backoff(attempt, fault.wait_s))
        raise AssertionError("unreachable")

    def _reserve(self, key: str, ledger: Ledger, pace: Pace) -> Reserved:
        settings, usd = self.settings, self.settings.usd_per_image or 0.0
        if settings.budget_usd is None:
            return Reserved(key, usd)
        row = ledger.reserve(self.scope, key, usd, settings.budget_usd)
        if row is None:
            pace.leave(None)
            raise BudgetReached(
                f"budget_usd {settings.budget_usd:g} of the generator is reached: {ledger.spent(self.scope):.4f} spent "
                "so far, failed tries counted. Every image is kept; raise the budget and run again to go on"
            )
        return Reserved(key, usd, row)

    async def _send(self, body: dict[str, Any], server: openai.AsyncOpenAI) -> tuple[bytes, Any, str | None]:
        timeout = self.settings.timeout_s
        try:
            call = server.post("/images/generations", cast_to=httpx2.Response, body=body)
            response = await asyncio.wait_for(call, timeout)
            found = json.loads(response.content)
            data = await asyncio.wait_for(self._image(found["data"][0]), timeout)
            return data, response.headers, found.get("model")
        except (openai.APITimeoutError, TimeoutError) as error:
            raise PassingFault("timeout", f"no image within {timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise PassingFault("connection", type(error.__cause__ or error).__name__) from error
        except openai.APIStatusError as error:
            said = one_line(said_by(error), self._secrets)
            if error.status_code in ACCOUNT:
                raise AccountRefused(
                    f"the images server at {self.settings.base_url} refused ({error.status_code}): {said}; check model "
                    f"{self.settings.model!r}, base_url and the key in {self.settings.api_key_env or 'api_key_env'}"
                ) from error
            raise fault_of(error.status_code, said, retry_after(error.response.headers)) from error
        except httpx2.HTTPError as error:
            raise PassingFault("connection", type(error).__name__) from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error) as error:
            raise PassingFault("bad_response", f"no image in the body: {type(error).__name__}") from error

    async def _image(self, found: dict[str, Any]) -> bytes:
        """The bytes of an image that came as base64 or as a link."""
        encoded = found.get("b64_json")
        link = str(found.get("url") or "")
        if link.startswith("data:"):
            encoded = link.partition(",")[2]
        if encoded:
            return base64.b64decode(encoded, validate=True)
        if not link.startswith(("http://", "https://")):
            raise ValueError("neither b64_json nor a link")
        data = bytearray()
        async with httpx2.AsyncClient(follow_redirects=True) as http, http.stream("GET", link) as response:
            response.raise_for_status()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > MOST_BYTES:
                    raise DataError(f"the server links to an image of more than {MOST_BYTES} bytes")
        return bytes(data)
