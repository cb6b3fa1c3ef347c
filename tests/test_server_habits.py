"""Habits of real servers, each from a public report: faults inside a 200, refused fields, odd answers and figures."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import AccountRefused, DataError, TooManyFailures
from assay.remote.answers import AnswerStore
from assay.remote.dialect import Dialect
from assay.store import machine
from assay.teacher.reading import count_of, money_of, status_of
from assay.teacher.structure import unwrapped
from tests import warm
from tests.conftest import ROOT, StubTeacher, completion
from tests.test_client import changed
from tests.test_teacher import run, settings, write_sample

GOOD = '{"reason": "x", "score": 4}'
PRICED = {"usd_per_million_input": 10.0, "usd_per_million_output": 100.0}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a repository there are no committed labels to look for."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(4)])


def spent() -> float:
    with AnswerStore() as store:
        return store.spent("labels")


def message(content: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    found = completion(None, finish=finish)
    found["choices"][0]["message"] |= {"content": content, **more}
    return found


# ---------------------------------------------------------------------------------- what is an answer

ANSWERS: dict[str, dict[str, Any]] = {
    "byte order mark": message("\ufeff" + GOOD),
    "thought, opened": message(f"<think>maybe {{4}}?</think>\n\n{GOOD}"),
    "thought, not opened": message(f"Okay, a post about shoes. {{Four}}.\n</think>\n\n{GOOD}"),
    "thought and block": message(f"hm</think>\n```json\n{GOOD}\n```"),
    "block": message(f"```json\n{GOOD}\n```"),
    "block without a name": message(f"```\n{GOOD}\n```"),
    "block on one line": message(f"```json {GOOD} ```"),
    "block with a sentence behind it": message(f"```json\n{GOOD}\n```\nThe post has no strong feeling."),
    "parts": message([{"type": "text", "text": GOOD}]),
    "usage as text": completion(GOOD) | {"usage": {"prompt_tokens": "100", "completion_tokens": "10", "cost": "0.001"}},
    "usage with points": completion(GOOD) | {"usage": {"prompt_tokens": 100.0, "completion_tokens": 10.0}},
    "usage null": completion(GOOD) | {"usage": None},
    "usage a list": completion(GOOD) | {"usage": [1, 2]},
    "usage of nonsense": completion(GOOD) | {"usage": {"prompt_tokens": {}, "completion_tokens": "many", "cost": []}},
    "logprobs null": completion(GOOD) | {"choices": [completion(GOOD)["choices"][0] | {"logprobs": None}]},
    "logprobs a list": completion(GOOD) | {"choices": [completion(GOOD)["choices"][0] | {"logprobs": [1]}]},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_good_answers_in_odd_dress_are_read(name: str, posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, ANSWERS[name])
    figures, labels = run(posts, settings(stub.url))
    assert figures["answered"] == 4
    assert {row["value"] for row in labels} == {4.0}
    assert len(stub.requests) == 4
    if name.startswith(("usage as", "usage with")):
        assert labels[0]["prompt_tokens"] == 100
        assert labels[0]["completion_tokens"] == 10


@pytest.mark.parametrize(
    "said",
    [
        f"Here is the rating:\n{GOOD}",
        f"{GOOD}\n{GOOD}",
        f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```",
        f"```json\n{GOOD}\n```\nor {{}}",
        '{"reason": "x", "score": "4"}',
    ],
)
def test_what_is_not_one_object_is_never_guessed(said: str, posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, message(said))
    with pytest.raises(DataError, match="the first reason: invalid_answer"):
        run(posts, settings(stub.url))


def test_a_thought_that_an_answer_quotes_stays_in_it() -> None:
    quoted = '{"reason": "says </think>", "score": 4}'
    assert unwrapped(quoted) == quoted


# ------------------------------------------------------------------------ faults of the server's own


def choice_error(**error: Any) -> dict[str, Any]:
    found = message("", finish="error")
    found["choices"][0]["error"] = error
    return found


OWN_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "breakdown in a choice": (choice_error(code=502, message="Provider overloaded"), "http_502: Provider overloaded"),
    "breakdown without words": (message("", finish="error"), "server_error: finish_reason error"),
    "error in a 200": ({"error": {"code": 503, "message": "No instances"}}, "http_503: No instances"),
    "code as text": ({"error": {"code": "529", "message": "Overloaded"}}, "http_529: Overloaded"),
    "type alone": ({"error": {"type": "overloaded_error", "message": "Later"}}, "http_503: Later"),
    "text alone": ({"error": "something broke"}, "server_error: something broke"),
    "words of a provider": (
        {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream is down"}}},
        "http_502: Provider returned error: upstream is down",
    ),
    "content null": (message(None), "empty_answer: the server sent no content"),
    "content of blanks": (message(" \n"), "empty_answer: the server sent no content"),
    "answer taken for a thought": (message(None, reasoning_content=GOOD), "empty_answer: no content, but text in"),
    "answer taken for a thought, OpenRouter": (message("", reasoning=GOOD), "empty_answer: no content, but text in"),
}


@pytest.mark.parametrize("name", OWN_FAULTS)
def test_a_servers_fault_is_never_the_posts(name: str, posts: Path, stub: StubTeacher) -> None:
    """It ends the run non-zero with the server's words, nothing is kept, and the next run asks again."""
    found, said = OWN_FAULTS[name]
    stub.reply = lambda request: (200, found)
    with pytest.raises(TooManyFailures) as told:
        run(posts, settings(stub.url, retries=1, deadline_s=20.0))
    assert f"4 {said}" in str(told.value)
    with AnswerStore() as store:
        assert store.rows("SELECT COUNT(*) FROM answers") == [(0,)]
        assert store.claims() == []
    stub.reply = lambda request: (200, completion(GOOD))
    assert run(posts, settings(stub.url))[0]["answered"] == 4


