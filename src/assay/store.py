"""One SQLite file (WAL) that several processes share: kept content by key, and claims on what is not there yet.

It lies in places.home(), outside everything that DVC deletes or copies. A key is claimed with owner
and lease before it is worked on, and the claim of a dead owner is free.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from assay.errors import AssayError

LEASE_S = 120.0  # renewed by whoever lives (see renew); a dead owner's claim is free after it at the latest
_CLAIMS = """
PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
CREATE TABLE IF NOT EXISTS claims(
    key TEXT PRIMARY KEY, host TEXT, pid INTEGER, started TEXT, expires REAL
) WITHOUT ROWID;
"""


class Store:
    """The store as one process sees it; use it in a `with` block."""

    name: ClassVar[str]
    """What messages call it."""
    table: ClassVar[str]
    """Where the kept content stands, by the column `key`."""
    setup: ClassVar[str]
    """SQL that makes the tables where they are not."""
    error: ClassVar[type[AssayError]]
    """What is raised when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._host, self._pid = machine(), os.getpid()
        self._started = process_start(self._pid)
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=60)
            self._db.executescript(_CLAIMS + self.setup)
            self._prepare()
        except sqlite3.Error as error:
            raise self.error(f"{self.name} {self.path}: {error}; is the disk full or the file damaged?") from error

    def _prepare(self) -> None:
        """What has to be done to a file that an earlier version made."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys whose content is there."""
        return {row[0] for row in self.rows_among(f"SELECT key FROM {self.table} WHERE key IN (...)", keys)}

    def rows_among(self, statement: str, values: Iterable[str], also: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a query whose `(...)` stands for many values, some at a time; `also`: its later parameters."""
        wanted = list(dict.fromkeys(values))
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            yield from self._run(statement.replace("(...)", f"({marks})"), [*part, *also])

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""
        return self._run(statement, values)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; rolled back when something in it fails."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._broken(error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # ------------------------------------------------------------------------------------- claims

    def claim(self, key: str, lease_s: float = LEASE_S) -> bool:
        """True when this process may work on `key`: its content is not there, and no living owner holds it."""
        with self.writing():
            return self._claim(key, lease_s)

    def release(self, key: str) -> None:
        """Give a claim back without content."""
        self._run("DELETE FROM claims WHERE key = ? AND host = ? AND pid = ?", (key, self._host, self._pid))

    def renew(self, keys: Iterable[str], lease_s: float = LEASE_S) -> set[str]:
        """Hold claims for longer; returns the keys that this process holds no more."""
        lost = set()
        with self.writing() as db:
            for key in keys:
                mine = (time.time() + lease_s, key, self._host, self._pid, self._started)
                changed = db.execute(
                    "UPDATE claims SET expires = ? WHERE key = ? AND host = ? AND pid = ? AND started = ?", mine
                )
                if not changed.rowcount:
                    lost.add(key)
        return lost

    def holder(self, key: str) -> str | None:
        """Who holds a claim, for people; None where nobody does."""
        found = self._run("SELECT host, pid, expires FROM claims WHERE key = ?", (key,))
        return _named(*found[0]) if found else None

    def claims(self) -> list[dict[str, Any]]:
        """The claims there are, counted by their owners: who, how many, until when at most, and whether it lives."""
        return [
            {
                "owner": owner_name(host, pid),
                "claims": count,
                "until": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)),
                "state": self._state(host, pid, started, expires),
            }
            for host, pid, started, count, expires in self._owners()
        ]

    def release_owner(self, owner: str) -> int:
        """Give back all claims of an owner as `claims` names it, of those in a state such as `gone`, or of `all`."""
        count = 0
        for host, pid, started, held, expires in self._owners():
            if owner in ("all", owner_name(host, pid), self._state(host, pid, started, expires)):
                self._run("DELETE FROM claims WHERE host = ? AND pid = ? AND started = ?", (host, pid, started))
                count += held
        return count

    def _owners(self) -> list[Any]:
        """Host, process number and start of each owner of claims, how many it has, and until when at most."""
        return self._run(
            "SELECT host, pid, started, COUNT(*), MAX(expires) FROM claims GROUP BY 1, 2, 3 ORDER BY 1, 2", ()
        )

    def _state(self, host: str, pid: int, started: str, expires: float) -> str:
        if expires < time.time() or self.is_gone(host, pid, started):
            return "gone"
        return "lives" if host == self._host else "elsewhere"

    @property
    def owner(self) -> tuple[str, int, str]:
        """Host, process number and start of this process."""
        return self._host, self._pid, self._started

    def is_gone(self, host: str, pid: int, started: str) -> bool:
        """True for a process of this machine that no longer lives."""
        return host == self._host and process_start(pid) != started

    def _claim(self, key: str, lease_s: float) -> bool:
        if self._db.execute(f"SELECT 1 FROM {self.table} WHERE key = ?", (key,)).fetchone():
            return False
        held = self._db.execute("SELECT host, pid, started, expires FROM claims WHERE key = ?", (key,)).fetchone()
        if held and not self._is_free(*held):
            return False
        self._db.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
            (key, self._host, self._pid, self._started, time.time() + lease_s),
        )
        return True

    def _is_free(self, host: str, pid: int, started: str, expires: float) -> bool:
        if expires < time.time():  # also of a process that lives but hangs
            return True
        if host != self._host:
            return False
        mine = pid == self._pid and started == self._started
        return mine or self.is_gone(host, pid, started)

    def _run(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> AssayError:
        return self.error(f"{self.name} {self.path}: {error}; nothing kept before is lost")


def machine() -> str:
    """This machine and process namespace: host name, and a digest of machine, boot and namespace.

    Containers may share a host name and count their processes from 1 each: a process number says nothing
    outside of the namespace that it is of.
    """
    facts = []
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, encoding="ascii") as file:
                facts.append(file.read().strip())
        except (OSError, ValueError):
            facts.append("")
    try:
        facts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        facts.append("")
    return f"{socket.gethostname()}/{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:12]}"


def owner_name(host: str, pid: int) -> str:
    """An owner of claims in one word."""
    return f"{host}:{pid}"


def _named(host: str, pid: int, expires: float) -> str:
    left = max(0.0, expires - time.time())
    return f"{owner_name(host, pid)}, for at most {left:.0f} s more without a sign of life"


def process_start(pid: int) -> str:
    """When a process of this machine started, as the kernel counts it; "" where it does not live.

    With it a recycled process number is not taken for the owner. Without /proc a living process
    gives "?".
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[19].decode()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "?"
    return "?"
