"""Folders in object storage, by any address that fsspec knows: s3://bucket/folder, gs://…, az://…

Who may read what is told by the environment, as the provider's own tools have it (AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, …). A file that is not there is one thing, and a storage that cannot
be reached or refuses another: that ends a run, and nothing is taken for missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import posixpath
import shutil
import uuid
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.errors import ImageProblem, SettingsError
from assay.places import home, with_extra

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "azure", "abfs": "azure"}
LONGEST = 1024  # bytes of a name
RIGHTS = "see that the environment names a user with rights to it (AWS_ACCESS_KEY_ID and others of the provider)"


class File(NamedTuple):
    """A file of a bucket: its path below the folder, its bytes, and what changes when its content does."""

    relative: str
    size: int
    version: str


class Bucket:
    """A folder at an address; another process that gets it connects by itself."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"Bucket({self.address!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (self.address,)

    @cached_property
    def _there(self) -> tuple[Any, str]:
        """The file system, and the folder as it names it."""
        import fsspec

        scheme = self.address.partition("://")[0]
        try:
            files, folder = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            extra = EXTRAS.get(scheme)
            how = f"{with_extra(extra)}" if extra else "install the package that fsspec names for it"
            raise SettingsError(f"{self}: what reads {scheme}:// is not installed; {how}") from error
        except ValueError as error:
            raise SettingsError(f"{self}: {error}; allowed: a folder, s3://, gs://, or what fsspec knows") from error
        return files, folder.rstrip("/")

    def path(self, relative: str) -> str:
        """The path of a file for fsspec; ImageProblem where a name leads out of the folder."""
        plain = relative.replace("\\", "/")
        if "\x00" in plain or plain.startswith("/") or ".." in plain.split("/") or "://" in plain:
            raise ImageProblem("outside_corpus", relative)
        path = f"{self._there[1]}/{posixpath.normpath(plain)}"
        try:
            if len(path.encode()) > LONGEST:
                raise ImageProblem("missing_image", f"{relative[:80]}… is longer than a name can be")
        except UnicodeEncodeError as error:
            raise ImageProblem("missing_image", relative.encode("utf-8", "replace").decode()) from error
        return path

    def read(self, relative: str, first: int | None = None) -> bytes:
        """The bytes of a file, or its first ones; FileNotFoundError, or SettingsError where the storage refuses."""
        path = self.path(relative)
        try:
            found: bytes = self._there[0].cat_file(path, end=first)
        except Exception as error:
            raise self._told(error, relative) from error
        return found

    def read_many(self, relatives: Sequence[str]) -> list[bytes | Exception]:
        """The bytes of files, fetched at the same time; FileNotFoundError or ImageProblem in the place of one without.

        SettingsError where the storage refuses.
        """
        places: list[str | Exception] = []
        for relative in relatives:
            try:
                places.append(self.path(relative))
            except ImageProblem as problem:
                places.append(problem)
        paths = list(dict.fromkeys(one for one in places if isinstance(one, str)))
        try:  # by ranges: what `cat` is given it takes for patterns
            said = self._there[0].cat_ranges(paths, None, None, on_error="return") if paths else []
        except Exception as error:
            raise self._told(error, str(relatives[0])) from error
        got = dict(zip(paths, said, strict=True))
        found: list[bytes | Exception] = []
        for relative, place in zip(relatives, places, strict=True):
            one = got.get(place) if isinstance(place, str) else place
            known = one if isinstance(one, bytes) else self._told(one or FileNotFoundError(), relative)
            if isinstance(known, SettingsError):
                raise known
            found.append(known)
        return found

    def files(self) -> Iterator[File]:
        """All files below the folder, none where there is no such folder; in memory is one folder at a time."""
        storage, folder = self._there
        waiting = [folder]
        while waiting:
            try:
                inside = storage.ls(waiting.pop(), detail=True)
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._told(error, "") from error
            for told in inside:
                name = told["name"].rstrip("/")
                if told.get("type") == "directory":
                    waiting += [name] if name.startswith(f"{folder}/") else []
                elif name.startswith(f"{folder}/") and not told["name"].endswith("/"):  # no marker of a folder
                    yield _file(told, folder)

    def is_empty(self) -> bool:
        """Whether nothing lies below the folder, or it is not there."""
        storage, folder = self._there
        try:
            return not storage.exists(folder) or next(self.files(), None) is None
        except Exception as error:
            raise self._told(error, "") from error

    def file(self, relative: str) -> File:
        """What is known of one file; FileNotFoundError."""
        path = self.path(relative)
        try:
            told = self._there[0].info(path)
        except Exception as error:
            raise self._told(error, relative) from error
        if told.get("type") == "directory":
            raise FileNotFoundError(f"{self}/{relative}")
        return _file(told, self._there[1])

    def has(self, relative: str) -> bool:
        """Whether a file is there."""
        try:
            self.file(relative)
        except FileNotFoundError:
            return False
        return True

    def write(self, relative: str, data: bytes) -> None:
        """Put a file there, whole or not at all."""
        path = self.path(relative)
        try:
            self._there[0].pipe_file(path, data)
        except Exception as error:
            raise self._told(error, relative) from error

    def fetched(self, relatives: Sequence[str]) -> Path:
        """A folder of this machine, below places.home(), with copies of files; made where there is none of these.

        Their time stands for their version, so that a manifest sees a change and says the same on each machine.
        """
        told = [self.file(relative) for relative in relatives]
        named = hashlib.sha256(json.dumps([self.address, told]).encode()).hexdigest()[:24]
        folder = home() / "fetched" / named
        if not folder.exists():
            partial = folder.with_name(f".{named}.{uuid.uuid4().hex[:12]}")
            partial.mkdir(parents=True, exist_ok=True)
            try:
                for file in told:
                    copy = partial / Path(file.relative).name
                    self._there[0].get_file(self.path(file.relative), str(copy))
                    os.utime(copy, (0, _eight(file.version) % 2**31))
                with contextlib.suppress(OSError):  # another process was first
                    partial.rename(folder)
            except Exception as error:
                raise self._told(error, "") from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return folder

    def _told(self, error: Exception, relative: str) -> Exception:
        """What an error means, in one line."""
        where = f"{self}/{relative}" if relative else str(self)
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(where)
        if isinstance(error, SettingsError | ImageProblem):
            return error
        said = " ".join(str(error).split())[:160] or type(error).__name__
        if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.EISDIR):
            return FileNotFoundError(where)
        if "InvalidObjectState" in said:  # it lies in an archive
            return ImageProblem("undecodable_image", f"{relative}: it lies in an archive and has to be restored first")
        if isinstance(error, PermissionError) or "credentials" in said.lower():
            return SettingsError(f"{where}: no right to it ({said}); {RIGHTS}")
        return SettingsError(f"{where}: the storage cannot be used ({type(error).__name__}: {said}); nothing is lost")


class Versions:
    """Size and version of each file of a bucket, as sixteen bytes each; listed once."""

    def __init__(self, bucket: Bucket) -> None:
        names, states = array("Q"), array("Q")
        for file in bucket.files():
            names.append(_eight(file.relative))
            states.append(_eight(f"{file.size} {file.version}"))
        keys, values = np.frombuffer(names, np.uint64), np.frombuffer(states, np.uint64)
        order = np.argsort(keys)
        self._keys, self._values = keys[order], values[order]

    def __getitem__(self, relative: str) -> int | None:
        """What changes when a file does; None where there is no such file."""
        wanted = np.uint64(_eight(posixpath.normpath(relative.replace("\\", "/"))))
        at = int(np.searchsorted(self._keys, wanted))
        return int(self._values[at]) if at < len(self._keys) and self._keys[at] == wanted else None


Root = Path | Bucket
"""Where images lie: a folder of this machine, or one in object storage."""


def is_address(path: str) -> bool:
    """Whether a setting names object storage and no folder."""
    return "://" in path


def root_of(path: str) -> Root:
    """What a setting, or a text of another process, names."""
    return Bucket(path) if is_address(path) else Path(path)


def _file(told: dict[str, Any], folder: str) -> File:
    kinds = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime", "created")
    version = next((str(told[kind]) for kind in kinds if told.get(kind)), "")
    return File(told["name"].removeprefix(folder).lstrip("/"), int(told.get("size") or 0), version)


def _eight(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
