"""What servers and clients can send, at random: one of the known outcomes, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.config import LabelsTarget, Teacher
from assay.errors import LastingFault, PassingFault, Refusal, RowError, Told
from assay.serve.inputs import Asked, _from_json, packed
from assay.serve.options import Options
from assay.targets import Target
from assay.teacher.reading import Reader, Reply
from assay.teacher.rubric import Rubric
from assay.teacher.structure import Way, unwrapped
from tests.test_teacher import CLASSES, SCORE

LABELS = LabelsTarget(kind="labels", names=["a", "b"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
WORDS = (
    "choices message content usage error code cost prompt_tokens finish_reason model tool_calls function arguments "
    "logprobs refusal metadata headers text type 0"
)
NAMES = st.sampled_from(WORDS.split())
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=5), max_leaves=25)
OFTEN = settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
HANDLED = (Told, PassingFault, LastingFault, ValueError, AttributeError, TypeError, KeyError, IndexError)


@OFTEN
@given(VALUES, st.sampled_from(["json_schema", "tool", "plain", "typed"]), st.booleans())
def test_any_body_of_a_teacher_is_an_answer_or_a_fault(body: Any, structure: Any, logprobs: bool) -> None:
    reader = Reader(Teacher(base_url="http://x/v1"), SCORE, ["none"])
    try:
        found = reader.read(reader.loads(json.dumps(body).encode()), Way(structure, logprobs))
    except HANDLED:  # the client makes faults of all of these
        return
    assert isinstance(found, Reply)
    assert found.cost_usd is None or found.cost_usd >= 0
    assert found.prompt_tokens is None or found.prompt_tokens >= 0


@OFTEN
@given(
    st.one_of(
        st.text(max_size=60),
        st.dictionaries(
            st.sampled_from(["reason", "score", "label", "labels"]), SCALARS | st.lists(SCALARS, max_size=3)
        ).map(json.dumps),
    ),
    st.sampled_from([SCORE, CLASSES, LABELS]),
)
def test_any_answer_is_a_value_of_the_target_or_invalid(raw: str, target: Target) -> None:
    code = "invalid_answer"
    try:
        value = Rubric("", target).parse(unwrapped(raw))
    except RowError as error:
        code = error.code
        value = None
    assert code == "invalid_answer"
    if value is not None:
        assert isinstance(value, list) if target.kind == "labels" else isinstance(value, float | str)


FIELDS = st.sampled_from(["text", "image", "images", "id", "posts", "model", "partial", "more"])
PARTS = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(FIELDS, v, max_size=4), max_leaves=12)


@OFTEN
@given(st.dictionaries(FIELDS, PARTS, max_size=5) | PARTS, st.booleans())
def test_any_request_is_posts_or_a_refusal(body: Any, partial: bool) -> None:
    options = Options(models=[Path("m")])
    try:
        asked = _from_json(json.dumps(body).encode(), options, partial=partial)
        packed(asked, image_px=64, max_images=4, max_pixels=10_000)
    except Refusal as refusal:
        status = refusal.status
        asked = Asked(None, [], [])
    else:
        status = 400
    assert 400 <= status < 500
    assert len(asked.ids) == len(asked.posts)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5_000, b"", b"nul", b"\x00"])
def test_bytes_that_are_no_json(body: bytes) -> None:
    with pytest.raises(PassingFault, match="not a JSON body"):
        Reader(Teacher(base_url="http://x/v1"), SCORE, []).loads(body)
    with pytest.raises(Refusal, match="not JSON in UTF-8"):
        _from_json(body, Options(models=[Path("m")]), partial=False)
