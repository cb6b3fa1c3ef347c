"""Where things live outside the repository: the home folder, the author key, raw corpora."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import platformdirs

from assay.errors import SettingsError

DEMO_AUTHOR_KEY = b"assay demo corpus: drawn authors, public key"
_TEMPORARY = f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}"


def home() -> Path:
    """The folder that outlives every run: answers, features, resume files, the author key.

    `$ASSAY_HOME`, else the platform's data folder. Made when absent.
    """
    named = os.environ.get("ASSAY_HOME")
    folder = Path(named).expanduser() if named else Path(platformdirs.user_data_dir("assay", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"ASSAY_HOME={folder}: {error.strerror}; set ASSAY_HOME to a folder that can be written"
        ) from error
    return folder.resolve()


def main_checkout(start: Path | None = None) -> Path:
    """The user's own checkout, also from inside `dvc exp run --temp` or a queued experiment.

    DVC runs those in `<checkout>/.dvc/tmp/exps/<name>`, where raw corpora do not exist.
    """
    here = str((start or Path.cwd()).resolve()) + os.sep
    at = here.find(_TEMPORARY)
    return Path(here[:at] if at >= 0 else here)


def corpus_root(path: str) -> Path:
    """The absolute folder of a corpus; a relative path counts from the main checkout."""
    given = Path(path).expanduser()
    return given if given.is_absolute() else main_checkout() / given


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