def test_a_breakdown_for_some_posts_stops_the_run_and_costs_the_others_nothing(
    tmp_path: Path, stub: StubTeacher
) -> None:
    posts = write_sample(tmp_path / "many", [(f"p{i}", f"caption {i}", []) for i in range(12)])
    broken = choice_error(code=502, message="Provider overloaded")
    stub.reply = lambda request: (200, broken if "caption 3" in str(request) else completion(GOOD))
    with pytest.raises(TooManyFailures, match=r"1 of 12 .*1 http_502: Provider overloaded"):
        run(posts, settings(stub.url, retries=1))
    before = len(stub.requests)
    stub.reply = lambda request: (200, completion(GOOD))
    assert run(posts, settings(stub.url))[0]["answered"] == 12
    assert len(stub.requests) == before + 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"code": 402, "message": "Insufficient credits"}, r"refused \(402\): Insufficient credits"),
        ({"code": 401, "message": "No auth credentials found"}, r"refused \(401\): No auth credentials"),
        ({"code": "insufficient_quota", "message": "You exceeded your quota"}, r"refused \(402\): You exceeded"),
        ({"type": "authentication_error", "message": "bad key"}, r"refused \(401\): bad key"),
    ],
)
def test_refusals_of_the_account_inside_a_200_stop_at_once_and_are_free(
    error: dict[str, Any], said: str, posts: Path, stub: StubTeacher
) -> None:
    stub.reply = lambda request: (200, {"error": error, "user_id": "u"})
    found = changed(settings(stub.url, retries=6, concurrency=1, **PRICED), budget_usd=1.0)
    with pytest.raises(AccountRefused, match=said):
        run(posts, found)
    assert len(stub.requests) == 1
    assert spent() == 0.0


