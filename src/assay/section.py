"""What all sections of params.yaml share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of params.yaml: an unknown key is an error, and text is never read as a number.

    The string below a setting is its description in docs/settings.md and `assay settings` (config/manual.py reads it
    there: pydantic's `use_attribute_docstrings` costs every start 0.35 s).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def check_known(key: str, value: str, known: dict[str, Any]) -> None:
    """ValueError with the allowed names when `value` is none of them."""
    if value not in known:
        raise ValueError(f"{key}: {value!r} is not there; allowed: {', '.join(known) or 'none'}")
