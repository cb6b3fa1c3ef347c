"""What several processes share: kept content by key, and claims on what is not there yet.

It lies in an SQLite file of places.home(), outside everything that DVC deletes or copies, or in PostgreSQL for several
machines (see database). A key is claimed with owner and lease before it is worked on, and the claim of a dead owner is
free.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from assay.database import Database, Postgres, Sqlite, server
from assay.errors import AssayError
from assay.places import home

T = TypeVar("T")
TRIES = 3  # of a write whose connection is lost
LEASE_S = 120.0  # renewed by whoever lives (see renew); a dead owner's claim is free after it at the latest
_CLAIMS = """
CREATE TABLE IF NOT EXISTS claims(
    key TEXT PRIMARY KEY, host TEXT, pid BIGINT, started TEXT, expires DOUBLE PRECISION
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

    def __init__(self, path: Path | None = None, *, address: str | None = None) -> None:
        """In the file `path` or the database at `address`; default: where ASSAY_STORE says, else the home folder."""
        self._host, self._pid = machine(), os.getpid()
        self._started = process_start(self._pid)
        address = address or (server() if path is None else None)
        self._file = path or home() / f"{self.table}.sqlite"
        try:
            self._db: Database = Postgres(address, f"assay_{self.table}") if address else Sqlite(self._file)
            self._db.set_up(_CLAIMS + self.setup)
            self._prepare()
        except self._errors as error:
            raise self._broken(error, "is the disk full or the file damaged?") from error

    def _prepare(self) -> None:
        """What has to be done to a store that an earlier version made."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Wait until no process of another machine that shares this store is within a block of this name."""
        return self._db.alone(name)

    @property
    def where(self) -> str:
        """What messages call the place where it lies."""
        return self._db.where if hasattr(self, "_db") else str(self._file)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return self._db.errors if hasattr(self, "_db") else Sqlite.errors

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

    def pages(self, columns: str, size: int) -> Iterator[list[Any]]:
        """All rows of the kept content, `size` at a time; `columns`: the first of them is the key."""
        last = ""
        while page := self._run(f"SELECT {columns} FROM {self.table} WHERE key > ? ORDER BY key LIMIT {size}", (last,)):
            yield page
            last = page[-1][0]

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""
        return self._run(statement, values)

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """A write transaction; rolled back when something in it fails."""
        try:
            with self._db.transaction():
                yield self._db
        except self._errors as error:
            raise self._broken(error) from error

    def repeated(self, work: Callable[[], T]) -> T:
        """The result of writing that may be done twice; done again where the connection was lost in the middle."""
        for _ in range(TRIES - 1):
            try:
                return work()
            except self.error as error:
                if not self._db.is_passing(error.__cause__):
                    raise
        return work()

    # ------------------------------------------------------------------------------------- claims

    def claim(self, key: str, lease_s: float = LEASE_S) -> bool:
        """True when this process may work on `key`: its content is not there, and no living owner holds it."""

        def now() -> bool:
            with self.writing() as db:
                return self._claim(db, key, lease_s)

        return self.repeated(now)

    def release(self, key: str) -> None:
        """Give a claim back without content."""
        self._run("DELETE FROM claims WHERE key = ? AND host = ? AND pid = ?", (key, self._host, self._pid))

    def renew(self, keys: Iterable[str], lease_s: float = LEASE_S) -> set[str]:
        """Hold claims for longer; returns the keys that this process holds no more."""

        def now() -> set[str]:
            lost = set()
            with self.writing() as db:
                for key in keys:
                    mine = (db.now() + lease_s, key, *self.owner)
                    changed = db.execute(
                        "UPDATE claims SET expires = ? WHERE key = ? AND host = ? AND pid = ? AND started = ?", mine
                    )
                    if not changed.rowcount:
                        lost.add(key)
            return lost

        keys = sorted(keys)  # whoever locks several rows does it in one order
        return self.repeated(now)

    def holder(self, key: str) -> str | None:
        """Who holds a claim, for people; None where nobody does."""
        found = self._run("SELECT host, pid, expires FROM claims WHERE key = ?", (key,))
        return _named(self._db.now(), *found[0]) if found else None

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
        if expires < self._db.now() or self.is_gone(host, pid, started):
            return "gone"
        return "lives" if host == self._host else "elsewhere"

    @property
    def owner(self) -> tuple[str, int, str]:
        """Host, process number and start of this process."""
        return self._host, self._pid, self._started

    def is_gone(self, host: str, pid: int, started: str) -> bool:
        """True for a process of this machine that no longer lives."""
        return host == self._host and process_start(pid) != started

    def _claim(self, db: Database, key: str, lease_s: float) -> bool:
        """The claim comes before the look at the content: who keeps content gives up its claim in the same moment."""
        mine = (*self.owner, db.now() + lease_s)
        if not db.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", (key, *mine)
        ).rowcount:
            held = db.execute(
                f"SELECT host, pid, started, expires FROM claims WHERE key = ? {db.passing_over}", (key,)
            ).fetchone()
            if held is None or not self._is_free(*held):
                return False
            db.execute("UPDATE claims SET host = ?, pid = ?, started = ?, expires = ? WHERE key = ?", (*mine, key))
        if db.execute(f"SELECT 1 FROM {self.table} WHERE key = ?", (key,)).fetchone():
            db.execute("DELETE FROM claims WHERE key = ?", (key,))
            return False
        return True

    def _is_free(self, host: str, pid: int, started: str, expires: float) -> bool:
        if expires < self._db.now():  # also of a process that lives but hangs
            return True
        if host != self._host:
            return False
        mine = pid == self._pid and started == self._started
        return mine or self.is_gone(host, pid, started)

    def _run(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            cursor = self._db.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
        except self._errors as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception, hint: str = "nothing kept before is lost") -> AssayError:
        return self.error(f"{self.name} {self.where}: {' '.join(str(error).split())}; {hint}")


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
    if not any(facts):  # macOS and Windows have none of these
        facts.append(str(uuid.getnode()))
    return f"{socket.gethostname()}/{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:12]}"


def owner_name(host: str, pid: int) -> str:
    """An owner of claims in one word."""
    return f"{host}:{pid}"


def _named(now: float, host: str, pid: int, expires: float) -> str:
    left = max(0.0, expires - now)
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
