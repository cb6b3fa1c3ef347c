"""Every exception that assay raises on purpose, in one small tree.

AssayError
├── SettingsError      params.yaml is wrong
├── CorpusError        a corpus cannot be read at all
├── RubricError        a rubric and its target disagree
├── TeacherError       annotation cannot go on
│   ├── AccountRefused     the key, the account or the model was refused
│   ├── BudgetReached      the money of annotate.budget_usd is spent
│   ├── TooManyFailures    too many posts failed for passing reasons
│   └── Stopped            the run ended while a request waited for its turn
├── EncoderError       an encoder cannot be loaded
├── ModelError         a model folder cannot be used
├── DataError          tables of the run do not fit together
└── RowError           one row cannot be used: becomes a row of the problems table, never a crash
    ├── ImageProblem       the same, for one image
    ├── PassingFault       a question's fault that may be gone next time
    └── LastingFault       a question's fault that asking again will not mend

Beside it, what one part tells another: Taken, Told, LeavesHost, PassingFailure, Refusal.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class AssayError(Exception):
    """Base of all errors whose message is meant for the user: one line, what to do included.

    What it quotes of files and servers is shown without controls, which would speak to the terminal.
    """

    def __str__(self) -> str:
        return _CONTROLS.sub("\ufffd", super().__str__())


class SettingsError(AssayError):
    """A setting is unknown, of the wrong type or out of range."""


class CorpusError(AssayError):
    """A corpus is missing, empty or not in the layout that its kind expects."""


class RubricError(AssayError):
    """A rubric is missing or lacks a heading for a name of its target."""


class TeacherError(AssayError):
    """Annotation had to stop; everything that was answered is kept."""


class AccountRefused(TeacherError):
    """The server refused the key, the account or the model: asking again cannot help."""


class BudgetReached(TeacherError):
    """What `annotate.budget_usd` allows is spent; a higher one goes on where this one stopped."""


class TooManyFailures(TeacherError):
    """More posts failed for passing reasons than `annotate.max_failed_share` allows."""


class EncoderError(AssayError):
    """An encoder is unknown, cannot be found or is not the file it should be."""


class ModelError(AssayError):
    """A model folder is missing a file or does not fit this version."""


class DataError(AssayError):
    """Tables of the run are empty, inconsistent or too small for the work."""


class RowError(AssayError):
    """A row that cannot be used; `code` is a short stable name, `detail` says what was seen."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class ImageProblem(RowError):
    """An image that cannot be used, with the same two fields."""


class Stopped(TeacherError):
    """The run was stopped while a request waited for its turn."""


class PassingFault(RowError):
    """A fault that may be gone next time: rate limit, overload, time-out, cut connection.

    `wait_s` is what the server asked to wait. `limited` marks rate limits, `busy` overload and silence.
    `charged` is false where the server refused before it did any work; `cost_usd` is what it told.
    """

    def __init__(
        self, code: str, detail: str = "", *, wait_s: float | None = None, cost_usd: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.wait_s, self.cost_usd = wait_s, cost_usd
        self.limited = code == "http_429"
        self.busy = not self.limited and code not in ("bad_response", "empty_answer")
        self.charged = not code.startswith(("http_", "server_error"))


class LastingFault(RowError):
    """A fault of this one question that asking again will not mend; `field`: the parameter that the server names."""

    def __init__(
        self, code: str, detail: str = "", *, status: int | None = None, field: str = "", cost_usd: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.status, self.field, self.cost_usd = status, field, cost_usd


# ------------------------------------------------------------ between parts of assay, never shown as they are


class Taken(Exception):
    """While a question waited for its turn its claim ran out, and another process has it now."""


class Told(Exception):
    """A fault that a body tells, as the status that it names; `usd`: what it says it cost all the same."""

    def __init__(self, status: int | None, said: str, field: str, wait_s: float | None, usd: float | None) -> None:
        super().__init__(said)
        self.status, self.said, self.field, self.wait_s, self.usd = status, said, field, wait_s, usd


class LeavesHost(Exception):
    """A server sends the client, with a post in hand, to another host."""


class PassingFailure(Exception):
    """An image that could not be had now, and may be had in the next run."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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


def run_main(main: Callable[[], None]) -> None:
    """Run a command's main function; an AssayError ends it with one line on stderr and status 1."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has enough of it, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("assay: interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
