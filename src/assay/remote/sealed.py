"""Answers at rest: with ASSAY_STORE_KEY what models wrote is encrypted in the store by Fernet (AES-CBC and HMAC).

ASSAY_STORE_KEY holds one key, or several with commas between: the first one seals, all of them open. What is sealed
is what a post could be read from: raw answers, tokens with their alternatives, and the words of reasons. Keys of
questions (digests), statuses, models, counts and costs stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from assay.errors import SettingsError, TeacherError

VARIABLE = "ASSAY_STORE_KEY"
MARK = "assay-fernet-1:"
FIELDS = ("raw_answer", "evidence", "reason")
PROBE = "the key of this store"


class Seal:
    """Seals and opens texts; without a key they are kept as they are."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"{VARIABLE} is no key: it must be 44 characters of URL-safe base64 (several: commas between); "
                "`assay answers new-key` makes one"
            ) from error

    @classmethod
    def from_environment(cls) -> Seal:
        """By ASSAY_STORE_KEY; SettingsError where that is no key."""
        return cls([key.strip() for key in os.environ.get(VARIABLE, "").split(",") if key.strip()])

    @property
    def has_key(self) -> bool:
        """Whether there is a key."""
        return self._fernet is not None

    def close(self, field: str, text: str | None) -> str | None:
        """A field as it is kept. Of a reason the code stays readable, by which answers are asked again."""
        if text is None or text == "" or field not in FIELDS:
            return text
        code, colon, words = text.partition(": ") if field == "reason" else ("", "", text)
        if self._fernet is None:
            return (
                f"{code}{colon}({words}" if words.startswith(MARK) else text
            )  # what a model wrote is not taken for sealed
        if not words:
            return text
        return f"{code}{colon}{MARK}{self._fernet.encrypt(words.encode('utf-8', 'surrogatepass')).decode()}"

    def open(self, field: str, text: str | None) -> str | None:
        """A field as it was; TeacherError where no key opens it."""
        if text is None or field not in FIELDS:
            return text
        code, colon, words = text.partition(": ") if field == "reason" else ("", "", text)
        if not words.startswith(MARK):
            return text
        return f"{code}{colon}{self._opened(words)}"

    def probe(self) -> str:
        """What tells later whether a key is the right one."""
        return str(self.close("raw_answer", PROBE))

    def check(self, probe: str) -> None:
        """TeacherError unless the keys open the probe of a store."""
        self._opened(probe)

    def _opened(self, sealed: str) -> str:
        if self._fernet is None:
            raise TeacherError(f"the answer store is encrypted; set {VARIABLE} to its key")
        try:
            return self._fernet.decrypt(sealed.removeprefix(MARK).encode()).decode("utf-8", "surrogatepass")
        except InvalidToken as error:
            raise TeacherError(
                f"{VARIABLE} does not open the answer store: it was encrypted with another key. Set that one, or both "
                "with a comma between (the new one first) and run `assay answers rotate-key`"
            ) from error


def new_key() -> str:
    """A fresh key."""
    return Fernet.generate_key().decode()
