"""Authors are keyed hashes from ingest on: the key, its fingerprint, the hash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets

from assay.errors import SettingsError
from assay.places import home

DEMO_AUTHOR_KEY = b"assay demo corpus: drawn authors, public key"


def author_key() -> bytes:
    """The key that turns author names into hashes: `ASSAY_AUTHOR_KEY`, else one made once in home()."""
    given = os.environ.get("ASSAY_AUTHOR_KEY")
    if given:
        return given.encode()
    kept = home() / "author.key"
    if not kept.exists():
        fresh = kept.with_name(f"author.{os.getpid()}.tmp")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its key holds
            os.link(fresh, kept)
        fresh.unlink()
    key = kept.read_text().strip()
    if not key:
        raise SettingsError(f"{kept} is empty; delete it to make a new key, or set ASSAY_AUTHOR_KEY")
    return key.encode()


def fingerprint(key: bytes) -> str:
    """Eight hex digits that tell two keys apart and give neither away."""
    return hashlib.blake2b(key, digest_size=4, person=b"assay-fp").hexdigest()


def hash_author(name: str | None, key: bytes) -> str | None:
    """A keyed hash of an author's name (16 hex digits), or None where no author is known."""
    if not name:
        return None
    return hashlib.blake2b(name.encode(), key=hashlib.blake2b(key).digest(), digest_size=8).hexdigest()
