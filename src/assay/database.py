"""The two databases that a store can lie in: an SQLite file of this machine, and PostgreSQL for a team or a cluster.

Statements are written once, for both: `?` stands for a value, and what the two say differently has a method here.
ASSAY_STORE=postgresql://user@host/database (extra `team`) has the stores lie in PostgreSQL; a password comes from the
address, or from what libpq reads (PGPASSWORD, ~/.pgpass), and is never shown.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from assay.errors import SettingsError
from assay.places import with_extra

VARIABLE = "ASSAY_STORE"
SCHEMES = ("postgresql", "postgres")
PATIENCE_S = 60.0  # a server that restarts is waited for so long
CONNECT_S = 10  # for one attempt to reach it
SETUP_LOCK = 0x61737361  # of those who make tables at the same time


class Database(Protocol):
    """A database as one process sees it."""

    where: str
    """What messages call it; without a password."""
    errors: tuple[type[Exception], ...]
    """What its library raises."""
    passing_over: str
    """How a query of rows to change says that it skips those that others are changing."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """A cursor with the rows of a statement; outside of a transaction it is one of its own."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement for many rows, within a transaction; returns how many rows it changed."""

    def transaction(self) -> AbstractContextManager[None]:
        """A write transaction, as a context; rolled back when something in it fails."""

    def set_up(self, statements: str) -> None:
        """Make the tables that are not there; several processes may do it at once."""

    def lock(self, table: str, *, readers: bool = False) -> None:
        """Keep all others from changing a table until the transaction ends, or from reading it too."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Wait until no other process of any machine is within a block of this name; a file is of one machine."""

    def rewrite(self, table: str) -> bool:
        """Leave nothing on the disk of what a table's rows were before; False where a reader keeps it."""

    def now(self) -> float:
        """Seconds since 1970 by a clock that all processes share."""

    def is_passing(self, error: BaseException | None) -> bool:
        """Whether what failed may be done once more: a connection was lost, two processes waited for each other."""

    def close(self) -> None:
        """End the connection."""


def columns(database: Database, table: str) -> list[str]:
    """The names of a table's columns."""
    return [one[0] for one in database.execute(f"SELECT * FROM {table} LIMIT 0").description]


def server() -> str | None:
    """The address that ASSAY_STORE names, or None; SettingsError for what is none."""
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return None
    try:
        scheme = urlsplit(given).scheme
    except ValueError:  # whose words may hold the password
        scheme = ""
    if scheme not in SCHEMES or "://" not in given:
        raise SettingsError(
            f"{VARIABLE}: not the address of a PostgreSQL database; allowed: postgresql://user@host:port/database, "
            "with %40, %2F, %5B for @, / and [ within a password, or unset it to keep answers in the home folder"
        )
    return given


class Sqlite:
    """One SQLite file (WAL); writers take turns."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    passing_over = ""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60)

    def set_up(self, statements: str) -> None:
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {statements}")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._db.execute(statement, list(map(_whole, values)))

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        return max(0, self._db.executemany(statement, [list(map(_whole, row)) for row in rows]).rowcount)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def lock(self, table: str, *, readers: bool = False) -> None:
        """Nothing to do: who writes is alone."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def rewrite(self, table: str) -> bool:
        try:
            self._db.execute("VACUUM")
            return not self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            return False

    def now(self) -> float:
        return time.time()

    def is_passing(self, error: BaseException | None) -> bool:
        return False  # it waits by itself

    def close(self) -> None:
        self._db.close()


