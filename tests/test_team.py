"""The stores in PostgreSQL: as in a file, shared by machines, nothing asked twice, nothing lost."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay import database
from assay.audit.kept import ImageStore, Made
from assay.errors import SettingsError, TeacherError
from assay.remote.answers import Answer, AnswerStore
from assay.remote.ledger import Batch, Reserved
from assay.remote.sealed import Seal, new_key
from assay.store import Store
from tests import warm
from tests.conftest import StubTeacher
from tests.postgres import Server
from tests.test_cli_answers import call
from tests.test_teacher import answer, write_sample

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (extra team)")


@pytest.fixture
def team(postgres: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of the test's own, named by ASSAY_STORE."""
    name = "t" + "".join(filter(str.isalnum, request.node.name.lower()))[:40] + str(time.monotonic_ns())[-6:]
    address = postgres.address(name)
    monkeypatch.setenv(database.VARIABLE, address)
    return address


def all_of_it(store: AnswerStore) -> list[Any]:
    """What the methods of a store say in the course of some work."""
    said: list[Any] = []
    store.put([answer("a"), replace(answer("b", "half \ud800"), cost_usd=0.5, question="q", model="m-2024")])
    store.put([answer("late")], from_elsewhere=True)
    store.put([Answer("no", "failed", "http_403: \u00e9", None, "m", None, None, None, None)])
    store.put([answer("blank", " ")])
    said += [sorted(store.known(["a", "b", "zz"])), store.get(["a", "no"]), store.models(["a", "b"])]
    said += [
        [one.key for one in store.answers_to(["q"], without=[])],
        list(store.answers_to(["q"], without=["m-2024"])),
    ]
    said += [store.costs("m", 10), store.largest_prompt("m"), store.largest_prompt("nobody"), store.rate("m")]
    for structure in ("tool", "schema"):
        store.keep_way("url", "m", structure, True)
        store.keep_dialect("url", "m", structure)
    said += [store.way("url", "m"), store.dialect("url", "m"), store.way("url", "other")]
    store.forget_way("url", "m")
    said += [store.way("url", "m"), store.reasons(), store.summary()]
    store.mark_invalid({"a": "out_of_range: 11"})
    said += [store.reasons(), store.forget(["http_403"]), store.forget_failed(), store.summary()]
    row = store.reserve("task", "k", 0.4, 1.0)
    assert row is not None
    said += [store.reserve("task", "k", 0.7, 1.0), store.spent("task")]
    for _ in range(2):  # the second is that of a lost connection
        store.settle("task", Reserved("k", 0.4, row), 0.3, "answered")
    said += [store.spent("task"), store.claim("new"), store.claim("new"), store.claim("b"), store.renew(["new", "b"])]
    batch = Batch("digest", {"new": "q1"}, "schema", True)
    for state in ("new", "submitted"):
        store.keep_batch("url", "task", replace(batch, state=state))
    said += [store.batches("url", "task"), store.claim("new"), [one["claims"] for one in store.claims()]]
    store.end_batch("task", "digest", ["new"], 0.2)
    said += [store.batches("url", "task"), store.spent("task"), store.claim("new"), store.release_owner("lives")]
    store.claim("other")
    store.release("other")
    return [*said, store.claims(), store.holder("other")]


def test_postgresql_says_what_a_file_says(team: str, tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "answers.sqlite") as file, AnswerStore() as server:
        assert team.rpartition("/")[2] in server.where
        here, there = all_of_it(file), all_of_it(server)
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        assert one == other


