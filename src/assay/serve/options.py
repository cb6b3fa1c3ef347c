"""What `assay serve` may be told, and the keys from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.errors import SettingsError
from assay.section import Positive, Section

KEYS = "ASSAY_API_KEYS"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Options(Section):
    """Limits and places of one server."""

    models: Annotated[list[Path], Field(min_length=1)]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    open: bool = False
    allowed_hosts: list[str] = []
    api: bool = True
    page: Literal["/", "/ui"] | None = None
    show_posts: bool | None = None
    allow_training: bool = False
    max_posts: Positive = 64
    max_images: Positive = 8
    max_text: Positive = 100_000
    max_body_mib: Annotated[float, Field(gt=0)] = 32.0
    max_upload_mib: Annotated[float, Field(gt=0)] = 256.0
    max_pixels: Positive = 40_000_000
    queue: Positive = 256
    batch: Positive = 16
    workers: Positive | None = None
    wait_ms: Annotated[float, Field(ge=0, le=1000)] = 4.0
    max_wait_s: Annotated[float, Field(gt=0)] = 4.0
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    rate_per_minute: Annotated[float, Field(gt=0)] | None = None
    reload_s: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [path.name for path in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"models {names}: two folders have the same name, by which requests choose")
        if self.queue < self.max_posts:
            raise ValueError(f"queue {self.queue} is below max_posts {self.max_posts}: such a request would never fit")
        return self


def posts_shown(options: Options, keys: frozenset[str]) -> bool:
    """Whether the page shows posts of the corpus: as told, else not where anybody of a network may look."""
    return options.show_posts if options.show_posts is not None else bool(keys) or options.host in LOOPBACK


def keys_from_environment(options: Options) -> frozenset[str]:
    """The keys of ASSAY_API_KEYS, separated by commas; SettingsError where a server would stand open to a network."""
    keys = frozenset(key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip())
    if not keys and options.host not in LOOPBACK and not options.open:
        raise SettingsError(
            f"host {options.host} can be reached from outside and {KEYS} is not set; export {KEYS}=key1,key2, bind to "
            "127.0.0.1, or say --open"
        )
    if any(not key.isascii() for key in keys):
        raise SettingsError(f"{KEYS}: keys must be of ASCII characters, as headers are")
    if any(len(key) < 8 for key in keys):
        raise SettingsError(f"{KEYS}: a key has fewer than 8 characters; make longer ones")
    return keys
