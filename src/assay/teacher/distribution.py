"""A label as a distribution: from log-probabilities, from typed answers, from several votes.

A distribution has one number a class, one a label (the probability that it holds), or for a score one
a level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.errors import RowError
from assay.targets import Label, Target
from assay.targets.tokens import Token
from assay.teacher.rubric import Rubric

SHORT_RANGE = 3  # of scores: on a shorter one, decimals are to be expected
COVERED = 0.5  # less mass than this on readable answers: the distribution is not used


# ------------------------------------------------------------------------------ log-probabilities


def evidence(
    raw: str, content: Sequence[Mapping[str, Any]], target: Target, span: tuple[int, int] | None = None
) -> str | None:
    """The tokens from the answer's value on, as JSON to keep; None where they are not those of the answer.

    `span`: where the answer stands in `raw`, when other answers stand beside it.
    """
    try:
        return _evidence(raw, content, target, *(span or (0, len(raw))))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None  # the answer itself is none the worse


def _evidence(raw: str, content: Sequence[Mapping[str, Any]], target: Target, begin: int, end: int) -> str | None:
    texts = [str(token["token"]) for token in content]
    colon = raw.index(":", raw.rindex(f'"{target.answer_key}"', begin, end)) + 1
    offset = "".join(texts).find(raw)
    if offset < 0:
        return None
    kept: list[Any] = []
    at = 0
    for token, text in zip(content, texts, strict=True):
        before, at = at, at + len(text)
        if before >= offset + end:
            break
        if before < offset + colon < at:  # the value begins inside of this token: only its own end counts
            own = text[offset + colon - before :]
            kept.append([own, {own: _probability(token)}])
        elif before >= offset + colon and text:
            others = {str(one["token"]): _probability(one) for one in token["top_logprobs"]}
            others.setdefault(text, _probability(token))
            kept.append([text, others])
    return json.dumps(kept) if kept else None


def _probability(token: Mapping[str, Any]) -> float:
    return round(math.exp(float(token["logprob"])), 5)


def from_evidence(kept: str, raw: str, target: Target) -> Label | None:
    """The label by the probabilities of the tokens; None where these say too little.

    See `targets.tokens` for how they are read.
    """
    tokens = [Token(str(text), {str(k): float(v) for k, v in others.items()}) for text, others in json.loads(kept)]
    return target.of_tokens(tokens, json.loads(raw))


# ------------------------------------------------------------------------------------ typed, votes


def from_typed(raw: str, target: Target) -> Label:
    """The label of a System One answer; RowError `invalid_answer` when it is not one of this target."""
    try:
        return target.of_typed(json.loads(raw))
    except (KeyError, TypeError, ValueError) as error:
        raise RowError("invalid_answer", f"not a typed answer: {type(error).__name__} {error}"[:160]) from error


def label_of(raw: str, how: str | None, kept: str | None, rubric: Rubric) -> Label:
    """The label of one stored answer; RowError `invalid_answer` when it is none."""
    if how == "typed":
        return from_typed(raw, rubric.target)
    value = rubric.parse(raw)
    found = from_evidence(kept, raw, rubric.target) if kept else None
    return found or Label(value, "plain")