def test_a_spent_account_behind_a_429_stops_at_once(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    with pytest.raises(AccountRefused, match=r"refused \(402\): You exceeded your quota"):
        run(posts, settings(stub.url, concurrency=1))
    assert len(stub.requests) == 1


def test_a_rate_limit_inside_a_200_is_waited_for_as_it_asks(posts: Path, stub: StubTeacher) -> None:
    until = time.time() + 1.2

    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        if time.time() < until:
            headers = {"X-RateLimit-Reset": str(int(until * 1000) + 20)}
            return 200, {"error": {"message": "Rate limit exceeded", "code": 429, "metadata": {"headers": headers}}}
        return 200, completion(GOOD)

    stub.reply = reply
    assert run(posts, settings(stub.url, retries=2, concurrency=1))[0]["answered"] == 4
    assert len(stub.requests) == 5  # one refusal, and no try before its time


def test_what_a_moderator_refused_is_the_posts_and_told(posts: Path, stub: StubTeacher, capsys: Any) -> None:
    flagged = {"error": {"message": "Content was flagged by moderation", "code": 403}}
    stub.reply = lambda request: (200, flagged if "caption 2" in str(request) else completion(GOOD))
    figures, _ = run(posts, changed(settings(stub.url, **PRICED), budget_usd=1.0))
    assert figures["failed"] == {"total": 1, "http_403": 1}
    assert "1 http_403 (Content was flagged by moderation)" in capsys.readouterr().err
    assert spent() == pytest.approx(3 * (100 * 10 + 10 * 100) / 1e6)
    assert run(posts, settings(stub.url, **PRICED))[0]["asked"] == 0


# --------------------------------------------------------------------------------- asking once more


def test_what_cannot_be_used_is_asked_again_when_a_user_wants_it(posts: Path, stub: StubTeacher) -> None:
    bad = {"caption 0": (200, message("no JSON")), "caption 1": (403, {"error": {"message": "flagged"}})}
    bad["caption 2"] = 200, message("", finish="length")
    stub.reply = lambda request: next(
        (said for text, said in bad.items() if text in str(request)), (200, completion(GOOD))
    )
    figures, _ = run(posts, settings(stub.url))
    assert figures["failed"] == {"total": 3, "invalid_answer": 1, "http_403": 1, "cut_answer": 1}
    stub.reply = lambda request: (200, completion(GOOD))
    with AnswerStore() as store:
        known = {(row["status"], row["reason"]) for row in store.reasons()}
        assert known == {("failed", "http_403"), ("invalid", "cut_answer"), ("invalid", "invalid_answer")}
        assert store.forget(["http_403"]) == 1
    assert run(posts, settings(stub.url))[0]["asked"] == 1
    with AnswerStore() as store:
        assert store.forget(["invalid_answer"]) == 1
        assert store.forget_failed() == 1
        assert store.forget(["ok"]) == 0
    figures, _ = run(posts, settings(stub.url))
    assert (figures["asked"], figures["answered"]) == (2, 4)


def test_empty_answers_of_earlier_versions_count_as_what_they_are(posts: Path, stub: StubTeacher) -> None:
    run(posts, settings(stub.url))
    with AnswerStore() as store, store.writing() as db:
        db.execute("UPDATE answers SET raw_answer = CASE WHEN key < '8' THEN '' ELSE 'no JSON' END")
    with pytest.raises(DataError, match="no post got a label"):
        run(posts, settings(stub.url))
    with AnswerStore() as store:
        assert sum(row["answers"] for row in store.reasons()) == 4
        assert store.forget_failed() == 4


def test_the_command_says_what_there_is_to_be_asked_again(posts: Path, stub: StubTeacher, home: Path) -> None:
    stub.reply = lambda request: (
        (403, {"error": {"message": "no"}}) if "caption 1" in str(request) else (200, completion(GOOD))
    )
    run(posts, settings(stub.url))

    def answers(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(warm.folder() / "assay"), "answers", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    refused = answers("--ask-again", "http_500")
    assert refused.returncode == 1
    assert "nothing is kept with it; there is: failed, http_403" in refused.stderr
    done = answers("--ask-again", "http_403", "--ask-again", "failed")
    assert "1 answers deleted" in done.stderr
    assert "http_403" not in done.stdout


# ---------------------------------------------------------------------------- fields that are refused


def refuses(*rules: tuple[Callable[[dict[str, Any]], bool], str, str]) -> Any:
    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        for applies, said, field in rules:
            if applies(request):
                return 400, {"error": {"message": said, "param": field, "code": "unsupported"}}
        return 200, completion(GOOD)

    return reply


LIMIT = (
    lambda r: "max_tokens" in r,
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "max_tokens",
)
OLD_LIMIT = (lambda r: "max_completion_tokens" in r, "Unrecognized request argument: max_completion_tokens", "")
HEAT = (lambda r: r.get("temperature", 1) != 1, "Only the default (1) value is supported.", "temperature")
LOGPROBS = (lambda r: bool(r.get("logprobs")), "logprobs are not supported with this model", "logprobs")
ROLE = (lambda r: r["messages"][0]["role"] == "system", "System role not supported", "")


@pytest.mark.parametrize(
    ("rules", "dialect"),
    [
        ([LIMIT, HEAT, LOGPROBS], Dialect("max_completion_tokens", False, "system")),
        ([LIMIT], Dialect("max_completion_tokens")),
        ([ROLE], Dialect(speaker="user")),
        ([ROLE, HEAT], Dialect("max_tokens", False, "user")),
    ],
)
def test_refused_fields_are_found_once_and_remembered(
    rules: list[Any], dialect: Dialect, posts: Path, stub: StubTeacher
) -> None:
    stub.reply = refuses(*rules)
    assert run(posts, settings(stub.url))[0]["answered"] == 4
    probes = len(stub.requests) - 4
    assert probes == len(rules)
    with AnswerStore() as store:
        assert json.loads(store.dialect(stub.url, "m") or "") == json.loads(dialect.as_json())
    stub.requests.clear()
    run(posts, settings(stub.url, max_tokens=99))
    assert len(stub.requests) == 4
    last = stub.requests[-1]
    assert dialect.limit in last
    assert ("temperature" in last) is dialect.temperature
    if dialect.speaker == "user":
        assert [one["role"] for one in last["messages"]] == ["user"]
        assert "Your answer" in last["messages"][0]["content"][0]["text"]


def test_a_remembered_dialect_that_a_server_no_longer_takes_is_changed(posts: Path, stub: StubTeacher) -> None:
    stub.reply = refuses(LIMIT)
    run(posts, settings(stub.url))
    stub.reply = refuses(OLD_LIMIT)
    assert run(posts, settings(stub.url, max_tokens=98))[0]["answered"] == 4


def test_fields_can_be_set_and_left_out(posts: Path, stub: StubTeacher) -> None:
    run(posts, settings(stub.url, temperature=None, token_limit="max_completion_tokens", system_role="developer"))
    sent = stub.requests[-1]
    assert "temperature" not in sent
    assert "max_tokens" not in sent
    assert sent["max_completion_tokens"] == 300
    assert sent["messages"][0]["role"] == "developer"
    run(posts, settings(stub.url, extra_body={"max_tokens": None, "stream": False, "n": 1}))
    assert not {"max_tokens", "max_completion_tokens"} & set(stub.requests[-1])
    run(posts, settings(stub.url, extra_body={"max_completion_tokens": 2000}))
    assert stub.requests[-1]["max_completion_tokens"] == 2000
    assert "max_tokens" not in stub.requests[-1]
    for refused in ({"stream": True}, {"n": 3}, {"model": "x"}, {"tool_choice": "auto"}):
        with pytest.raises(ValueError, match="extra_body"):
            settings(stub.url, extra_body=refused)


# ---------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("cost", [-1, math.nan, math.inf, "free", True, [], "-0.1"])
def test_a_cost_that_is_no_money_is_priced_by_tokens_and_told_once(
    cost: Any, posts: Path, stub: StubTeacher, capsys: Any
) -> None:
    stub.reply = lambda request: (200, completion(GOOD, cost=cost))
    figures, _ = run(posts, changed(settings(stub.url, **PRICED), budget_usd=1.0))
    each = (100 * 10 + 10 * 100) / 1e6
    assert figures["cost_usd"] == pytest.approx(4 * each)
    assert spent() == pytest.approx(4 * each)
    assert capsys.readouterr().err.count("which is no money") == 1


@pytest.mark.parametrize(
    ("value", "count", "money"),
    [
        (5, 5, 5.0),
        ("5", 5, 5.0),
        (5.0, 5, 5.0),
        (" 7 ", 7, 7.0),
        (None, None, None),
        (True, None, None),
        (-1, None, None),
        (math.nan, None, None),
        (1e300, None, 1e300),
        ("x", None, None),
        ({}, None, None),
    ],
)
def test_figures_by_hand(value: Any, count: int | None, money: float | None) -> None:
    assert count_of(value) == count
    assert money_of(value) == money


def test_statuses_by_hand() -> None:
    assert status_of(["", "rate_limit_exceeded"], "") == 429
    assert status_of(["402"], "") == 402
    assert status_of(["99"], "Model not found") == 404
    assert status_of([""], "Internal server error") == 503
    assert status_of(["weird"], "what") is None


# ------------------------------------------------------------------------------- secrets and doors


def test_a_key_that_a_server_echoes_is_kept_nowhere(
    posts: Path, stub: StubTeacher, monkeypatch: pytest.MonkeyPatch, home: Path, capsys: Any
) -> None:
    key = "sk-very-secret-12345"
    monkeypatch.setenv("ASSAY_TEST_KEY", key)
    echo = json.dumps({"reason": f"your key is {key}", "score": 4})
    stub.reply = lambda request: (200, completion(echo) | {"model": f"m-{key}"})
    _, labels = run(posts, settings(stub.url, api_key_env="ASSAY_TEST_KEY"))
    assert "your key is ***" in labels[0]["raw_answer"]
    stub.reply = lambda request: (403, {"error": {"message": f"\x1b[31mkey {key}\u202e\x00 is \x9bbad\r\n\x07"}})
    with pytest.raises(DataError):
        run(posts, settings(stub.url, api_key_env="ASSAY_TEST_KEY", temperature=0.5))
    said = capsys.readouterr().err
    assert "key *** is bad" in said
    assert key not in said
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(said)
    for path in home.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(status: int, posts: Path, stub: StubTeacher) -> None:
    taken: list[str] = []
    stub.elsewhere = lambda path, _: taken.append(path) or (200, completion(GOOD))  # type: ignore[func-returns-value]
    there = stub.url.replace("127.0.0.1", "localhost") + "/stolen"
    stub.reply = lambda request: (status, {}, {"Location": there})
    with pytest.raises(AccountRefused, match="redirects to http://localhost, and posts go nowhere else"):
        run(posts, settings(stub.url))
    assert not taken


@pytest.mark.slow
def test_no_request_leaves_without_its_line_in_the_audit_log(tmp_path: Path, stub: StubTeacher, home: Path) -> None:
    write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(200)])
    code = (
        "from pathlib import Path\nfrom tests.test_teacher import run, settings\n"
        f"run(Path({str(tmp_path / 'sample')!r}), settings({stub.url!r}, concurrency=16))"
    )
    for wait in (1.2, 0.2):
        stub.delay_s = 0.02
        before = len(stub.requests)
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
        while len(stub.requests) < before + 10 and child.poll() is None:
            time.sleep(0.01)
        time.sleep(wait / 10)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.1)
    lines = [json.loads(line) for path in (home / "logs").glob("*.jsonl") for line in path.read_text().splitlines()]
    sent = [line for line in lines if line["outcome"] == "sent"]
    assert len(sent) >= len(stub.requests) >= 20