def test_lone_surrogates_and_zero_bytes_are_no_fault(team: str) -> None:
    with AnswerStore() as store:
        store.put([answer("k", "a\x00b\ud800c")])
        assert store.get(["k"])["k"].raw_answer == "a\ufffdb?c"


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Results of work that begins in several threads at the same moment."""
    ready = threading.Barrier(count)

    def one(number: int) -> Any:
        ready.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_key_is_claimed_once_and_a_budget_holds(team: str) -> None:
    keys = [f"k{i}" for i in range(60)]

    def work(number: int) -> tuple[list[str], int]:
        with AnswerStore() as store:  # eight make the tables at the same time
            store._host = f"host {number}"
            mine = [key for key in keys[number:] + keys[:number] if store.claim(key)]
            for key in mine[::2]:
                store.put([answer(key)])
            return mine, sum(store.reserve("task", key, 1.0, 20.0) is not None for key in keys[:10])

    found = at_once(8, work)
    assert Counter(key for mine, _ in found for key in mine) == Counter(keys)
    assert sum(count for _, count in found) == 20


def test_an_answer_that_comes_between_look_and_claim_is_not_asked_again(team: str) -> None:
    """Who holds the claim keeps the answer and gives the claim up while another waits at the claim."""
    with AnswerStore() as first, AnswerStore() as second:
        second._host = "another"
        assert first.claim("k")
        entered, got = threading.Event(), []

        def other() -> None:
            entered.set()
            got.append(second.claim("k"))

        with first.writing() as db:
            db.execute("INSERT INTO answers(key, status) VALUES ('k', 'ok')")
            db.execute("DELETE FROM claims WHERE key = 'k'")
            waiting = threading.Thread(target=other)
            waiting.start()
            entered.wait()
            waiting.join(0.3)
        waiting.join(10)
        assert got == [False]
        assert second.holder("k") is None


def test_a_server_that_restarts_in_the_middle_costs_nothing(team: str, postgres: Server) -> None:
    with AnswerStore() as store:
        assert store.claim("k")
        row = store.reserve("task", "k", 1.0, 5.0)
        postgres.stop()
        again = threading.Thread(target=postgres.start)
        again.start()
        store.put([answer("k")])
        again.join()
        assert store.known(["k"]) == {"k"}
        store.settle("task", Reserved("k", 1.0, row), 0.5, "answered")
        assert store.spent("task") == 0.5
        store._db.execute("SELECT 1")
        cut(store)
        with pytest.raises(TeacherError, match="nothing kept before is lost"), store.writing():
            cut(store)
        tried: list[int] = []

        def once_cut() -> None:
            tried.append(1)
            with store.writing() as db:
                db.execute("INSERT INTO answers(key, status) VALUES ('later', 'ok') ON CONFLICT DO NOTHING")
                if len(tried) == 1:
                    cut(store)

        store.repeated(once_cut)
        assert store.known(["later"]) == {"later"}
        assert len(tried) == 2


def cut(store: Store) -> None:
    """End a store's connection from the server's side."""
    pid = store._db._db.info.backend_pid  # type: ignore[attr-defined]
    with psycopg.connect(os.environ[database.VARIABLE], autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


# --------------------------------------------------------------------------------------- many machines

CHILD = """
import sys
from pathlib import Path
import assay.store, assay.teacher.asking
from tests.postgres import Server
from tests.test_cli_answers import call
from tests.test_teacher import run, settings
host = sys.argv[3]
assay.store.machine = lambda: host
assay.teacher.asking.LEASE_S = 2.0
print(run(Path(sys.argv[1]), settings(sys.argv[2], concurrency=4))[0])
"""


def start(sample: Path, stub: StubTeacher, host: str, home: Path) -> warm.Child:
    environment = {"ASSAY_HOME": str(home / host)}  # machines share nothing but the database
    return warm.Child(CHILD, sample, stub.url, host, place=home, env=environment)


@pytest.mark.slow
def test_four_processes_on_two_hosts_two_of_them_killed(team: str, tmp_path: Path, stub: StubTeacher) -> None:
    posts, stub.delay_s = 240, 0.03
    sample = write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(posts)])
    children = [start(sample, stub, f"host{i % 2}", tmp_path) for i in range(4)]
    try:
        while sum(stub.asked.values()) < 60:
            assert any(child.poll() is None for child in children)
            time.sleep(0.01)
        for child in children[:2]:  # one on each host
            child.kill()
        figures = [eval(child.communicate(timeout=120)[0]) for child in children[2:]]
    finally:
        for child in children:
            child.kill()
    assert [one["answered"] for one in figures] == [posts, posts]
    assert len(stub.asked) == posts
    assert sum(stub.asked.values()) - posts <= 2 * 4  # only what was in flight at a kill
    with AnswerStore() as store:
        assert store.summary()[0]["answers"] == posts
        assert store.claims() == []


# ----------------------------------------------------------------------------------------- copies


def test_answers_go_to_the_team_and_back(
    team: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    with AnswerStore(home / "answers.sqlite") as own, ImageStore(home / "images.sqlite") as pictures:
        own.put([replace(answer(f"k{i}"), cost_usd=0.01) for i in range(1203)])
        own.settle("task", Reserved("k", 1.0, own.reserve("task", "k", 1.0, 5.0)), 0.7, "answered")
        own.reserve("task", "other", 0.2, 5.0, owner=(own.owner[0], 2**22 + 1, "dead"))
        pictures.put("picture", Made("ok", None, bytes(range(256)), {"width": 3}))
    assert "answers: 1203 copied from" in call(monkeypatch, capsys, "copy", "--to", "team")[2]
    assert "1203 were there" in call(monkeypatch, capsys, "copy", "--to", "team")[2]
    with AnswerStore() as store, ImageStore() as pictures:
        store.put([answer("new")])
        assert store.spent("task") == pytest.approx(0.9)  # the dead one's request may have been charged
        assert store.rate("m") is None
        assert dict(pictures.get(["picture"]))["picture"].data == bytes(range(256))
    (home / "answers.sqlite").unlink()
    assert call(monkeypatch, capsys, "copy", "--to", "home")[0] == 0
    with AnswerStore(home / "answers.sqlite") as own, AnswerStore() as store:
        keys = [f"k{i}" for i in range(1203)] + ["new"]
        assert own.get(keys) == store.get(keys)
        assert own.spent("task") == pytest.approx(0.9)


def test_encrypted_answers_are_copied_with_the_key_alone(
    team: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()
    old, new = new_key(), new_key()
    monkeypatch.setenv("ASSAY_STORE_KEY", old)
    with AnswerStore(home / "answers.sqlite") as own:
        own.put([answer("k", "a secret thought")])
    assert call(monkeypatch, capsys, "copy", "--to", "team")[0] == 0
    monkeypatch.setenv("ASSAY_STORE_KEY", f"{new},{old}")
    assert call(monkeypatch, capsys, "rotate-key")[0] == 0
    monkeypatch.setenv("ASSAY_STORE_KEY", new)
    with AnswerStore() as store:
        assert store.get(["k"])["k"].raw_answer == "a secret thought"
    with psycopg.connect(team) as db:
        kept = db.execute("SELECT raw_answer FROM assay_answers.answers").fetchall()
    assert "secret" not in str(kept)
    monkeypatch.delenv("ASSAY_STORE_KEY")
    with pytest.raises(TeacherError, match="encrypted; set ASSAY_STORE_KEY"):
        AnswerStore()


def test_no_answer_is_written_under_a_key_that_has_just_been_changed(
    team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_STORE_KEY", new_key())
    with AnswerStore() as store, AnswerStore() as other:
        store.reseal(Seal([new_key()]))
        with pytest.raises(TeacherError, match="changed by another process"):
            other.put([answer("k")])


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://user:hidden@host/db", "not the address of a PostgreSQL database; allowed: postgresql://"),
        ("answers.sqlite", "not the address of a PostgreSQL database"),
        ("postgresql://user:hid@den@127.0.0.1:1/db", "not an address .* with %40"),
        ("postgresql://user:hidden@127.0.0.1:1/db", "db at 127.0.0.1:1 .* cannot be used: .*see that the server runs"),
        ("postgresql://user:hidd/en@127.0.0.1:1/db", "not an address that PostgreSQL's client can read"),
        ("postgresql://user:hid[den@127.0.0.1:1/db", "not the address of a PostgreSQL database"),
        ("postgresql://user:hid\u2100den@127.0.0.1:1/db", "not the address of a PostgreSQL database"),
        ("postgresql://user:hidden@127.0.0.1:port/db?x=1", "not an address that PostgreSQL's client can read"),
    ],
)
def test_an_address_that_is_none_is_one_line_without_the_password(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(database.VARIABLE, address)
    with pytest.raises(SettingsError, match=message) as error:
        AnswerStore()
    assert "\n" not in str(error.value)
    assert not any(secret in str(error.value) for secret in ("hid", "den", "en@"))


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(database.VARIABLE, "postgresql://user@host/db")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install -e '.*\[team\]'"):
        AnswerStore()


def test_rights_that_lack_are_one_line(team: str, postgres: Server) -> None:
    with psycopg.connect(team, autocommit=True) as db:
        db.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(TeacherError, match="permission denied for database"):
        AnswerStore(address=team.replace("assay@", "guest@"))


def test_copy_needs_a_database_to_copy_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, said = call(monkeypatch, capsys, "copy", "--to", "team")
    assert status
    assert "ASSAY_STORE is not set" in said


def test_who_may_use_the_tables_need_not_make_them(team: str) -> None:
    AnswerStore().put([answer("k")])
    with psycopg.connect(team, autocommit=True) as db:
        db.execute("CREATE ROLE colleague LOGIN")
        db.execute("GRANT USAGE ON SCHEMA assay_answers TO colleague")
        db.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA assay_answers TO colleague")
        db.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA assay_answers TO colleague")
    with AnswerStore(address=team.replace("assay@", "colleague@")) as store:
        assert store.known(["k"]) == {"k"}
        assert store.claim("new")
        store.put([answer("new")])
        row = store.reserve("task", "k", 0.5, 1.0)
        store.settle("task", Reserved("k", 0.5, row), 0.4, "answered")
        assert store.spent("task") == 0.4


def test_batches_of_a_task_are_seen_to_by_one_machine_and_booked_once(team: str) -> None:
    inside: list[str] = []

    def work(number: int) -> None:
        with AnswerStore() as store, store.alone("batch of a task"):
            inside.append(f"in {number}")
            time.sleep(0.1)
            inside.append(f"out {number}")

    at_once(3, work)
    assert all(a.replace("in", "out") == b for a, b in zip(inside[::2], inside[1::2], strict=True))
    with AnswerStore() as one, AnswerStore() as other:
        one.keep_batch("url", "task", Batch("digest", {"k": "q"}, "schema", True))
        for store in (one, other):
            store.end_batch("task", "digest", ["k"], 1.0)
        assert one.spent("task") == 1.0


def test_a_server_that_stays_away_is_waited_for_once(
    team: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 1.0)
    with AnswerStore() as store:
        postgres.stop()
        try:
            started = time.monotonic()
            for _ in range(20):
                with pytest.raises((TeacherError, SettingsError)):
                    store.put([answer("k")])
            assert time.monotonic() - started < 10
        finally:
            postgres.start()
        store.put([answer("k")])
        assert store.known(["k"]) == {"k"}
