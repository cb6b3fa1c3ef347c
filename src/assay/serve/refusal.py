"""What a request is refused for: a status, a code and a sentence; never a trace."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request that is not served."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.retry_after_s = status, code, detail, retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"code": self.code, "message": self.detail}}

    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, where waiting helps."""
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, round(self.retry_after_s + 0.5)))}
