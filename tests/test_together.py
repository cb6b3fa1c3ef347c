"""Several questions in one call, and brands in the answer: one request, each answer in its own place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from assay.config import Annotate, ClassesTarget, LabelsTarget, ScoreTarget, load
from assay.errors import RowError, RubricError, SettingsError, TeacherError
from assay.remote.answers import AnswerStore
from assay.teacher.annotate import annotate
from assay.teacher.brands import brand_figures, in_dictionary
from assay.teacher.plan import plan
from assay.teacher.questions import Brief
from assay.teacher.reading import Reply
from assay.teacher.rubric import Rubric
from assay.teacher.structure import Part
from assay.teacher.together import Together
from assay.text import BrandIndex
from tests.conftest import ROOT, StubTeacher, completion, picture, schema_of, valid_answer
from tests.test_teacher import CLASSES, LABELS, SCORE, settings, write_sample

TARGETS = {"gender_bias": SCORE, "sentiment": CLASSES, "hateful": LABELS}
TEXTS = {
    "gender_bias": '{"reason": "a \\"sentiment\\": {", "score": 7}',
    "sentiment": '{"label": "neutral", "reason": "}"}',
    "hateful": '{"reason": "x", "labels": ["sexist", "racist"]}',
}


def rubric(name: str, **more: Any) -> Rubric:
    return Rubric.load(ROOT / "rubrics" / f"{name}.md", TARGETS[name], **more)


def together(*names: str) -> Together:
    return Together(tuple(Part(name, f"key of {name}", f"digest of {name}", rubric(name)) for name in names))


def joint(**texts: str) -> str:
    return "{" + ", ".join(f'"{name}" : {text}' for name, text in texts.items()) + "}"


def reply(raw: str, **more: Any) -> Reply:
    return Reply(raw, "m", 100, 11, 0.3, **more)


def cut(_: Reply) -> RowError:
    return RowError("cut_answer", "the answer stops")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    posts = [(f"p{i}", f"caption number {i}", [picture((i, 0, 0))] if i % 2 else []) for i in range(10)]
    return write_sample(tmp_path / "sample", [*posts, ("empty", "", []), ("copy", "caption number 0", [])])


def ask(
    sample: Path, task: str, url: str = "demo", company: tuple[str, ...] = (), **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = settings(url, **more)
    out = sample.parent / f"{task}.parquet"
    figures = annotate(
        sample,
        out,
        settings=found,
        target=TARGETS[task],
        rubric=ROOT / "rubrics" / f"{task}.md",
        task=task,
        company={name: Brief(rubric(name), found) for name in company},
    )
    return figures, pq.read_table(out).to_pylist()


def answers(request: dict[str, Any], **spoilt: Any) -> dict[str, Any]:
    """An answer to a question, or to several; `spoilt`: what stands in place of one of these."""
    properties = schema_of(request)["properties"]
    if "reason" in properties:
        return valid_answer(request)
    found = {}
    for name, inner in properties.items():
        one = {"response_format": {"json_schema": {"schema": inner}}, "messages": [request["messages"], name]}
        if "labels" in inner["properties"]:
            found[name] = {"reason": "stub", "labels": ["sexist"]}
        else:
            found[name] = json.loads(valid_answer(one)["choices"][0]["message"]["content"])
    return completion(json.dumps(found | spoilt), cost=0.003)


# ------------------------------------------------------------------------------- the joint answer


def test_the_parts_of_an_answer_are_read_each_by_its_own_rubric() -> None:
    several = together(*TEXTS)
    several.check(joint(**TEXTS))
    found = several.split(reply(joint(**TEXTS)), cut)
    assert {name: one.raw for name, one in found.items()} == TEXTS
    assert [one.problem for one in found.values()] == [None] * 3
    assert sum(one.prompt_tokens or 0 for one in found.values()) == 100
    assert [one.completion_tokens for one in found.values()] == [4, 4, 3]
    assert sum(one.cost_usd or 0 for one in found.values()) == pytest.approx(0.3)


def test_one_unusable_part_leaves_the_others_alone() -> None:
    several = together(*TEXTS)
    for raw, code in [
        (joint(**{**TEXTS, "sentiment": '{"label": "happy", "reason": ""}'}), "none of positive"),
        (joint(gender_bias=TEXTS["gender_bias"], hateful=TEXTS["hateful"]), "no answer to 'sentiment'"),
    ]:
        several.check(raw)  # the own part, the first, is fit
        found = several.split(reply(raw), cut)
        assert found["gender_bias"].problem is None
        assert found["hateful"].problem is None
        assert code in str(found["sentiment"].problem)
        assert [one.prompt_tokens for one in found.values()] == [50, 0, 50], "what was paid is shared by what is kept"
        assert [one.cost_usd for one in found.values()] == pytest.approx([0.15, 0, 0.15])
    with pytest.raises(RowError, match="outside 0 to 10"):
        several.check(joint(**{**TEXTS, "gender_bias": '{"reason": "", "score": 11}'}))


def test_a_second_answer_takes_over_what_was_good_in_the_first() -> None:
    several = together(*TEXTS)
    first = reply(joint(**{**TEXTS, "gender_bias": '{"reason": "", "score": 11}'}))
    second = reply(joint(gender_bias=TEXTS["gender_bias"]))
    found = several.split(several.merged(second, first), cut)
    assert {name: one.raw for name, one in found.items()} == TEXTS
    assert several.merged(reply("prose"), first).raw == "prose", "what is wrong is said of what came last"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "seven",
        "[]",
        f"[{joint(**TEXTS)}]",
        "{}",
        '{"gender_bias": {"reason"',
        joint(**TEXTS, other="1"),
        "[" * 9999,
        joint(gender_bias=TEXTS["gender_bias"]) + joint(sentiment=TEXTS["sentiment"]),
        f'{{"gender_bias": {TEXTS["gender_bias"]}, "gender_bias": {TEXTS["gender_bias"]}}}',
    ],
)
def test_what_is_no_joint_answer_is_of_no_use_to_any_part(raw: str) -> None:
    several = together(*TEXTS)
    with pytest.raises(RowError, match="invalid_answer"):
        several.check(raw)
    assert all(one.problem for one in several.split(reply(raw), cut).values())


def test_an_answer_that_broke_off_says_so() -> None:
    found = together(*TEXTS).split(reply('{"gender_bias": {"reason": "lo', cut=True), cut)
    assert {one.problem.code for one in found.values() if one.problem} == {"cut_answer"}


def test_log_probabilities_of_each_part() -> None:
    def token(text: str, p: float = 1.0, **others: float) -> dict[str, Any]:
        top = [{"token": t, "logprob": math.log(q)} for t, q in ({text: p} | others).items()]
        return {"token": text, "logprob": math.log(p), "top_logprobs": top}

    content = [
        *map(token, ['{"gender_bias": ', '{"reason": "a", ', '"score":', " "]),
        token("7", 0.6, **{"9": 0.4}),
        *map(token, ["}", ', "sentiment": ', '{"reason": "score", ', '"label": "']),
        token("neutral", 0.75, positive=0.25),
        *map(token, ['"}', "}"]),
    ]
    raw = "".join(one["token"] for one in content)
    several = together("gender_bias", "sentiment")
    found = several.split(reply(raw, evidence=several.evidence(raw, content)), cut)
    from assay.teacher.distribution import label_of

    labels = {
        name: label_of(found[name].raw, "plain", found[name].evidence, rubric(name))
        for name in ("gender_bias", "sentiment")
    }
    assert labels["gender_bias"].value == pytest.approx(7.8)
    assert labels["sentiment"].distribution == pytest.approx([0.25, 0.75, 0.0])


# -------------------------------------------------------------------------------- through the store


def test_each_post_is_sent_once_and_each_task_finds_its_answers(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request))
    figures, rows = ask(sample, "gender_bias", stub.url, ("sentiment", "hateful"))
    assert len(stub.requests) == 10  # of twelve posts one has nothing and one is a copy
    assert figures["asked"] == 10
    assert figures["cost_usd"] == pytest.approx(0.01)
    assert figures["asked_with"] == {"gender_bias, sentiment, hateful": 11}
    assert stub.requests[0]["max_tokens"] == 900
    for task, kind in (("sentiment", str), ("hateful", list)):
        figures, rows = ask(sample, task, stub.url)
        assert (figures["asked"], figures["from_store"]) == (0, 10), "each answer stands under its own task's key"
        assert {type(row["value"]) for row in rows if row["status"] == "ok"} == {kind}
        assert figures["asked_with"] == {"gender_bias, sentiment, hateful": 11}
    assert len(stub.requests) == 10


def test_what_is_known_is_not_asked_along(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request))
    _, alone = ask(sample, "sentiment", stub.url)
    stub.requests.clear()
    ask(sample, "gender_bias", stub.url, ("sentiment", "hateful"))
    assert [sorted(schema_of(request)["properties"]) for request in stub.requests] == [["gender_bias", "hateful"]] * 10
    _, again = ask(sample, "sentiment", stub.url)
    assert [row["value"] for row in again] == [row["value"] for row in alone]


def test_a_part_that_cannot_be_used_is_asked_alone_by_its_own_task(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request, sentiment={"reason": "", "label": "happy"}))
    figures, _ = ask(sample, "gender_bias", stub.url, ("sentiment",))
    assert figures["failed"]["total"] == 1  # the post without content
    stub.reply = lambda request: (200, answers(request))
    figures, rows = ask(sample, "sentiment", stub.url)
    assert figures["asked"] == 10
    assert sum(row["status"] == "ok" for row in rows) == 11


def test_a_misfit_of_another_task_costs_the_own_answer_nothing(sample: Path, stub: StubTeacher) -> None:
    """Also with the very first post, which probes for the form: no repair, no other form."""
    stub.reply = lambda request: (200, answers(request, sentiment={"reason": "", "label": "happy"}))
    figures, _ = ask(sample, "gender_bias", stub.url, ("sentiment", "hateful"))
    assert (figures["answered"], len(stub.requests)) == (11, 10)
    assert figures["cost_usd"] == pytest.approx(10 * 0.003 / 2 * 11 / 10, rel=0.2)
    assert ask(sample, "hateful", stub.url)[0]["asked"] == 0


def test_a_repair_keeps_the_parts_that_were_good(sample: Path, stub: StubTeacher) -> None:
    def reply_of(request: dict[str, Any]) -> tuple[int, Any]:
        if len(request["messages"]) > 2:
            own = {"gender_bias": {"reason": "", "score": 1.5}}
            return 200, completion(json.dumps(own))
        if len(stub.requests) == 1:  # by which the form is found
            return 200, answers(request, gender_bias={"reason": "", "score": 1.5})
        return 200, answers(request, gender_bias={"reason": "", "score": 77})

    stub.reply = reply_of
    _, rows = ask(sample, "gender_bias", stub.url, ("sentiment",))
    assert {row["value"] for row in rows if row["status"] == "ok"} == {1.5}
    assert ask(sample, "sentiment", stub.url)[0]["asked"] == 0, "its answers were in the first reply"


def test_the_same_question_of_two_tasks_is_asked_once(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request))
    found = settings(stub.url)
    twin = Brief(rubric("gender_bias"), found)
    annotate(
        sample,
        sample.parent / "a.parquet",
        settings=found,
        target=SCORE,
        rubric=ROOT / "rubrics" / "gender_bias.md",
        task="a",
        company={"b": twin},
    )
    assert all("reason" in schema_of(request)["properties"] for request in stub.requests)


def test_the_plan_counts_calls(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request))
    found = settings(stub.url)
    own = Brief(rubric("gender_bias"), found)
    company = {name: Brief(rubric(name), found) for name in ("sentiment", "hateful")}
    with AnswerStore() as store:
        roughly = plan(sample, own, store, "gender_bias", company=company)["teachers"]["m"]
        alone = plan(sample, own, store, "gender_bias")["teachers"]["m"]
        assert roughly["prompt_tokens"]["expected"] > 1.5 * alone["prompt_tokens"]["expected"]
        assert roughly["completion_tokens"]["expected"] == 3 * alone["completion_tokens"]["expected"]
        plan(sample, own, store, "gender_bias", pilot=4, company=company)
        assert [len(schema_of(request)["properties"]) for request in stub.requests] == [3] * 4
        with store.writing() as db:
            db.execute("UPDATE answers SET model = 'm', cost_usd = 0.001")
        known = plan(sample, own, store, "gender_bias", company=company)["teachers"]["m"]
        assert known["based_on"] == "the last 12 answers"
        assert known["cost_usd"]["expected"] == pytest.approx(6 * 0.003)


def test_another_process_has_one_of_the_questions(sample: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, answers(request))
    other = Brief(rubric("sentiment"), settings(stub.url))
    row = next(iter(pq.read_table(sample / "part-00000.parquet").to_pylist()))
    with AnswerStore() as store:
        held = other.keys(row, str(other.digest(row))).votes[0]
        with store.writing() as db:
            db.execute("INSERT INTO claims VALUES (?, 'elsewhere', 1, '1', 9e12)", (held,))
        ask(sample, "gender_bias", stub.url, ("sentiment",))
        asked = sorted(len(schema_of(request)["properties"]) for request in stub.requests)
        assert asked == [2] * 10  # its own answer's keys, or two tasks
        assert sum("reason" in schema_of(request)["properties"] for request in stub.requests) == 1
        assert not store.known([held])
        assert [one["state"] for one in store.claims()] == ["elsewhere"], "no claim of ours is left"


def test_the_demo_teacher_answers_several(sample: Path) -> None:
    figures, _ = ask(sample, "gender_bias", company=("sentiment", "hateful"))
    assert figures["failed"]["total"] == 1
    assert ask(sample, "sentiment")[0]["asked"] == 0


def test_refused_settings(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())

    def said(**changes: Any) -> str:
        found = json.loads(json.dumps(params))
        sample = found["tasks"]["gender_bias"]["sample"]
        for name in ("sentiment", "hateful"):
            found["tasks"][name]["sample"] = dict(sample)
        for dotted, value in ({"gender_bias.annotate.ask_with": ["sentiment"]} | changes).items():
            *path, last = dotted.split(".")
            here = found["tasks"]
            for key in path:
                here = here[key]
            here[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
        try:
            load(tmp_path / "params.yaml")
        except SettingsError as error:
            return str(error)
        return "fine"

    assert said() == "fine"
    for changes, expected in [
        ({"gender_bias.annotate.ask_with": ["mood"]}, "mood"),
        ({"gender_bias.annotate.ask_with": ["gender_bias"]}, "is asked once"),
        ({"sentiment.sample.seed": 99}, "must have the same sample"),
        ({"sentiment.annotate.teacher.temperature": 1.0}, "must have the same annotate.teacher"),
        ({"gender_bias.annotate.distribution": "typed"}, "excludes distribution: typed"),
        ({"gender_bias.annotate.distribution": "none"}, "must have the same annotate.distribution"),
        ({"gender_bias.annotate.mode": "batch", "gender_bias.annotate.teacher.base_url": "http://x/v1"}, "mode: batch"),
    ]:
        assert expected in said(**changes)


# ------------------------------------------------------------------------------------------ brands

DICTIONARY = BrandIndex.build({"Nike": (["justdoit"], ["nikeshoes"], ["Nike"]), "H&M": ([], ["hm"], ["H&M", "=HM"])})


@pytest.fixture
def brand_rubric(tmp_path: Path) -> Path:
    path = tmp_path / "bias.md"
    body = (ROOT / "rubrics" / "gender_bias.md").read_text()
    path.write_text(f"{body}\n\n## Brands\n\nName every brand that is shown or spoken of.\n")
    return path


def test_a_rubric_without_a_section_on_brands(brand_rubric: Path) -> None:
    assert Rubric.load(brand_rubric, SCORE, brands=True).brands
    with pytest.raises(RubricError, match="no heading for Brands"):
        rubric("gender_bias", brands=True)


def test_brands_stand_in_schema_form_and_parser(brand_rubric: Path) -> None:
    found = Rubric.load(brand_rubric, SCORE, brands=True)
    assert list(found.schema()["properties"]) == ["reason", "brands", "score"], "the value stays the last"
    assert '"brands": [' in found.system()
    raw = json.dumps({"reason": "", "brands": [" Nike ", "nike", "Café\u0000 Ñ", "\ud800"], "score": 3})
    assert found.parse(raw) == 3
    assert found.brands_of(raw) == ["Nike", "Café Ñ"]
    for brands in ("Nike", [1], None, ["x"] * 51, ["y" * 101]):
        with pytest.raises(RowError, match="brands"):
            found.parse(json.dumps({"reason": "", "brands": brands, "score": 3}))
    with pytest.raises(RowError, match="keys must be"):
        found.parse('{"reason": "", "score": 3}')
    with pytest.raises(RowError, match="keys must be"):
        rubric("gender_bias").parse(raw)


@pytest.mark.parametrize(
    ("name", "brands"),
    [
        ("NIKE", ["Nike"]),
        ("Nike Air Max", ["Nike"]),
        ("Just Do It", ["Nike"]),
        ("@nikeshoes", ["Nike"]),
        ("hm", ["H&M"]),
        ("h & m", ["H&M"]),
        ("Nikon", []),
        ("", []),
    ],
)
def test_free_names_and_the_dictionary(name: str, brands: list[str]) -> None:
    assert in_dictionary(name, DICTIONARY) == brands


def test_agreement_with_the_dictionary() -> None:
    posts = [(["Nike"], ["Nike"])] * 6 + [(["Zara", "zara"], []), (["ZARA"], ["H&M"]), ([], []), (["H&M"], [])]
    found = brand_figures(posts, DICTIONARY)
    assert found["pairs"] == {"both": 6, "teacher_only": 1, "dictionary_only": 1}
    assert found["new"] == {"Zara": 3}
    assert found["with_brands"] == {"teacher": 9, "dictionary": 7}
    assert found["agreement"]["equal"]["value"] == 0.8
    assert found["agreement"]["alpha"]["low"] < found["agreement"]["alpha"]["value"]


def test_brands_reach_table_and_figures(sample: Path, stub: StubTeacher, brand_rubric: Path) -> None:
    named = iter([["Nike", "Odd One"], ["nike"]] + [[]] * 20)

    def answer(request: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(json.dumps({"reason": "", "brands": next(named), "score": 2.5}))

    stub.reply = answer
    found = Annotate.model_validate(settings(stub.url, concurrency=1).model_dump(by_alias=True) | {"brands": True})
    out = sample.parent / "labels.parquet"
    figures = annotate(sample, out, settings=found, target=SCORE, rubric=brand_rubric, task="t", dictionary=DICTIONARY)
    rows = {row["post_id"]: row["brands"] for row in pq.read_table(out).to_pylist()}
    assert rows["p0"] == rows["copy"] == ["Nike", "Odd One"]
    assert rows["p3"] == []
    assert rows["empty"] is None
    assert figures["brands"]["new"] == {"Odd One": 2}
    assert figures["brands"]["pairs"] == {"both": 0, "teacher_only": 3, "dictionary_only": 0}


def test_dry_run_shows_the_joint_request(sample: Path, tmp_path: Path) -> None:
    found = settings("http://127.0.0.1:9/v1")
    found = found.model_copy(update={"dry_run": str(tmp_path / "requests")})
    with pytest.raises(TeacherError, match="10 requests written"):
        annotate(
            sample,
            tmp_path / "out.parquet",
            settings=found,
            target=SCORE,
            rubric=ROOT / "rubrics" / "gender_bias.md",
            task="gender_bias",
            company={"sentiment": Brief(rubric("sentiment"), found)},
        )
    one = json.loads(next((tmp_path / "requests").glob("*.json")).read_text())["body"]
    assert len(schema_of(one)["properties"]) == 2
    assert "# Question 'gender_bias'" in one["messages"][0]["content"]
    assert "# Question 'sentiment'" in one["messages"][0]["content"]
    assert one["max_tokens"] == 600


def test_kinds_of_target_cover_the_fixtures() -> None:
    assert {type(target) for target in TARGETS.values()} == {ScoreTarget, ClassesTarget, LabelsTarget}
