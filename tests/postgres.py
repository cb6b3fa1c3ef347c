"""A PostgreSQL server of the tests' own, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Server:
    """A PostgreSQL of its own on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.user = folder, "postgres" if os.geteuid() == 0 else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self("initdb", "-D", str(folder / "data"), "-U", "assay", "--auth=trust", "--no-sync")
        self.start()

    def __call__(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [found(program), *arguments],
            check=True,
            cwd=self.folder,
            user=self.user,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self.folder / "log")
        self("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def address(self, name: str) -> str:
        """The address of a fresh database."""
        import psycopg

        with psycopg.connect(f"postgresql://assay@127.0.0.1:{self.port}/postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return f"postgresql://assay@127.0.0.1:{self.port}/{name}"


def found(program: str) -> str:
    """Debian keeps the server's programs out of the path."""
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(there[-1]) if there else "")


@contextmanager
def running() -> Iterator[Server]:
    """A server that runs until the block ends, or a skip with its reason."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra team)")
    if not (found("initdb") and found("pg_ctl")):
        pytest.skip("PostgreSQL's server is not installed (Debian's package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    try:
        server = Server(folder)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