class Postgres:
    """A schema of a PostgreSQL database; a connection that is lost is made anew."""

    passing_over = "FOR UPDATE SKIP LOCKED"

    def __init__(self, address: str, schema: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise SettingsError(
                f"{VARIABLE} names PostgreSQL, and its client is not installed; {with_extra('team')}"
            ) from error
        self._psycopg, self._address, self._schema = psycopg, address, schema
        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        try:
            told = psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.Error:
            told = {"host": "@"}
        shown = [str(told.get(field) or "") for field in ("host", "dbname", "user")]
        if any("@" in one or ":" in one for one in shown) or not str(told.get("port") or 0).isdigit():
            raise SettingsError(  # a part of a password may have come there: none of it is shown
                f"{VARIABLE}: not an address that PostgreSQL's client can read; allowed: "
                "postgresql://user@host:port/database, with %40 and %2F for @ and / within a password"
            )
        name = told.get("dbname") or told.get("user") or ""
        self.where = f"{name} at {told.get('host', 'the local socket')}:{told.get('port', 5432)} ({schema})"
        self._secrets = [str(one) for one in (told.get("password"), *_behind_colon(address)) if one]
        self._given_up = False  # a server was waited for in vain
        self._db = self._connected()
        self._ahead = self._seconds_ahead()

    def set_up(self, statements: str) -> None:
        made = (
            statements.replace("WITHOUT ROWID", "")
            .replace(" BLOB", " BYTEA")
            .replace("rowid INTEGER", "rowid BIGSERIAL")
        )
        wanted = list(filter(None, map(str.strip, made.split(";"))))
        if not self._lacks(wanted):  # who may only use what is there must not need more rights
            return
        with self.transaction():
            self.execute("SELECT pg_advisory_xact_lock(?)", (SETUP_LOCK,))
            if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._schema,)).fetchone():
                self.execute(f"CREATE SCHEMA {self._schema}")
            for one in self._lacks(wanted):
                self.execute(one)

    def _lacks(self, wanted: Sequence[str]) -> list[str]:
        """Those of `CREATE … IF NOT EXISTS name` whose name is not there."""
        named = [(one, re.search(r"IF NOT EXISTS (\w+)", one)) for one in wanted]
        return [
            one
            for one, name in named
            if name is None or not self.execute("SELECT to_regclass(?)", (f"{self._schema}.{name[1]}",)).fetchone()[0]
        ]

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        key = int.from_bytes(hashlib.sha256(f"{self._schema} {name}".encode()).digest()[:8], "big", signed=True)
        other = self._connected()  # a lock of its own connection, which ends with it
        try:
            other.execute("SELECT pg_advisory_lock(%s)", (key,))
            yield
        finally:
            other.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        said = statement.replace("%", "%%").replace("?", "%s")
        given = [_storable(value) for value in values]
        if self._in_transaction():
            return self._db.execute(said, given)
        try:
            return self._live().execute(said, given)
        except self._psycopg.OperationalError:
            if not self._db.closed:
                raise
            return self._live().execute(said, given)  # each statement by itself may be run twice

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._db.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s"), [[_storable(value) for value in row] for row in rows])
            return max(0, int(cursor.rowcount))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self._live().execute("BEGIN")
        except self._psycopg.OperationalError:
            self._live().execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._in_transaction():
                with suppress(self._psycopg.Error):
                    self._db.execute("ROLLBACK")

    def lock(self, table: str, *, readers: bool = False) -> None:
        self._db.execute(f"LOCK TABLE {table} IN {'ACCESS ' if readers else ''}EXCLUSIVE MODE")

    def rewrite(self, table: str) -> bool:
        self.execute(f"VACUUM FULL {table}")
        return True

    def now(self) -> float:
        return time.time() + self._ahead

    def is_passing(self, error: BaseException | None) -> bool:
        passing = (
            self._psycopg.OperationalError,  # among them a server that shuts down, and deadlocks
            self._psycopg.errors.SerializationFailure,
        )
        return isinstance(error, passing)

    def close(self) -> None:
        self._db.close()

    def _in_transaction(self) -> bool:
        return not self._db.closed and self._db.info.transaction_status != self._psycopg.pq.TransactionStatus.IDLE

    def _live(self) -> Any:
        """The connection, made anew where it was lost; a server that comes back within a minute is waited for."""
        until = time.monotonic() + (0 if self._given_up else PATIENCE_S)
        pause = 0.1
        while self._db.closed:
            try:
                self._db = self._connected()
                self._given_up = False
            except SettingsError as error:
                self._given_up = time.monotonic() > until
                if self._given_up or not isinstance(error.__cause__, self._psycopg.OperationalError):
                    raise
                time.sleep(pause)
                pause = min(5.0, 2 * pause)
        return self._db

    def _connected(self) -> Any:
        try:
            db = self._psycopg.connect(
                self._address,
                autocommit=True,
                connect_timeout=CONNECT_S,
                prepare_threshold=None,  # poolers know nothing of prepared statements
                application_name="assay",
                keepalives_idle=30,
            )
            db.execute(f"SET search_path TO {self._schema}")
        except self._psycopg.Error as error:
            raise SettingsError(
                f"{VARIABLE}: {self.where} cannot be used: {self._told(error)}; see that the server runs, and that "
                "user, password and database are right"
            ) from error
        return db

    def _seconds_ahead(self) -> float:
        """How far the server's clock is ahead of this machine's."""
        before = time.time()
        there = float(self._db.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())").fetchone()[0])
        return there - (before + time.time()) / 2

    def _told(self, error: Exception) -> str:
        """What went wrong, in one line and without the password."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text[:200]


def _behind_colon(address: str) -> list[str]:
    """What in an address may be a password or a part of it."""
    user, at, _ = urlsplit(address).netloc.rpartition("@")
    return [one for one in re.split(r"[:@/]", user)[1:] if len(one) > 1] if at else []


def _storable(value: Any) -> Any:
    """A value that PostgreSQL takes: its texts hold no zero bytes."""
    if isinstance(value, bool):
        return int(value)
    return _whole(value.replace("\x00", "\ufffd") if isinstance(value, str) else value)


def _whole(value: Any) -> Any:
    """A value without halves of characters, which JSON can carry and no database keeps."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
