"""What asking costs: prices, a budget that is reserved before it is spent, and the log of what was sent."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any
from urllib.parse import urlsplit

from assay.config import Teacher
from assay.errors import BudgetReached, SettingsError, TeacherError
from assay.places import home
from assay.remote.answers import AnswerStore
from assay.remote.dialect import longest
from assay.remote.ledger import Reserved

CHARS_A_TOKEN = 4
IMAGE_TOKENS = 256  # a rough figure; what a server says counts as soon as it says it
UNKNOWN_IMAGE_TOKENS = 1500  # a high one, reserved until the server has counted some
FIRST_RESERVE_USD = 0.05  # for the first questions to a server that alone knows its prices


def price(settings: Teacher, prompt: int | None, completion: int | None) -> float | None:
    """US dollars by the prices of params, None where these or the token counts are not known."""
    prices = settings.usd_per_million_input, settings.usd_per_million_output
    if prices[0] is None or prices[1] is None or prompt is None or completion is None:
        return None
    return (prompt * prices[0] + completion * prices[1]) / 1e6


def tokens_of(request: dict[str, Any], image_tokens: int = IMAGE_TOKENS) -> int:
    """About how many tokens a request has."""
    count = len(json.dumps(request.get("questions", ""))) + len(str(request.get("state", "")))
    images = len(request.get("assets", ()))
    for message in request.get("messages", ()):
        parts = message["content"] if isinstance(message["content"], list) else [{"text": message["content"]}]
        count += sum(len(part.get("text", "")) for part in parts)
        images += sum("image_url" in part for part in parts)
    return count // CHARS_A_TOKEN + images * image_tokens


class Meter:
    """Reserves before each try and settles after it; without a store nothing is booked."""

    def __init__(
        self,
        store: AnswerStore | None = None,
        *,
        scope: str = "",
        budget: float | None = None,
        log: AuditLog | None = None,
    ) -> None:
        """`scope` names the task: a budget holds for all its runs together."""
        self.store, self.scope, self.budget, self.log = store, scope, budget, log
        self._dearest = 0.0
        self._ratio = 1.0  # tokens that the server counts to those counted here, at most
        self._counted = 0
        self._untold = False
        self._unlogged: TeacherError | None = None

    def reserve(self, key: str, request: dict[str, Any], settings: Teacher) -> Reserved:
        """Set aside what this try may cost at most, and write down that it leaves; BudgetReached without money."""
        self.check()
        tokens = tokens_of(request)
        most = math.ceil(tokens * self._ratio) if self._counted else tokens_of(request, UNKNOWN_IMAGE_TOKENS)
        bound = price(settings, most, longest(settings))
        usd = self._dearest if bound is None else bound
        if self.budget is None or self.store is None:
            self._leaves(key)
            return Reserved(key, usd, tokens=tokens)
        if self._untold and bound is None:
            raise SettingsError(
                "annotate.budget_usd: this server does not tell what an answer costs; set usd_per_million_input and "
                "usd_per_million_output of the teacher"
            )
        usd = usd or min(FIRST_RESERVE_USD, self.budget / 10)
        row = self.store.reserve(self.scope, key, usd, self.budget)
        if row is None:
            spent = self.store.spent(self.scope)
            raise BudgetReached(
                f"annotate.budget_usd {self.budget:g} is reached: {spent:.4f} spent on {self.scope} so far, failed "
                "tries counted. Every answer is kept; raise the budget and run again to go on"
            )
        found = Reserved(key, usd, row, tokens)
        try:
            self._leaves(key)
        except TeacherError:
            self.store.settle(self.scope, found, 0.0, "not sent")
            raise
        return found

    def _leaves(self, key: str) -> None:
        """The line that a request is sent, which stands in the audit log before the request does leave."""
        self.note(key, "sent")
        self.check()

    def settle(self, reserved: Reserved, usd: float | None, outcome: str, prompt_tokens: int | None = None) -> None:
        """Book what the try did cost; None: not told, the reserve counts."""
        if prompt_tokens and reserved.tokens:
            seen = 1.1 * prompt_tokens / reserved.tokens
            self._ratio = max(self._ratio, seen) if self._counted else seen
            self._counted += 1
        if outcome == "answered":
            self._untold = usd is None
            self._dearest = max(self._dearest, usd or 0.0)
        cost = reserved.usd if usd is None else usd
        if self.store is not None and (reserved.row is not None or cost > 0):
            self.store.settle(self.scope, reserved, cost, outcome)
        self.note(reserved.key, outcome)

    def note(self, key: str, outcome: str) -> None:
        """Add a line to the audit log; where that fails, `check` raises before anything more is sent."""
        if self.log is not None:
            try:
                self.log.add(key, outcome)
            except OSError as error:  # not raised here: what was answered must be kept first
                self._unlogged = TeacherError(f"audit log {self.log.path}: {error.strerror}; nothing more is sent")

    def check(self) -> None:
        """TeacherError when the audit log could not be written."""
        if self._unlogged:
            raise self._unlogged


class AuditLog:
    """An append-only file that says what left this machine: when, for which task, to whom; never the content.

    A request has a line with the outcome `sent` before it leaves, and one with what came of it; after a kill the
    second may be lacking.
    """

    def __init__(self, settings: Teacher, task: str) -> None:
        self.path = home() / "logs" / f"sent-{time.strftime('%Y-%m')}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = urlsplit(settings.base_url)
        self._fixed = {"task": task, "host": parts.hostname or "", "model": settings.model}
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, key: str, outcome: str) -> None:
        """One line for one request; `key` is the digest of the question."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        line = json.dumps({"at": f"{now}Z", "key": key, **self._fixed, "outcome": outcome})
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
