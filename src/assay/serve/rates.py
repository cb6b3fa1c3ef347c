"""How often a caller may ask."""

from __future__ import annotations

import time

from assay.errors import Refusal

MOST_CALLERS = 10_000  # whose rates are remembered


class Rates:
    """A token bucket for each caller: so many requests a minute, and as many at once as come in ten seconds."""

    def __init__(self, per_minute: float | None) -> None:
        self.per_second = per_minute / 60 if per_minute else None
        self.burst = max(1.0, per_minute / 6) if per_minute else 0.0
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> None:
        """Refusal 429 with the time to wait where the bucket is empty."""
        self.check(caller)
        self.spend(caller)

    def check(self, caller: str) -> None:
        """The same refusal, without taking anything."""
        left = self._now(caller)
        if self.per_second is not None and left < 1:
            wait = (1 - left) / self.per_second
            raise Refusal(
                429, "rate_limited", f"more than {60 * self.per_second:g} requests a minute", retry_after_s=wait
            )

    def spend(self, caller: str) -> None:
        """Take one, or what is left."""
        if self.per_second is None:
            return
        left = self._now(caller)
        self._left.pop(caller, None)
        self._left[caller] = (max(0.0, left - 1), time.monotonic())
        if len(self._left) > MOST_CALLERS:
            del self._left[next(iter(self._left))]

    def _now(self, caller: str) -> float:
        """What is in the bucket by now."""
        now = time.monotonic()
        left, since = self._left.get(caller, (self.burst, now))
        return min(self.burst, left + (now - since) * (self.per_second or 0.0))
