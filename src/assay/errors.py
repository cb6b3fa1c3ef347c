"""Every exception that assay raises on purpose, in one small tree.

AssayError
├── SettingsError      params.yaml is wrong
├── CorpusError        a corpus cannot be read at all
├── RubricError        a rubric and its target disagree
├── TeacherError       annotation cannot go on
│   ├── AccountRefused     the key, the account or the model was refused
│   ├── BudgetReached      the money of annotate.budget_usd is spent
│   └── TooManyFailures    too many posts failed for passing reasons
├── EncoderError       an encoder cannot be loaded
├── ModelError         a model folder cannot be used
├── DataError          tables of the run do not fit together
└── RowError           one row cannot be used: becomes a row of the problems table, never a crash
    └── ImageProblem       the same, for one image
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

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


def run_main(main: Callable[[], None]) -> None:
    """Run a command's main function; an AssayError ends it with one line on stderr and status 1."""
    try:
        main()
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("assay: interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
