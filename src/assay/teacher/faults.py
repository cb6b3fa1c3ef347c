"""What can go wrong with one question: faults that pass and faults that last."""

from __future__ import annotations

from assay.errors import RowError

ACCOUNT = {401, 402, 404}  # 403 may be one post that a moderator refused
PASSING = {408, 409, 425, 429}
NOT_THIS_WAY = {400, 404, 405, 422, 501}  # how a server says that it does not know a field or a path


class PassingFault(RowError):
    """A fault that may be gone next time: rate limit, overload, time-out, cut connection.

    `wait_s` is what the server asked to wait. `limited` marks rate limits, `busy` overload and silence.
    `charged` is false where the server refused before it did any work.
    """

    def __init__(self, code: str, detail: str = "", *, wait_s: float | None = None) -> None:
        super().__init__(code, detail)
        self.wait_s = wait_s
        self.limited = code == "http_429"
        self.busy = not self.limited and code != "bad_response"
        self.charged = not code.startswith("http_")


class Taken(Exception):
    """While a question waited for its turn its claim ran out, and another process has it now."""


class LastingFault(RowError):
    """A fault of this one question that asking again will not mend."""

    def __init__(self, code: str, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(code, detail)
        self.status = status


def fault_of(status: int, said: str, wait_s: float | None = None) -> PassingFault | LastingFault:
    """The fault that an HTTP status is for one question."""
    if status in PASSING or (status >= 500 and status not in NOT_THIS_WAY):
        return PassingFault(f"http_{status}", said, wait_s=wait_s)
    return LastingFault(f"http_{status}", said, status=status)
