"""The client: forms of answers, probing, repair, distributions, pace and retries, against servers on loopback."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from assay.config import Annotate, LabelsTarget, ScoreTarget, Teacher
from assay.errors import AccountRefused, PassingFault, RowError
from assay.remote.answers import AnswerStore
from assay.remote.pace import Pace, backoff, seconds
from assay.remote.server import retry_after
from assay.targets import Target
from assay.teacher import asking
from assay.teacher.distribution import evidence, from_evidence, from_typed
from tests.conftest import StubTeacher, completion, valid_answer
from tests.test_teacher import CLASSES, SCORE, run, settings, write_sample

LABELS = LabelsTarget(kind="labels", names=["racist", "sexist", "religion", "other"])


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample", [(f"p{i}", f"caption {i}", []) for i in range(6)])


def changed(found: Annotate, **update: Any) -> Annotate:
    return Annotate.model_validate(found.model_dump(by_alias=True) | update)


# ------------------------------------------------------------------------------------------- forms


def refuses(*fields: str) -> Any:
    """A server that refuses requests with these fields, and answers in the way that is asked."""

    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        for name in fields:
            if name in request:
                return 400, {"error": {"message": f"unknown field {name}"}}
        return 200, answered(request)

    return reply


def answered(request: dict[str, Any]) -> dict[str, Any]:
    """A good answer, as a tool call where tools are given, in a code block where nothing is."""
    if "tools" in request:
        found = completion(None)
        call = {"id": "1", "type": "function", "function": {"name": "rating", "arguments": RATED}}
        found["choices"][0]["message"]["tool_calls"] = [call]
        return found
    return completion(RATED if "response_format" in request else f"```json\n{RATED}\n```")


RATED = '{"reason": "x", "score": 4}'


@pytest.mark.parametrize(
    ("refused", "structure", "probes"),
    [
        ([], "json_schema", 1),
        (["logprobs"], "json_schema", 2),
        (["response_format"], "tool", 3),
        (["response_format", "tools"], "plain", 4),
        (["response_format", "tools", "logprobs"], "plain", 5),
    ],
)
def test_the_way_that_a_server_takes_is_probed_once_and_remembered(
    posts: Path, stub: StubTeacher, refused: list[str], structure: str, probes: int
) -> None:
    stub.reply = refuses(*refused)
    figures, labels = run(posts, settings(stub.url))
    assert figures["answered"] == 6
    assert {row["value"] for row in labels} == {4.0}
    assert len(stub.requests) == 5 + probes
    with AnswerStore() as store:
        assert store.way(stub.url, "m") == (structure, False)
    stub.requests.clear()
    run(posts, settings(stub.url, max_tokens=99))
    assert len(stub.requests) == 6


def test_a_way_that_a_server_no_longer_takes_is_found_anew(tmp_path: Path, stub: StubTeacher) -> None:
    posts = write_sample(tmp_path / "many", [(f"p{i}", f"caption {i}", []) for i in range(30)])
    run(write_sample(tmp_path / "one", [("q", "another", [])]), settings(stub.url))
    stub.reply = refuses("response_format")
    with pytest.raises(AccountRefused, match="questions in a row were refused"):
        run(posts, settings(stub.url))
    with AnswerStore() as store:
        store.forget_failed()
    assert run(posts, settings(stub.url))[0]["answered"] == 30


def test_a_server_that_ignores_the_form_is_asked_in_plain_words_and_its_answer_repaired(
    posts: Path, stub: StubTeacher
) -> None:
    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        if len(request["messages"]) == 2:
            return 200, completion("I would say four out of ten.")
        assert request["messages"][2]["content"] == "I would say four out of ten."
        assert "not JSON" in request["messages"][3]["content"]
        return 200, completion(RATED)

    stub.reply = reply
    figures, labels = run(posts, settings(stub.url))
    assert figures["answered"] == 6
    assert all(row["prompt_tokens"] >= 200 for row in labels)  # both tries were paid for


def test_an_answer_that_never_fits_is_asked_twice_and_recorded(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (
        (200, completion("Never JSON.")) if "caption 3" in str(request["messages"]) else (200, valid_answer(request))
    )
    figures, labels = run(posts, settings(stub.url))
    assert figures["failed"] == {"total": 1, "invalid_answer": 1}
    assert sum("caption 3" in str(request["messages"]) for request in stub.requests) == 2
    assert next(row for row in labels if row["post_id"] == "p3")["raw_answer"] == "Never JSON."
    assert run(posts, settings(stub.url))[0]["asked"] == 0


def test_answers_that_were_cut_are_not_asked_again(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (
        (200, completion('{"reason": "a very long', finish="length"))
        if "caption 3" in str(request["messages"])
        else (200, valid_answer(request))
    )
    figures, labels = run(posts, settings(stub.url))
    assert figures["failed"] == {"total": 1, "cut_answer": 1}
    assert "raise annotate.teacher.max_tokens above 300" in next(row["reason"] for row in labels if row["reason"])
    assert sum("caption 3" in str(request["messages"]) for request in stub.requests) == 1


def test_headers_and_extra_fields_reach_the_server(
    posts: Path, stub: StubTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_TEST_TITLE", "secret-title")
    found = settings(stub.url, headers={"X-Title": "env:ASSAY_TEST_TITLE"}, extra_body={"provider": {"sort": "price"}})
    run(posts, found)
    assert stub.requests[0]["provider"] == {"sort": "price"}
    with pytest.raises(ValueError, match=r"headers\.Authorization would be a secret"):
        Teacher(base_url=stub.url, headers={"Authorization": "Bearer x"})
    with pytest.raises(ValueError, match="extra_body may not set messages"):
        Teacher(base_url=stub.url, extra_body={"messages": []})


# ----------------------------------------------------------------------------------- distributions


def tokens(*parts: tuple[str, float, dict[str, float]]) -> list[dict[str, Any]]:
    """Tokens as a server lists them: text, its probability, and those of alternatives."""
    return [
        {
            "token": text,
            "logprob": math.log(p),
            "top_logprobs": [{"token": t, "logprob": math.log(q)} for t, q in ({text: p} | others).items()],
        }
        for text, p, others in parts
    ]


Case = tuple[Target, str, list[dict[str, Any]], Any, list[float]]
CASES: dict[str, Case] = {
    "single digit": (
        SCORE,
        '{"reason": "x", "score": 7}',
        tokens(
            ('{"reason": "x", "', 1, {}),
            ("score", 1, {}),
            ('": ', 1, {}),
            ("7", 0.6, {"8": 0.3, "6": 0.1}),
            ("}", 1, {}),
        ),
        7.2,
        [0, 0, 0, 0, 0, 0, 0.1, 0.6, 0.3, 0, 0],
    ),
    "ten as two digits": (
        SCORE,
        '{"reason": "x", "score": 10}',
        tokens(('{"reason": "x", "score":', 1, {}), (" 1", 0.9, {" 2": 0.1}), ("0", 0.7, {"}": 0.3}), ("}", 1, {})),
        0.1 * 2 + 0.27 * 1 + 0.63 * 10,
        [0, 0.27, 0.1, 0, 0, 0, 0, 0, 0, 0, 0.63],
    ),
    "a half": (
        SCORE,
        '{"reason": "x", "score": 7.5}',
        tokens(('{"reason": "x", "score": ', 1, {}), ("7", 1, {}), (".", 0.8, {"}": 0.2}), ("5", 1, {}), ("}", 1, {})),
        0.8 * 7.5 + 0.2 * 7,
        [0, 0, 0, 0, 0, 0, 0, 0.6, 0.4, 0, 0],
    ),
    "class in one token with its quote": (
        CLASSES,
        '{"reason": "x", "label": "neutral"}',
        tokens(
            ('{"reason": "x", "label":', 1, {}),
            (' "', 1, {}),
            ("neutral", 0.7, {"pos": 0.2, "neg": 0.1}),
            ('"}', 1, {}),
        ),
        "neutral",
        [0.2, 0.7, 0.1],
    ),
    "classes that begin alike": (
        CLASSES,
        '{"reason": "x", "label": "neutral"}',
        tokens(
            ('{"reason": "x", "label": "', 1, {}),
            ("ne", 0.8, {"pos": 0.2}),
            ("utral", 0.9, {"gative": 0.1}),
            ('"}', 1, {}),
        ),
        "neutral",
        [0.2, 0.72, 0.08],
    ),
    "labels": (
        LABELS,
        '{"reason": "x", "labels": ["racist","sexist"]}',
        tokens(
            ('{"reason": "x", "labels":', 1, {}),
            (' ["', 0.8, {" []": 0.2}),
            ("rac", 0.6, {"sex": 0.3, "rel": 0.1}),
            ("ist", 1, {}),
            ('","', 0.7, {'"]': 0.3}),
            ("sex", 0.9, {"rel": 0.1}),
            ("ist", 1, {}),
            ('"]', 1, {}),
            ("}", 1, {}),
        ),
        ["racist", "sexist"],
        [0.48, 1 - (1 - 0.8 * 0.3) * (1 - 0.7 * 0.9), 1 - (1 - 0.8 * 0.1) * (1 - 0.7 * 0.1), 0],
    ),
    "labels whose comma is a token of its own": (
        LABELS,
        '{"reason": "x", "labels": ["racist","sexist"]}',
        tokens(
            ('{"reason": "x", "labels": [', 1, {}),
            ('"', 1, {}),
            ("racist", 1, {}),
            ('",', 0.6, {'"]': 0.4}),
            ('"', 1, {}),
            ("sexist", 1, {}),
            ('"]', 1, {}),
            ("}", 1, {}),
        ),
        ["racist", "sexist"],
        [1, 0.6, 0, 0],
    ),
    "no label": (
        LABELS,
        '{"reason": "x", "labels": []}',
        tokens(('{"reason": "x", "labels":', 1, {}), (" []", 0.9, {' ["': 0.1}), ("}", 1, {})),
        [],
        [0, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_distribution_from_log_probabilities(name: str) -> None:
    target, raw, listed, value, distribution = CASES[name]
    kept = evidence(raw, listed, target)
    assert kept is not None
    found = from_evidence(kept, raw, target)
    assert found is not None
    assert found.how == "logprobs"
    assert found.value == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)
    assert found.distribution == pytest.approx(distribution, abs=1e-4)


def test_log_probabilities_that_say_too_little_are_not_used() -> None:
    raw = '{"reason": "x", "score": 1}'
    listed = tokens(('{"reason": "x", "score": ', 1, {}), ("1", 0.6, {"high": 0.4}), ("}", 0.5, {"0": 0.1}))
    kept = evidence(raw, listed, SCORE)
    assert kept is not None
    assert from_evidence(kept, raw, SCORE) is None
    assert evidence(raw, tokens(("other text", 1, {})), SCORE) is None
    assert evidence(raw, [{"token": 1}], SCORE) is None


def test_scales_on_which_a_first_token_says_little_keep_the_plain_answer() -> None:
    signed = ScoreTarget(kind="score", min=-5, max=5)
    raw = '{"reason": "x", "score": -4}'
    kept = evidence(raw, tokens(('{"reason": "x", "score": ', 1, {}), ("-", 0.5, {"3": 0.5}), ("4", 1, {})), signed)
    assert kept is None or from_evidence(kept, raw, signed) is None
    share = ScoreTarget(kind="score", min=0, max=1)
    raw = '{"reason": "x", "score": 1}'
    listed = tokens(('{"reason": "x", "score": ', 1, {}), ("1", 0.55, {"0": 0.45}), ("}", 1, {}))
    kept = evidence(raw, listed, share)
    assert kept is not None
    found = from_evidence(kept, raw, share)
    assert found is not None
    assert found.value == 1.0  # 0 could have become 0.9


@pytest.mark.parametrize(
    "spoil", [{"top_logprobs": None}, {"logprob": None}, {"token": None}, {"top_logprobs": [{"token": "7"}]}]
)
def test_spoilt_log_probabilities_leave_the_answer_alone(spoil: dict[str, Any], posts: Path, stub: StubTeacher) -> None:
    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        found = completion('{"reason": "x", "score": 7}')
        content = [token | spoil for token in CASES["single digit"][2]]
        found["choices"][0]["logprobs"] = {"content": content}
        return 200, found

    stub.reply = reply
    figures, _ = run(posts, settings(stub.url))
    assert figures["how"] == {"plain": 6}


def test_an_answer_with_half_a_character_is_kept(posts: Path, stub: StubTeacher) -> None:
    half = chr(0xD83D)  # json.dumps writes it as an escape, and a client reads it back as half a character
    stub.reply = lambda request: (200, completion(f'{{"reason": "{half}", "score": 7}}') | {"model": f"m{half}"})
    figures, _ = run(posts, settings(stub.url))
    assert figures["answered"] == 6


def test_log_probabilities_become_the_label(posts: Path, stub: StubTeacher) -> None:
    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        found = completion('{"reason": "x", "score": 7}')
        found["choices"][0]["logprobs"] = {"content": CASES["single digit"][2]}
        assert request["top_logprobs"] == 20
        return 200, found

    stub.reply = reply
    figures, labels = run(posts, settings(stub.url))
    assert figures["how"] == {"logprobs": 6}
    assert {row["value"] for row in labels} == {7.2}
    with AnswerStore() as store:
        assert store.way(stub.url, "m") == ("json_schema", True)
    again, same = run(posts, changed(settings(stub.url), distribution="none"))
    assert again["asked"] == 0  # what was paid for with log-probabilities stays
    assert same == labels


def test_votes(posts: Path, stub: StubTeacher) -> None:
    scores = iter([1, 2, 6] * 6)
    stub.reply = lambda request: (200, completion(json.dumps({"reason": "", "score": next(scores)})))
    found = settings(stub.url, temperature=0.7, concurrency=1)
    figures, labels = run(posts, changed(found, votes=3))
    assert (figures["asked"], figures["how"]) == (18, {"votes": 6})
    assert (labels[0]["value"], labels[0]["votes"], labels[0]["spread"]) == (3.0, 3, pytest.approx(2.160247))
    assert labels[0]["prompt_tokens"] == 300
    scores = iter([9] * 12)
    figures, labels = run(posts, changed(found, votes=5))
    assert figures["asked"] == 12  # two more votes each, three are there
    assert labels[0]["value"] == pytest.approx(27 / 5)
    with pytest.raises(ValueError, match="temperature above 0"):
        changed(settings(stub.url), votes=3)


def test_majorities() -> None:
    assert CLASSES.of_votes(["neutral", "positive", "neutral"]).value == "neutral"
    assert LABELS.of_votes([["racist"], ["racist", "other"], []]).value == ["racist"]
    assert LABELS.of_votes([["racist"], ["racist", "other"], []]).distribution == pytest.approx([2 / 3, 0, 0, 1 / 3])


def test_typed_answers(posts: Path, stub: StubTeacher) -> None:
    asked: list[dict[str, Any]] = []

    def elsewhere(path: str, request: dict[str, Any]) -> tuple[int, Any]:
        assert path == "/v1/systemone"
        asked.append(request)
        shares = {str(i): 0.5 if i in (6, 8) else 0.0 for i in range(11)}
        answers = {"score": {"type": "score", "score": 7.0, "probabilities": shares}}
        return 200, {"model": "m", "answers": answers, "usage": {"input_tokens": 50, "output_tokens": 0}}

    stub.elsewhere = elsewhere
    figures, labels = run(posts, changed(settings(stub.url), distribution="typed"))
    assert figures["how"] == {"typed": 6}
    assert (labels[0]["value"], labels[0]["spread"]) == (7.0, 1.0)
    assert asked[0]["questions"]["score"]["criteria"][4] == "4 (moderate)"
    assert figures["tokens"]["prompt"] == 300


def test_typed_answers_of_each_target() -> None:
    classes = {"label": {"probabilities": {"positive": 0.1, "neutral": 0.2, "negative": 0.7}}}
    assert from_typed(json.dumps(classes), CLASSES).value == "negative"
    labels = {name: {"noul": p} for name, p in zip(LABELS.names, (0.9, 0.4, 0.5, 0.0), strict=True)}
    assert from_typed(json.dumps(labels), LABELS).value == ["racist", "religion"]
    for raw in ("{}", "no", '{"label": {"probabilities": {"positive": 1}}}', '{"racist": {"noul": 2}}'):
        with pytest.raises(RowError, match="invalid_answer"):
            from_typed(raw, CLASSES if "label" in raw else LABELS)


def test_a_distribution_keeps_its_mean_on_any_range() -> None:
    target = ScoreTarget(kind="score", min=-1, max=1)
    found = target.of_votes([-0.33, 0.87])
    assert found.distribution is not None
    assert len(found.distribution) == 3
    mean = sum(level * share for level, share in zip((-1, 0, 1), found.distribution, strict=True))
    assert mean == pytest.approx(found.value) == pytest.approx(0.27)


# ------------------------------------------------------------------------------------------- faults


def test_a_server_that_asks_for_hours_ends_the_run(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (429, {"error": {"message": "daily limit"}}, {"Retry-After": "7200"})
    with pytest.raises(AccountRefused, match=r"asks to wait 2\.0 hours"):
        run(posts, settings(stub.url, retries=3))


def test_claims_in_hand_are_renewed_and_lost_ones_given_up(
    posts: Path, stub: StubTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat renews what is in hand; what another process took meanwhile is not asked, but waited for."""
    renewed: list[list[str]] = []
    stolen: list[str] = []

    def renew(self: AnswerStore, keys: Any, lease_s: float = 1.0) -> set[str]:
        renewed.append(list(keys))
        if not stolen and len(renewed[-1]) == 3:
            stolen.append(renewed[-1][-1])
            return {stolen[0]}
        return set()

    monkeypatch.setattr(AnswerStore, "renew", renew)
    monkeypatch.setattr(asking, "LEASE_S", 0.04)
    stub.delay_s = 0.1
    figures, _ = run(posts, settings(stub.url, concurrency=3, requests_per_minute=300))
    assert figures["answered"] == 6
    assert stolen
    assert len(renewed) > 3