# ------------------------------------------------------------------------------------------ claims


def test_claims_of_another_machine_wait_for_their_lease_and_can_be_given_back(posts: Path, stub: StubTeacher) -> None:
    """A container has a host name and process numbers like ours: an owner is more than these."""
    host = machine()
    assert machine() == host
    assert len(host.rpartition("/")[2]) == 12
    with AnswerStore() as store:
        _, pid, started = store.owner
        foreign = f"{host.rpartition('/')[0]}/{'0' * 12}"
        with store.writing() as db:
            held = [("a", foreign, pid, started, time.time() + 60), ("b", foreign, pid, started, time.time() - 1)]
            held.append(("c", host, 2**22 + 7, "1", time.time() + 60))
            db.executemany("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", held)
        assert not store.claim("a")  # the same process number elsewhere is not us
        assert store.claim("b")  # its lease ran out
        assert store.claim("c")  # it is of this machine, and gone
        states = {row["owner"]: row["state"] for row in store.claims()}
        assert states == {f"{foreign}:{pid}": "elsewhere", f"{host}:{pid}": "lives"}
        assert store.holder(
            "a",
        ).startswith(f"{foreign}:{pid}, for at most")  # type: ignore[union-attr]
        assert store.release_owner("gone") == 0
        with store.writing() as db:  # an earlier process of our own number: its claims alone are given back
            db.execute("INSERT INTO claims VALUES ('old', ?, ?, 'before', ?)", (host, pid, time.time() + 60))
        assert store.release_owner("gone") == 1
        assert not store.renew(["b", "c"], 60)
        assert store.release_owner(f"{foreign}:{pid}") == 1
        assert store.claim("a")
        assert store.renew(["a", "nothing"], 60) == {"nothing"}


def test_waiting_for_another_process_says_for_whom(posts: Path, stub: StubTeacher, capsys: Any) -> None:
    run(posts, settings(stub.url))
    with AnswerStore() as store, store.writing() as db:
        keys = [row[0] for row in db.execute("SELECT key FROM answers")]
        db.execute("DELETE FROM answers WHERE key = ?", (keys[0],))
        db.execute("INSERT INTO claims VALUES (?, 'far/away', 7, '1', ?)", (keys[0], time.time() + 1.5))
    assert run(posts, settings(stub.url))[0]["answered"] == 4
    said = capsys.readouterr().err
    assert "waiting for its answers (far/away:7, for at most" in said
    assert "assay answers claims" in said
