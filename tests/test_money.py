"""Money: prices, a budget over all runs and processes, and the plan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from assay.errors import BudgetReached, SettingsError, TeacherError
from assay.remote.answers import AnswerStore
from assay.remote.money import AuditLog, price, tokens_of
from assay.teacher.annotate import annotate
from assay.teacher.plan import as_text, interval, plan
from assay.teacher.questions import Brief
from assay.teacher.rubric import Rubric
from tests import warm
from tests.conftest import StubTeacher, completion, valid_answer
from tests.test_client import changed
from tests.test_teacher import RUBRIC, SCORE, run, settings, write_sample

PRICED = {"usd_per_million_input": 10.0, "usd_per_million_output": 100.0, "max_tokens": 20}
EACH = (100 * 10 + 10 * 100) / 1e6  # what an answer of the stub costs


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(40)])


def spent() -> float:
    with AnswerStore() as store:
        return store.spent("labels")


def test_prices() -> None:
    teacher = settings("http://x/v1", **PRICED).teacher
    assert price(teacher, 100, 10) == pytest.approx(EACH)
    assert price(teacher, None, 10) is None
    assert price(settings("http://x/v1").teacher, 100, 10) is None
    with pytest.raises(ValueError, match="must be given together"):
        settings("http://x/v1", usd_per_million_input=1.0)
    content = [{"type": "text", "text": "x" * 400}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert tokens_of({"messages": [{"role": "user", "content": content}]}) == 356


@pytest.mark.parametrize("told", [True, False], ids=["told by the server", "by prices"])
def test_a_budget_stops_cleanly_and_goes_on_when_raised(posts: Path, stub: StubTeacher, told: bool) -> None:
    stub.reply = lambda request: (200, valid_answer(request, **({"cost": EACH} if told else {})))
    found = changed(settings(stub.url, concurrency=4, **({} if told else PRICED)), budget_usd=0.05)
    with pytest.raises(BudgetReached, match=r"budget_usd 0\.05 is reached.*raise the budget"):
        run(posts, found)
    first = len(stub.requests)
    assert first * EACH <= 0.05 + 1e-9
    assert first * EACH > 0.03
    assert spent() == pytest.approx(first * EACH)
    with pytest.raises(BudgetReached):
        run(posts, found)  # again: the budget is of all runs together
    assert len(stub.requests) * EACH <= 0.05 + 1e-9
    figures, _ = run(posts, changed(found, budget_usd=10.0))
    assert figures["answered"] == 40
    assert len(stub.requests) == 40
    assert figures["cost_usd"] == pytest.approx(40 * EACH)


def test_failed_tries_count(posts: Path, stub: StubTeacher) -> None:
    cut: dict[str, int] = {}

    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        said = request["messages"][1]["content"][0]["text"]
        cut[said] = cut.get(said, 0) + 1
        return (200, b'{"choi') if cut[said] == 1 else (200, valid_answer(request))

    stub.reply = reply
    run(posts, changed(settings(stub.url, retries=2, **PRICED), budget_usd=50.0))
    assert spent() > 40 * EACH * 1.5  # each post failed once after the server had worked on it
    stub.reply = lambda request: (200, valid_answer(request))


def test_a_budget_needs_to_know_what_things_cost(posts: Path, stub: StubTeacher) -> None:
    with pytest.raises(SettingsError, match="does not tell what an answer costs; set usd_per_million_input"):
        run(posts, changed(settings(stub.url, concurrency=1), budget_usd=5.0))
    assert len(stub.requests) == 1
    assert run(posts, settings(stub.url))[0]["asked"] == 39  # what was answered is kept


CHILD = """
import sys
from pathlib import Path
from tests.test_client import changed
from tests.test_money import PRICED
from tests.test_teacher import run, settings
run(Path(sys.argv[1]), changed(settings(sys.argv[2], concurrency=4, **PRICED), budget_usd=0.05))
"""


def test_processes_share_a_budget_and_a_killed_one_counts(posts: Path, stub: StubTeacher) -> None:
    stub.delay_s = 0.2
    children = [warm.Child(CHILD, posts, stub.url, place=posts.parent) for _ in range(2)]
    while len(stub.requests) < 8 and any(child.poll() is None for child in children):
        time.sleep(0.01)
    children[0].kill()
    for child in children:
        child.communicate(timeout=60)
    assert len(stub.requests) * EACH <= 0.05 + 1e-9
    with pytest.raises(BudgetReached):
        run(posts, changed(settings(stub.url, **PRICED), budget_usd=0.05))
    assert 0.03 < spent() <= 0.05 + 1e-9


def test_without_an_audit_log_nothing_more_is_sent(
    posts: Path, stub: StubTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: AuditLog, key: str, outcome: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditLog, "add", full)
    with pytest.raises(TeacherError, match=r"audit log .*No space left on device; nothing more is sent"):
        run(posts, settings(stub.url, concurrency=1))
    assert not stub.requests  # the line stands before the request leaves


# --------------------------------------------------------------------------------------------- plan


def test_plan_before_during_and_after(posts: Path, stub: StubTeacher) -> None:
    brief = Brief(Rubric.load(RUBRIC, SCORE), settings(stub.url, **PRICED))
    with AnswerStore() as store:
        before = plan(posts, brief, store, "t")
        assert not stub.requests
        assert (before["new_questions"], before["answered"]) == (40, 0)
        assert "requests alone" in before["teachers"]["m"]["based_on"]
        assert before["teachers"]["m"]["questions_per_s"] is None
        stub.reply = lambda request: (200, completion('{"reason": "x", "score": 5}') | {"model": "m"})
        during = plan(posts, brief, store, "t", pilot=10)
        assert (during["new_questions"], len(stub.requests)) == (30, 10)
        cost = during["teachers"]["m"]["cost_usd"]
        assert cost["expected"] == pytest.approx(30 * EACH)
        assert cost["low"] <= cost["expected"] <= cost["high"]
        assert "30 new" in as_text(during)
        annotate(posts, posts.parent / "l.parquet", settings=brief.settings, target=SCORE, rubric=RUBRIC)
        assert len(stub.requests) == 40
        assert plan(posts, brief, store, "t")["teachers"] == {}


def test_intervals_of_a_sum() -> None:
    found = interval([1.0, 2.0, 3.0], 100)
    assert found["expected"] == 200
    half = 1.96 * (100 + 100**2 / 3) ** 0.5
    assert found["high"] - found["expected"] == pytest.approx(half, rel=1e-4)
    assert interval([0.0, 10.0], 1)["low"] == 0.0