def test_the_deadline_of_a_post_bounds_its_tries(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (503, {"error": {"message": "busy"}}, {"Retry-After": "0.3"})
    start = time.monotonic()
    with pytest.raises(Exception, match="http_503"):
        run(posts, settings(stub.url, retries=50, deadline_s=1.0, concurrency=6))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], wanted: float | None) -> None:
    assert retry_after(headers) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("1.5", 1.5), ("20ms", 0.02), ("6m0s", 360.0), ("1d2h", 93600.0), ("soon", None), ("1x", None)]
)
def test_durations_of_rate_limit_headers(text: str, wanted: float | None) -> None:
    assert seconds(text) == wanted


def test_backoff_is_jittered_and_never_below_what_was_asked() -> None:
    assert [backoff(i, None, lambda: 1.0) for i in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff(20, None, lambda: 1.0) == 60.0
    assert backoff(3, None, lambda: 0.0) == pytest.approx(0.4)
    assert 5.0 <= backoff(0, 5.0) <= 5.6


# --------------------------------------------------------------------------------------------- pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def turns(pace: Pace, clock: Clock, count: int, fault: PassingFault | None = None, took: float = 0.1) -> None:
    """Some requests one after the other, each with the same outcome."""
    for _ in range(count):
        pace.active += 1
        clock.now += took
        pace.leave(fault)


def test_concurrency_rises_by_one_a_round_and_falls_by_a_share() -> None:
    clock = Clock()
    pace = Pace(most=16, clock=clock)
    assert pace.limit == 4
    turns(pace, clock, 200)
    assert pace.limit == 16
    turns(pace, clock, 20, PassingFault("http_503"))
    assert pace.limit < 16 * 0.71
    turns(pace, clock, 400, PassingFault("timeout"))
    assert pace.limit == 1


def test_single_faults_are_noise() -> None:
    clock = Clock()
    pace = Pace(most=16, clock=clock)
    for _ in range(60):
        turns(pace, clock, 9)
        turns(pace, clock, 1, PassingFault("http_429", wait_s=0.1))
    assert pace.limit == 16
    assert pace.rate is None


def test_a_share_of_refusals_sets_a_rate_which_grows_again() -> None:
    clock = Clock()
    pace = Pace(most=16, clock=clock)
    for _ in range(10):
        turns(pace, clock, 6, took=0.1)
        turns(pace, clock, 4, PassingFault("http_429"), took=0.0)
    assert pace.rate == pytest.approx(10, rel=0.5)
    before = pace.rate
    turns(pace, clock, 100, took=0.1)
    assert pace.rate is not None
    assert pace.rate > before
    turns(pace, clock, 1000, took=0.1)
    assert pace.rate is None


def test_headers_tell_the_rate_once_an_allowance_runs_out() -> None:
    clock = Clock()
    pace = Pace(most=4, clock=clock)
    told = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "50",
        "x-ratelimit-reset-requests": "10s",
    }
    pace.active = 2
    pace.leave(None, told)
    assert pace._turn(1) == 0
    pace.leave(None, told | {"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "58s"})
    waits = [pace._turn(1) for _ in range(3)]
    assert waits == pytest.approx([0.0, 1.0, 2.0])


def test_set_limits_hold() -> None:
    clock = Clock()
    pace = Pace(most=4, per_minute=120, tokens_per_minute=600, clock=clock)
    assert [pace._turn(1) for _ in range(3)] == pytest.approx([0.0, 0.5, 1.0])
    pace = Pace(most=4, tokens_per_minute=600, clock=clock)
    assert [pace._turn(20) for _ in range(3)] == pytest.approx([0.0, 2.0, 4.0])


def test_places_are_handed_on() -> None:
    async def main() -> int:
        pace, inside, most = Pace(most=3), 0, 0

        async def one() -> None:
            nonlocal inside, most
            await pace.enter(1)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            inside -= 1
            pace.leave(None)

        tasks = [asyncio.create_task(one()) for _ in range(40)]
        await asyncio.sleep(0.001)
        for task in tasks[10:20]:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert pace.active == 0
        return most

    assert asyncio.run(main()) == 3
