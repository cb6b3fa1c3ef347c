"""How fast a teacher may be asked: adaptive concurrency, rate limits, Retry-After, back-off.

Concurrency follows additive increase and multiplicative decrease (Chiu and Jain, 1989), as TCP does.
Single faults are noise; only a share of faults counts as a server that has too much to do. What the
server says of its own limits (Retry-After, x-ratelimit headers) goes before anything measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping

from assay.errors import PassingFault, Stopped

WINDOW = 20  # outcomes that a judgement rests on
TOO_MANY = 0.2  # share of faults among them from which the server has too much to do
DECREASE = 0.7
GROWTH = 0.05  # of a found rate, per second without refusals
FIRST_GROWTH = 0.3  # while the limit was met once only, in the rush of the start
STORM = 0.5  # share of rate limits from which everyone waits
MAX_BACKOFF_S = 60.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Pace:
    """When the next request may go out; `enter` before each try, `leave` after it."""

    def __init__(
        self,
        *,
        most: int,
        per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: the highest number of requests in flight."""
        self._most, self._clock = most, clock
        self.limit = float(min(most, 4))
        self.active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._set_rate, self._tokens_rate = _per_second(per_minute), _per_second(tokens_per_minute)
        self.rate: float | None = None  # requests a second that the server was found to take; None: no limit met
        self._told_rate: float | None = None  # what its headers say
        self._told_tokens: float | None = None
        self._next = self._next_tokens = self._hold = 0.0
        self._met = 0  # how often the limit was met
        self._outcomes: deque[str] = deque(maxlen=WINDOW)
        self._answered: deque[float] = deque(maxlen=256)
        self._changed = self._grown = clock()
        self._ended = asyncio.Event()

    async def enter(self, tokens: int) -> None:
        """Wait for a place, for the rate limits, and for what the server asked to wait. `tokens`: of this request."""
        self._check()
        while self.active >= int(self.limit):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                self._wake()
                raise
            self._check()
        self.active += 1
        try:
            wait = self._turn(tokens)
            while wait > 0:
                await self.sleep(wait)
                wait = self._hold - self._clock()  # a storm may have come up while this one waited
        except BaseException:
            self.active -= 1
            self._wake()
            raise

    async def sleep(self, seconds: float) -> None:
        """Wait; Stopped at once when the run is ended meanwhile."""
        if not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)
        self._check()

    def end(self) -> None:
        """Let nobody wait any longer: the run stops."""
        self._ended.set()
        for place in self._waiting:
            if not place.done():
                place.set_result(None)

    def _check(self) -> None:
        if self._ended.is_set():
            raise Stopped("the run was stopped")

    def leave(self, fault: PassingFault | None, headers: Mapping[str, str] | None = None) -> None:
        """Count an outcome (`fault` None: an answer, or a refusal that has nothing to do with load)."""
        now = self._clock()
        self.active -= 1
        self._outcomes.append("ok" if fault is None else "limited" if fault.limited else "busy" if fault.busy else "ok")
        if headers:
            self._listen(headers)
        if fault is None:
            self._answered.append(now)
            self.limit = min(self.limit + 1 / max(self.limit, 1.0), float(self._most))
            self._grow(now)
        elif fault.limited or fault.busy:
            self._slow_down(fault, now)
        self._wake()

    def current_rate(self) -> float | None:
        """Answers a second over the last ones, None before there are some."""
        if len(self._answered) < 2:
            return None
        span = self._clock() - self._answered[0]
        return len(self._answered) / span if span > 0 else None

    def _turn(self, tokens: int) -> float:
        """Seconds to wait for this request's turn, which is taken."""
        now = self._clock()
        at = max(now, self._hold)
        rates: list[float] = [rate for rate in (self._set_rate, self._told_rate, self.rate) if rate]
        if rates:
            at = max(at, self._next)
            self._next = at + 1 / min(rates)
        token_rates: list[float] = [rate for rate in (self._tokens_rate, self._told_tokens) if rate]
        if token_rates:
            at = max(at, self._next_tokens)
            self._next_tokens = at + tokens / min(token_rates)
        return at - now

    def _slow_down(self, fault: PassingFault, now: float) -> None:
        known = len(self._outcomes)
        share = {kind: self._outcomes.count(kind) / known for kind in ("limited", "busy")}
        if fault.limited and fault.wait_s and known >= 4 and share["limited"] >= STORM:
            self._hold = max(self._hold, now + fault.wait_s)
        if known < WINDOW // 2 or max(share.values()) < TOO_MANY:
            return
        if fault.limited:
            found = self._goodput(now)
            if found:
                self._met += 1
                self.rate = found
        self.limit = max(1.0, self.limit * DECREASE)
        self._outcomes.clear()  # judge anew
        self._changed = self._grown = now

    def _goodput(self, now: float) -> float | None:
        """Answers a second, the better of the last second and the last five; None while there are too few."""
        last, recent = (sum(t > now - span for t in self._answered) for span in (1, 5))
        if recent < 5:
            return None
        return max(float(last), recent / 5, 0.05)

    def _grow(self, now: float) -> None:
        """Try a little more than the found rate, the more the longer nothing was refused."""
        if self.rate is None:
            return
        step = GROWTH * min(1 + (now - self._changed) / 10, 4) if self._met > 1 else FIRST_GROWTH
        self.rate *= 1 + step * min(now - self._grown, 1.0)
        self._grown = now
        if now - self._changed > 60:
            self.rate = None

    def _listen(self, headers: Mapping[str, str]) -> None:
        """Rates from x-ratelimit headers, once little of an allowance is left: what is refilled, over the time."""
        for name, attribute in (("requests", "_told_rate"), ("tokens", "_told_tokens")):
            found = [headers.get(f"x-ratelimit-{part}-{name}") for part in ("limit", "remaining", "reset")]
            if any(value is None for value in found):
                continue
            try:
                limit, remaining = float(str(found[0])), float(str(found[1]))
            except ValueError:
                continue
            reset = seconds(str(found[2]))
            if reset and limit > remaining:
                tight = remaining < 0.1 * limit
                setattr(self, attribute, (limit - remaining) / reset if tight else None)

    def _wake(self) -> None:
        free = int(self.limit) - self.active
        while free > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1


def _per_second(per_minute: float | None) -> float | None:
    return per_minute / 60 if per_minute else None


def backoff(attempt: int, asked: float | None, draw: Callable[[], float] = random.random) -> float:
    """Seconds before the next try: full jitter over 0.5, 1, 2, … 60 s, and never less than the server asked.

    `attempt` counts from 0. Source: Brooker, "Exponential backoff and jitter" (2015); a floor of a tenth
    keeps a draw near 0 from being no pause at all.
    """
    most = min(MAX_BACKOFF_S, 0.5 * 2.0**attempt)
    pause = most * (0.1 + 0.9 * draw())
    return pause if asked is None else asked + min(pause, 0.1 * asked + 0.1)


def seconds(text: str) -> float | None:
    """A duration such as "1.5", "20ms", "6m0s" or "1d2h", as rate-limit headers have it; None if it is none."""
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        pass
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    try:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    except ValueError:
        return None
