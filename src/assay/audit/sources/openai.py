"""The images endpoint of any server that speaks the OpenAI protocol, paced and tried again like the teacher."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import openai

from assay.audit.kept import Made
from assay.audit.sources.base import Keep, Request, checked
from assay.config import Audit, OpenAISource
from assay.errors import AccountRefused, BudgetReached, LastingFault, LeavesHost, PassingFailure, PassingFault, Stopped
from assay.remote.answers import AnswerStore
from assay.remote.faults import ACCOUNT, fault_of
from assay.remote.ledger import Ledger, Reserved
from assay.remote.pace import Pace, backoff
from assay.remote.server import api_key, http_client, one_line, retry_after, said_by, secret_headers

MOST_BYTES = 64_000_000  # of an image that a server gives as a link
LONGEST_WAIT_S = 3600.0
LINK_TRIES = 3
MOST_REFUSALS = 5  # so many requests refused, and none answered: it is not the prompts


class Endpoint:
    """Asks for one image at a time, many at once; a server that knows no seed gives another image each time."""

    def __init__(self, settings: OpenAISource, *, name: str, max_pixels: int) -> None:
        """`name`: of the generator in params, for which a budget holds over all runs."""
        self.settings, self.scope, self.max_pixels = settings, f"images {name}", max_pixels
        self.batch = 4 * settings.concurrency
        kept = {"base_url", "model", "size", "negative_prompt", "negative_field", "seed_field", "extra_body"}
        self.identity: dict[str, Any] = {"kind": "openai", **settings.model_dump(include=kept)}
        section = f"generators.{name}"
        headers = secret_headers(settings, section)
        self._key, self._headers = api_key(settings, section), {**settings.headers, **headers}
        self._secrets = [self._key, *headers.values()]
        self._refused: list[str] = []  # what was said of requests, as long as none was answered

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
            http_client=http_client(settings.base_url),
        )
        pace = Pace(most=settings.concurrency, per_minute=settings.requests_per_minute)
        stopped: list[BaseException] = []

        async def one(request: Request) -> None:
            try:
                keep(request, await self._one(request, server, pace, ledger))
                self._refused = []
            except Stopped:
                pass
            except PassingFault as fault:
                keep(request, PassingFailure(str(fault)))
            except LastingFault as fault:
                if _is_about_content(fault):
                    keep(request, Made("failed", str(fault), None, {}))
                    return
                keep(request, PassingFailure(str(fault)))  # of how it was asked: other settings may mend it
                self._refused.append(str(fault))
                if len(self._refused) == MOST_REFUSALS:
                    stopped.append(self._hopeless())
                    pace.end()
            except Exception as error:  # the account, the budget, the disk: no image can be had
                stopped.append(error)
                pace.end()

        try:
            with AnswerStore() as store:
                ledger: Ledger = store
                await asyncio.gather(*(one(request) for request in requests))
        finally:
            await server.close()
        if stopped:
            raise stopped[0]

    def _hopeless(self) -> AccountRefused:
        return AccountRefused(
            f"the images server at {self.settings.base_url} refused every request so far; the last: "
            f"{self._refused[-1]}. Check the settings of the generator"
        )

    async def _one(self, request: Request, server: openai.AsyncOpenAI, pace: Pace, ledger: Ledger) -> Made:
        settings = self.settings
        body: dict[str, Any] = {"model": settings.model, "prompt": request.prompt.text, "n": 1}
        body |= {"size": settings.image_size} if settings.image_size else {}
        body |= {"response_format": settings.response_format} if settings.response_format else {}
        body |= {settings.seed_field: request.noise} if settings.seed_field else {}
        if settings.negative_prompt and settings.negative_field:
            body[settings.negative_field] = settings.negative_prompt
        body |= settings.extra_body
        for attempt in range(settings.retries + 1):
            await pace.enter(1)
            fault: PassingFault | None = None
            headers = None
            started = time.perf_counter()
            try:
                found, headers = await self._bought(request.key, body, server, ledger)
                data = await self._image(found["data"][0])
                said = str(found.get("model") or settings.model)
                return checked(data, started=started, max_pixels=self.max_pixels, model=said, model_hash=said)
            except PassingFault as passing:
                fault = passing
            finally:
                pace.leave(fault, headers)
            if fault.wait_s is not None and fault.wait_s > LONGEST_WAIT_S:
                hours = fault.wait_s / 3600
                raise AccountRefused(f"the images server asks to wait {hours:.1f} hours ({fault}); run again then")
            if attempt == settings.retries or fault.code == "link":  # what was paid for is not bought at once again
                raise fault
            await pace.sleep(backoff(attempt, fault.wait_s))
        raise AssertionError("unreachable")

    async def _bought(
        self, key: str, body: dict[str, Any], server: openai.AsyncOpenAI, ledger: Ledger
    ) -> tuple[dict[str, Any], Any]:
        """The server's answer, paid from the budget."""
        reserved = self._reserve(key, ledger)
        try:
            found = await self._send(body, server)
        except PassingFault as passing:
            ledger.settle(self.scope, reserved, reserved.usd if passing.charged else 0.0, passing.code)
            raise
        except (LastingFault, AccountRefused):
            ledger.settle(self.scope, reserved, 0.0, "refused")
            raise
        except BaseException:
            ledger.settle(self.scope, reserved, reserved.usd, "stopped")
            raise
        ledger.settle(self.scope, reserved, reserved.usd, "answered")
        return found

    def _reserve(self, key: str, ledger: Ledger) -> Reserved:
        settings, usd = self.settings, self.settings.usd_per_image or 0.0
        if settings.budget_usd is None:
            return Reserved(key, usd)
        row = ledger.reserve(self.scope, key, usd, settings.budget_usd)
        if row is None:
            raise BudgetReached(
                f"budget_usd {settings.budget_usd:g} of the generator is reached: {ledger.spent(self.scope):.4f} spent "
                "so far, failed tries counted. Every image is kept; raise the budget and run again to go on"
            )
        return Reserved(key, usd, row)

    async def _send(self, body: dict[str, Any], server: openai.AsyncOpenAI) -> tuple[dict[str, Any], Any]:
        timeout = self.settings.timeout_s
        try:
            call = server.post("/images/generations", cast_to=httpx2.Response, body=body)
            response = await asyncio.wait_for(call, timeout)
            found = json.loads(response.content)
            if not isinstance(found["data"][0], dict):
                raise TypeError("no image")
            return found, response.headers
        except (openai.APITimeoutError, TimeoutError) as error:
            raise PassingFault("timeout", f"no image within {timeout:g} s") from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, LeavesHost):
                raise AccountRefused(f"the images server at {self.settings.base_url}: {error.__cause__}") from error
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
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise PassingFault("bad_response", f"no image in the body: {type(error).__name__}") from error

    async def _image(self, found: dict[str, Any]) -> bytes:
        """The bytes of an image that came as base64 or as a link, which is tried a few times before it is given up."""
        link = str(found.get("url") or "")
        encoded = link.partition(",")[2] if link.startswith("data:") else found.get("b64_json")
        if encoded:
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                raise PassingFault("bad_response", "what should be base64 is not") from error
        if not link:
            raise PassingFault("bad_response", "neither b64_json nor a link")
        for attempt in range(LINK_TRIES):
            try:
                return await asyncio.wait_for(self._linked(link), self.settings.timeout_s)
            except (TimeoutError, httpx2.HTTPError) as error:
                if attempt + 1 == LINK_TRIES:
                    raise PassingFault("link", f"the image's link cannot be read: {type(error).__name__}") from error
                await asyncio.sleep(backoff(attempt, None))
        raise AssertionError("unreachable")

    async def _linked(self, link: str) -> bytes:
        try:
            host = httpx2.URL(link).host
        except (httpx2.InvalidURL, ValueError) as error:
            raise PassingFault("link", "the server gave a link that is none") from error
        if not link.startswith(("http://", "https://")):
            raise PassingFault("link", "the server gave a link of another kind than http")
        if await _is_private(host) and not await _is_private(str(httpx2.URL(self.settings.base_url).host)):
            raise PassingFault("link", "the server links to an address inside of this network; it is not followed")
        data = bytearray()
        async with httpx2.AsyncClient(timeout=self.settings.timeout_s) as http, http.stream("GET", link) as response:
            response.raise_for_status()
            if response.status_code != 200:
                raise PassingFault("link", f"the image's link answers {response.status_code}")
            async for part in response.aiter_bytes():
                data += part
                if len(data) > MOST_BYTES:
                    raise PassingFault("link", f"the link leads to more than {MOST_BYTES} bytes")
        return bytes(data)


def _is_about_content(fault: LastingFault) -> bool:
    """Whether a refusal is of this prompt: asked in another way it would be refused too."""
    said = f"{fault.code} {fault.detail}".lower()
    return any(word in said for word in ("content_filter", "content policy", "content_policy", "moderation", "safety"))


async def _is_private(host: str) -> bool:
    """Whether a name leads to an address that is not of the public internet."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False  # then it cannot be read either
    return any(not ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_global for one in found)


def open_source(settings: OpenAISource, audit: Audit) -> Endpoint:
    """The source of an audit's images."""
    return Endpoint(settings, name=audit.generator, max_pixels=audit.images.max_pixels)
