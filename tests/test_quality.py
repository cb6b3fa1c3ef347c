"""How good labels are: agreement with hand-worked values, drift, and people by way of Label Studio."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.config import LabelsTarget
from assay.errors import CorpusError, DataError
from assay.measure.agreement import agreement, alpha, icc
from assay.measure.ceiling import noise_ceiling
from assay.student.parts import _labels
from assay.targets import Target
from assay.teacher.annotate import annotate
from assay.teacher.label_export import read_export
from assay.teacher.label_studio import config_xml, export
from assay.teacher.quality import read_humans, read_times, write_humans
from assay.teacher.questions import Brief
from assay.teacher.rubric import Rubric
from tests.conftest import StubTeacher, completion, picture, valid_answer
from tests.test_client import changed
from tests.test_teacher import CLASSES, LABELS, RUBRIC, SCORE, run, settings, write_sample


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample", [(f"p{i:02}", f"caption {i}", []) for i in range(40)])


# --------------------------------------------------------------------------------------- agreement


def test_alpha_of_a_published_table() -> None:
    """Krippendorff (2011), example C: four coders, twelve units, missing values."""
    nan = np.nan
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert alpha(table, "nominal") == pytest.approx(0.743, abs=1e-3)
    assert alpha(table, "interval") == pytest.approx(0.849, abs=1e-3)
    assert np.isnan(alpha(np.ones((2, 5)), "nominal"))


def test_icc_of_a_published_table() -> None:
    """Shrout and Fleiss (1979), first two of their four judges, worked by hand from the mean squares."""
    a, b = np.array([9.0, 6, 8, 7, 10, 6]), np.array([2.0, 1, 4, 1, 5, 2])
    rows, columns, rest = 4.6833333, 80.0833333, 0.6833333
    assert icc(a, b) == pytest.approx((rows - rest) / (rows + rest + 2 * (columns - rest) / 6), rel=1e-4)
    assert icc(a, a) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("target", "first", "second", "wanted"),
    [
        (SCORE, [1.0, 5.0, 9.0, 3.0], [1.0, 6.0, 8.0, 5.0], {"mean_absolute_difference": 1.0, "mean_difference": 0.5}),
        (CLASSES, ["positive", "neutral"] * 4, ["positive", "negative"] * 4, {"equal": 0.5}),
        (LABELS, [["racist"], [], ["sexist"]], [["racist"], [], ["racist"]], {"equal": 0.6667}),
    ],
)
def test_agreement_has_intervals(target: Target, first: list[Any], second: list[Any], wanted: dict[str, float]) -> None:
    found = agreement(first, second, target)
    assert found["posts"] == len(first)
    for name, value in wanted.items():
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["low"] <= value <= found[name]["high"]
    assert set(agreement(first, first, target)) == set(found)


def test_the_noise_ceiling_is_the_teacher_judged_by_itself() -> None:
    found = noise_ceiling([1.0, 5.0, 9.0, 3.0], [1.0, 6.0, 8.0, 5.0], np.ones(4), SCORE)
    assert (found["posts"], found["mae"]["value"]) == (4, 1.0)
    assert found["mae"]["low"] <= 1.0 <= found["mae"]["high"]
    assert found["floor_rmse"]["value"] == pytest.approx((6 / 4 / 2) ** 0.5, abs=1e-4)
    classes = noise_ceiling(["positive", "neutral"] * 5, ["positive", "negative"] * 5, np.ones(10), CLASSES)
    assert classes["accuracy"]["value"] == 0.5
    assert "auroc" not in classes
    assert "floor_rmse" not in classes
    labels = noise_ceiling([["racist"], [], ["sexist"]], [["racist"], [], []], np.array([1.0, 1.0, 2.0]), LABELS)
    assert labels["f1_micro"]["value"] == 0.5


@pytest.mark.slow
def test_a_student_can_beat_the_teacher_asked_again() -> None:
    """Noise of sd 1 in each answer: asked again, the teacher is off by 1.41; who knows its mean, by 1, the floor."""
    rng = np.random.default_rng(0)
    truth = rng.normal(5, 0.5, 20_000)
    first, second = (truth + rng.normal(0, 1, 20_000) for _ in range(2))
    found = noise_ceiling(first.tolist(), second.tolist(), np.ones(20_000), SCORE)
    assert found["rmse"]["value"] == pytest.approx(2**0.5, abs=0.03)
    assert found["floor_rmse"]["value"] == pytest.approx(1.0, abs=0.03)
    assert np.sqrt(np.mean((first - truth) ** 2)) < found["rmse"]["value"]


def test_a_share_is_asked_twice_and_across_two_teachers(posts: Path, stub: StubTeacher) -> None:
    second = settings(stub.url).teacher.model_copy(update={"model": "other"})
    found = changed(settings(stub.url), repeat=0.5, second_teacher=second.model_dump())
    figures, labels = run(posts, found)
    twice = [row for row in labels if row["repeat"] is not None]
    assert 10 <= len(twice) <= 30
    assert figures["asked"] == 40 + 2 * len(twice)
    assert sum(request["model"] == "other" for request in stub.requests) == len(twice)
    assert figures["agreement"]["self"]["posts"] == len(twice)
    assert figures["agreement"]["self"]["mean_absolute_difference"]["value"] == 0
    assert figures["agreement"]["second_teacher"]["posts"] == len(twice)
    assert run(posts, found)[0]["asked"] == 0
    more = run(posts, changed(found, repeat=0.9))[0]  # a larger share asks the old ones and some more
    assert 0 < more["asked"] <= 2 * (40 - len(twice))


# ------------------------------------------------------------------------------------------- drift


def test_anchors_are_asked_again_when_the_server_reports_another_version(posts: Path, stub: StubTeacher) -> None:
    def version(name: str, shift: float) -> Any:
        def reply(request: dict[str, Any]) -> tuple[int, Any]:
            number = int(request["messages"][1]["content"][0]["text"].split("caption ")[1].split("\n")[0])
            return 200, completion(json.dumps({"reason": "", "score": number % 5 + shift})) | {"model": name}

        return reply

    stub.reply = version("m-may", 0)
    found = changed(settings(stub.url), anchors=8)
    assert "drift" not in run(posts, found)[0]
    asked = len(stub.requests)
    stub.reply = version("m-june", 2)
    more = write_sample(posts, [(f"p{i:02}", f"caption {i}", []) for i in range(44)])
    figures, _ = run(more, found)
    assert len(stub.requests) - asked == 4 + 8
    (drift,) = figures["drift"]
    assert (drift["from"], drift["to"], drift["posts"]) == ("m-may", "m-june", 8)
    assert drift["mean_difference"]["value"] == 2.0
    again, _ = run(more, found)
    assert again["asked"] == 0
    assert again["drift"] == figures["drift"]


def test_another_model_is_compared_on_the_same_questions_for_nothing(posts: Path, stub: StubTeacher) -> None:
    stub.reply = lambda request: (200, completion('{"reason": "", "score": 3}') | {"model": request["model"]})
    run(posts, settings(stub.url))
    stub.reply = lambda request: (200, completion('{"reason": "", "score": 4}') | {"model": request["model"]})
    other = settings(stub.url)
    other = other.model_copy(update={"teacher": other.teacher.model_copy(update={"model": "m2"})})
    figures, _ = run(posts, other)
    assert figures["asked"] == 40
    (drift,) = figures["drift"]
    assert (drift["from"], drift["to"], drift["posts"]) == ("m", "m2", 40)
    assert drift["mean_difference"]["value"] == 1.0


# ------------------------------------------------------------------------------------------ people


def exported(values: dict[str, dict[int, Any]], p: float | None = None) -> list[dict[str, Any]]:
    """A JSON export of Label Studio: post -> coder -> value; `p`: the chance that posts were drawn with."""
    return [
        {
            "id": number,
            "data": {"post_id": post, "text": "x"} | ({} if p is None else {"people_p": p}),
            "annotations": [
                {
                    "completed_by": {"id": coder, "email": "coder@example.org"} if coder % 2 else coder,
                    "was_cancelled": value is None,
                    "result": []
                    if value is None
                    else [
                        {
                            "from_name": "rating",
                            "to_name": "text",
                            "value": {"choices": value} if isinstance(value, list) else {"number": value},
                        }
                    ],
                }
                for coder, value in coders.items()
            ],
        }
        for number, (post, coders) in enumerate(values.items())
    ]


def test_human_labels_come_back_and_are_compared(posts: Path, stub: StubTeacher, tmp_path: Path) -> None:
    _, labels = run(posts, settings(stub.url))
    said = {row["post_id"]: row["value"] for row in labels}
    values = {post: {1: min(said[post] + 1, 10), 2: max(said[post] - 1, 0)} for post in list(said)[:10]}
    values["p11"] = {3: None}
    values["unknown"] = {1: 4.0}
    (tmp_path / "export.json").write_text(json.dumps(exported(values)))
    found, _, problems = read_export(tmp_path / "export.json", SCORE)
    assert problems == ["task 11, post p11: not_used: skipped by its coder"]
    assert "coder@example.org" not in str(found)
    path = tmp_path / "human" / "t.csv"
    write_humans(path, found)
    assert read_humans(path, SCORE) == found
    figures = annotate(
        posts, tmp_path / "l.parquet", settings=settings(stub.url), target=SCORE, rubric=RUBRIC, humans=path
    )
    human = figures["agreement"]["human"]
    assert (human["posts"], human["coders"]) == (10, 2)
    assert human["mean_absolute_difference"]["value"] < 0.6
    assert human["between_people"]["posts"] == 10
    assert human["between_people"]["alpha"]["value"] < 1


def one(by: Any, *choices: Any, **more: Any) -> dict[str, Any]:
    result = [{"from_name": "rating", "type": "choices", "value": {"choices": list(choices)}}]
    return {"completed_by": by, "was_cancelled": False, "result": result, **more}


def of(post: Any, *annotations: Any, **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"post_id": post, "text": "x"}, "annotations": list(annotations), **more}


GOOD_TASK = of("good", one(9, "neutral"))
FORMS: dict[str, tuple[Any, dict[str, str], str]] = {
    "nobody, twice": (
        [of("a", one(None, "neutral"), one(None, "positive"), one(3, "negative"))],
        {"unknown-1": "neutral", "unknown-2": "positive", "3": "negative"},
        "no coder is told; used as unknown-2",
    ),
    "nobody's key": ([of("a", {"result": one(1, "neutral")["result"]})], {"unknown-1": "neutral"}, "no coder is told"),
    "annotations null": ([of("a") | {"annotations": None}], {}, "post a: not_used: no annotations"),
    "annotation null": ([of("a", None, one(1, "neutral"))], {"1": "neutral"}, "an annotation that is not there"),
    "result null": ([of("a", one(1, "x", result=None))], {}, "the annotation has no result"),
    "result an object": ([of("a", one(1, "x", result={"value": 1}))], {}, "the annotation has no result"),
    "two in a single": ([of("a", one(1, "neutral", "positive"))], {}, "two_labels: 2 answers to a question of one"),
    "none in a single": ([of("a", one(1))], {}, "no_label: 0 answers"),
    "same coder twice": (
        [of("a", one(1, "neutral"), one(1, "positive"))],
        {"1": "positive"},
        "labelled this post before",
    ),
    "text for a list": (
        [of("a", one(1, "x", result=[{"from_name": "rating", "value": {"choices": "neutral"}}]))],
        {"1": "neutral"},
        "",
    ),
    "another name": ([of("a", one(1, "x", result=[{"from_name": "mood", "value": {}}]))], {}, "the result has mood"),
    "predictions alone": ([of("a", predictions=[one(1, "neutral")])], {}, "predictions of a model alone"),
    "completions": ([{"data": {"post_id": "a"}, "completions": [one(1, "neutral")]}], {"1": "neutral"}, ""),
    "minimal": ([{"post_id": "a", "rating": "neutral", "annotator": 4}], {"4": "neutral"}, ""),
    "minimal, nobody": ([{"post_id": "a", "rating": "neutral"}], {"unknown-1": "neutral"}, "no coder is told"),
    "minimal, no rating": ([{"post_id": "a", "annotator": 4}], {}, "post a: not_used: no rating"),
    "data is text": ([{"data": "a", "annotations": [one(1, "neutral")]}], {}, "no data.post_id"),
    "no object": ([7], {}, "task 1: not_used: not an object"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a mark"])
def test_every_annotation_of_an_export_is_used_or_named(name: str, mark: bytes, tmp_path: Path) -> None:
    form, wanted, said = FORMS[name]
    (tmp_path / "e.json").write_bytes(mark + json.dumps([*form, GOOD_TASK]).encode())
    found, _, problems = read_export(tmp_path / "e.json", CLASSES)
    assert found.get("a", {}) == wanted
    assert found["good"] == {"9": "neutral"}
    assert any(said in problem for problem in problems) if said else not problems


def test_a_csv_export_and_coders_known_by_address(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(
        'annotation_id,annotator,id,post_id,rating,text\n1,7,1,a,neutral,"x, y"\n2,me@example.org,1,a,positive,x\n'
        '3,7,2,b,"{""choices"": [""neutral"", ""positive""]}",x\n4,7,3,,neutral,x\n'
    )
    found, _, problems = read_export(path, CLASSES)
    assert found["a"].pop("7") == "neutral"
    ((coder, value),) = found["a"].items()
    assert value == "positive"
    assert coder.startswith("h-")
    assert "example" not in str(found)
    assert [problem.split(": ")[1] for problem in problems] == ["two_labels", "not_used"]
    labels, _, _ = read_export(path, LabelsTarget(kind="labels", names=["neutral", "positive"]))
    assert labels["b"] == {"7": ["neutral", "positive"]}
    path.write_text("id,choice\n1,neutral\n")
    with pytest.raises(CorpusError, match="needs the columns post_id and rating, it has id, choice"):
        read_export(path, CLASSES)


def test_exports_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text("no")
    with pytest.raises(
        CorpusError,
        match="it has no; export the project from Label Studio as JSON",
    ):
        read_export(path, SCORE)
    path.write_text(json.dumps(exported({"p": {1: 99.0}})))
    with pytest.raises(DataError, match="outside 0 to 10"):
        read_export(path, SCORE)
    (tmp_path / "t.csv").write_text("post_id,coder,value\np,1,eleven\n")
    with pytest.raises(DataError, match=r"t\.csv, line 2: .*not a number"):
        read_humans(tmp_path / "t.csv", SCORE)
    (tmp_path / "t.csv").write_text("post,coder,value\np,1,3\n")
    with pytest.raises(CorpusError, match="columns must be post_id, coder, value"):
        read_humans(tmp_path / "t.csv", SCORE)


@pytest.mark.parametrize("target", [SCORE, CLASSES, LABELS], ids=lambda t: t.kind)
def test_labelling_config_has_the_rubric_and_the_question(target: Target) -> None:
    root = ElementTree.fromstring(config_xml(Rubric('a < b & "c"\n## high', target), images=2))
    assert 'a < b & "c"' in str(root.find(".//Header").get("value"))  # type: ignore[union-attr]
    assert [one.get("value") for one in root.iter("Image")] == ["$image1", "$image2"]
    question = root.find(".//*[@name='rating']")
    assert question is not None
    assert question.get("toName") == "text"
    if isinstance(target, LabelsTarget):
        assert question.get("choice") == "multiple"
    if target.kind != "score":
        assert [one.get("value") for one in question] == target.names


def test_posts_for_people_are_masked_and_hide_the_teacher(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "s", [("a", "by @jane", [picture()] * 2), ("b", "plain", []), ("c", "", [])])
    brief = Brief(Rubric.load(RUBRIC, SCORE), settings())
    assert export(sample, brief, tmp_path / "out", count=10) == 2
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert tasks[0]["data"]["text"] == "by [user]"
    assert tasks[0]["data"]["image2"].startswith("data:image/jpeg;base64,")
    assert tasks[1]["data"]["image1"] == ""
    assert set(tasks[1]) == {"data"}
    assert export(sample, brief, tmp_path / "one", count=10, among={"b"}) == 1


def test_people_together() -> None:
    assert SCORE.joint([2.0, 5.0]) == 3.5
    assert CLASSES.joint(["negative", "neutral", "negative"]) == "negative"
    assert CLASSES.joint(["negative", "neutral"]) == "neutral"  # the first of the target
    assert LABELS.joint([["racist"], ["racist", "sexist"], []]) == ["racist"]


def test_seeding_brings_back_every_answer(posts: Path, stub: StubTeacher, tmp_path: Path) -> None:
    """The labels table alone is enough to fill an empty store: votes, second askings and evidence too."""
    import pyarrow.parquet as pq

    stub.reply = lambda request: (200, valid_answer(request))
    found = changed(settings(stub.url, temperature=0.5), votes=3, repeat=0.5)
    _, labels = run(posts, found)
    kept = [one["key"] for row in pq.read_table(posts.parent / "labels.parquet").to_pylist() for one in row["answers"]]
    assert len(kept) == len(set(kept)) == 120 + sum(row["repeat"] is not None for row in labels)


def test_a_student_may_learn_from_what_people_say(posts: Path, stub: StubTeacher, tmp_path: Path) -> None:
    """annotate.people: learn; labels stay what they were, nothing more is asked, and a review is no agreement."""
    _, before = run(posts, settings(stub.url))
    path, out = tmp_path / "human" / "t.csv", tmp_path / "l.parquet"
    write_humans(path, {"p13": {"a": 1.0, "b": 2.0}, "p15": {"a": 9.0}}, times={("p15", "a"): "2026-01-02T03:04:05Z"})
    found = changed(settings(stub.url), people="learn")
    figures = annotate(posts, out, settings=found, target=SCORE, rubric=RUBRIC, humans=path)
    rows = {row["post_id"]: row for row in pq.read_table(out).to_pylist()}
    assert (rows["p13"]["corrected"], rows["p15"]["corrected"], rows["p14"]["corrected"]) == (1.5, 9.0, None)
    assert {row["post_id"]: row["value"] for row in before} == {post: row["value"] for post, row in rows.items()}
    assert figures["asked"] == 0
    assert figures["agreement"]["human"]["posts"] == 1, "that of p15 is a review's, who saw the label"
    known = _labels(out, learning=True)
    assert (known["p13"]["value"], known["p14"]["value"]) == (1.5, rows["p14"]["value"])
    assert _labels(out, learning=False)["p13"]["value"] == rows["p13"]["value"]
    assert read_times(path) == {("p15", "a"): "2026-01-02T03:04:05Z"}
