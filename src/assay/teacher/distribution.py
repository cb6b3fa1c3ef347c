"""A label as a distribution: from log-probabilities, from typed answers, from several votes.

A distribution has one number a class, one a label (the probability that it holds), or for a score one
a level of `structure.levels`; what lies between two levels is shared between them, so that the mean is kept.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget, Target
from assay.errors import RowError
from assay.teacher.rubric import ANSWER, Rubric, Value
from assay.teacher.structure import levels

SHORT_RANGE = 3  # of scores: on a shorter one, decimals are to be expected
COVERED = 0.5  # less mass than this on readable answers: the distribution is not used


class Token(NamedTuple):
    """A token of an answer with its likeliest alternatives, itself among them: text -> probability."""

    text: str
    alternatives: dict[str, float]


@dataclass(frozen=True)
class Label:
    """What an answer says of a post; `how` names where the distribution comes from."""

    value: Value
    how: str  # plain | logprobs | typed | votes
    distribution: list[float] | None = None
    spread: float | None = None  # standard deviation of a score; 1 - share of the chosen class


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
    colon = raw.index(":", raw.rindex(f'"{ANSWER[target.kind]}"', begin, end)) + 1
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

    The answer's own path is followed token by token; at each step an alternative counts for the one
    value that it leads to. Alternatives that could still become several values are left out.
    """
    tokens = [Token(str(text), {str(k): float(v) for k, v in others.items()}) for text, others in json.loads(kept)]
    tokens = _trimmed(tokens)
    if isinstance(target, ScoreTarget):
        masses = _score_masses(tokens, target)
        covered = sum(masses.values())
        if covered < COVERED:
            return None
        return score_label({value: mass / covered for value, mass in masses.items()}, target, "logprobs")
    if isinstance(target, ClassesTarget):
        found = _name_masses(tokens, [f'"{name}"' for name in target.names])
        covered = sum(found)
        if covered < COVERED:
            return None
        return class_label([mass / covered for mass in found], target, "logprobs")
    return _labels_label(tokens, json.loads(raw)["labels"], target)


def _trimmed(tokens: list[Token]) -> list[Token]:
    """Without the blanks between colon and value, of which the first token may have some."""
    kept = list(tokens)
    while kept and not kept[0].text.lstrip(" \n:"):
        kept.pop(0)
    if kept:
        first = kept[0]
        cut = len(first.text) - len(first.text.lstrip(" \n:"))
        if cut:
            others: dict[str, float] = {}
            for text, mass in first.alternatives.items():
                others[text.lstrip(" \n:")] = others.get(text.lstrip(" \n:"), 0.0) + mass
            kept[0] = Token(first.text[cut:], others)
    return kept


def _score_masses(tokens: Sequence[Token], target: ScoreTarget) -> dict[float, float]:
    """Score -> probability, over the path of the answer and the branches next to it."""
    masses: dict[float, float] = {}
    if target.min < 0:  # a minus says nothing of the number behind it
        return masses
    prefix, path = "", 1.0
    for token in tokens:
        for text, mass in token.alternatives.items():
            if text == token.text and _is_number_part(text):
                continue  # the path itself goes on
            value = _branch(prefix, text, target)
            if value is not None:
                masses[value] = masses.get(value, 0.0) + path * mass
        if not _is_number_part(token.text):
            break
        prefix += token.text
        path *= token.alternatives[token.text]
    return masses


def _is_number_part(text: str) -> bool:
    return bool(text) and all(c in "0123456789." for c in text)


def _branch(prefix: str, text: str, target: ScoreTarget) -> float | None:
    """The score that a branch ends in, None where it is none or could become another whole number."""
    number = prefix
    for place, c in enumerate(text):
        if c not in "0123456789.":
            ended = True
            break
        number = prefix + text[: place + 1]
    else:
        ended = False
    try:
        value = float(number)
    except ValueError:
        return None
    whole = not ended and "." not in number  # 1 could become 10, and on a short range 0 could become 0.9
    grows = whole and (0 < value * 10 <= target.max or target.max - target.min < SHORT_RANGE)
    return value if target.min <= value <= target.max and not grows else None


def _name_masses(tokens: Sequence[Token], wanted: Sequence[str]) -> list[float]:
    """Probability of each of several JSON texts, over the path of the answer and the branches next to it."""
    masses = [0.0] * len(wanted)
    prefix, path = "", 1.0
    for token in tokens:
        for text, mass in token.alternatives.items():
            if text == token.text:
                continue
            led = [i for i, name in enumerate(wanted) if _leads(prefix + text, name)]
            if len(led) == 1:
                masses[led[0]] += path * mass
        prefix += token.text
        path *= token.alternatives[token.text]
        led = [i for i, name in enumerate(wanted) if _leads(prefix, name)]
        if len(led) == 1:
            masses[led[0]] += path
            break
        if not led:
            break
    return masses


def _leads(text: str, name: str) -> bool:
    return name.startswith(text) or text.startswith(name)


def _labels_label(tokens: Sequence[Token], chosen: list[str], target: LabelsTarget) -> Label | None:
    """Probability that each label is in the list, taking the places of the list as independent.

    At each place a label has the mass of the tokens that lead to it and to no other.
    """
    masses: dict[tuple[int, str], float] = {}
    text, path = "", 1.0
    for token in tokens:
        for other, mass in token.alternatives.items():
            number, partial = _element(text + other)
            led = _led(partial, target)
            if other != token.text and led and (number, "") not in masses:
                masses[number, led] = masses.get((number, led), 0.0) + path * mass
        path = _carried(path, text, token)
        text += token.text
        number, partial = _element(text)
        led = _led(partial, target)
        if led and (number, "") not in masses:
            masses[number, led] = masses.get((number, led), 0.0) + path
            masses[number, ""] = 1.0  # this place is settled; the rest of the name says nothing more
        if "]" in token.text:
            break
    if not text.startswith("["):
        return None
    shares = []
    for name in target.names:
        missing = math.prod(1 - min(mass, 1.0) for (_, one), mass in masses.items() if one == name)
        shares.append(round(1 - missing, 6))
    return Label([name for name in target.names if name in chosen], "logprobs", shares)


def _carried(path: float, text: str, token: Token) -> float:
    """The probability that leads to the name behind a token: of going on with the list and of its own tokens."""
    p = token.alternatives[token.text]
    if text.count('"') % 2 and '"' in token.text:  # a name ends in this token: what led to it counts no more
        return p if token.text.split('"', 1)[1].strip() else 1.0
    return path * p


def _element(text: str) -> tuple[int, str]:
    """Which element of a JSON list of names a text breaks off in, and what stands there of it."""
    quotes = text.count('"')
    if quotes % 2:  # inside a name
        return quotes // 2, text.rpartition('"')[2]
    return max(quotes // 2 - 1, 0), (text.split('"')[-2] if quotes and text.rstrip().endswith('"') else "")


def _led(partial: str, target: LabelsTarget) -> str | None:
    """The one label that a beginning leads to."""
    led = [name for name in target.names if partial and name.startswith(partial)]
    exact = [name for name in led if name == partial]
    return (exact or led)[0] if len(led) == 1 or exact else None


# ------------------------------------------------------------------------------------ typed, votes


def from_typed(raw: str, target: Target) -> Label:
    """The label of a System One answer; RowError `invalid_answer` when it is not one of this target."""
    try:
        answers = json.loads(raw)
        if isinstance(target, LabelsTarget):
            shares = [float(answers[name]["noul"]) for name in target.names]
            if not all(0 <= p <= 1 for p in shares):
                raise ValueError(f"probabilities {shares}")
            return Label([n for n, p in zip(target.names, shares, strict=True) if p >= 0.5], "typed", shares)
        if isinstance(target, ClassesTarget):
            given = answers["label"]["probabilities"]
            return class_label(_normal([float(given[name]) for name in target.names]), target, "typed")
        given = answers["score"]["probabilities"]
        masses = _normal([float(given[str(i)]) for i in range(len(levels(target)))])
        return score_label(dict(zip(levels(target), masses, strict=True)), target, "typed")
    except (KeyError, TypeError, ValueError) as error:
        raise RowError("invalid_answer", f"not a typed answer: {type(error).__name__} {error}"[:160]) from error


def from_votes(answers: Sequence[Value], target: Target) -> Label:
    """Mean or majority of several answers; ties go to the name that comes first in the target."""
    if isinstance(target, ScoreTarget):
        values = [float(value) for value in answers]  # type: ignore[arg-type]
        counts = {value: n / len(values) for value, n in Counter(values).items()}
        return score_label(counts, target, "votes")
    if isinstance(target, LabelsTarget):
        shares = [sum(name in value for value in answers) / len(answers) for name in target.names]  # type: ignore[operator]
        held = [name for name, p in zip(target.names, shares, strict=True) if p >= 0.5]
        return Label(held, "votes", shares, round(statistics.fmean(min(p, 1 - p) for p in shares), 6))
    return class_label(
        [sum(value == name for value in answers) / len(answers) for name in target.names], target, "votes"
    )


def score_label(masses: Mapping[float, float], target: ScoreTarget, how: str) -> Label:
    """Expected score, spread and distribution over the levels; `masses` sum to 1."""
    mean = sum(value * mass for value, mass in masses.items())
    variance = sum(mass * (value - mean) ** 2 for value, mass in masses.items())
    grid = levels(target)
    step = (target.max - target.min) / (len(grid) - 1)
    shares = [0.0] * len(grid)
    for value, mass in masses.items():
        place = (value - target.min) / step
        low = min(int(place), len(grid) - 2)
        shares[low + 1] += mass * (place - low)
        shares[low] += mass * (1 - (place - low))
    mean = min(max(mean, target.min), target.max)
    return Label(round(mean, 6), how, [round(p, 6) for p in shares], round(math.sqrt(max(variance, 0.0)), 6))


def class_label(shares: Sequence[float], target: ClassesTarget, how: str) -> Label:
    """The likeliest class; `shares` sum to 1."""
    best = max(range(len(shares)), key=lambda i: shares[i])
    return Label(target.names[best], how, [round(p, 6) for p in shares], round(1 - shares[best], 6))


def _normal(shares: Sequence[float]) -> list[float]:
    total = sum(shares)
    if not all(p >= 0 for p in shares) or not total > 0:
        raise ValueError(f"probabilities {list(shares)}")
    return [p / total for p in shares]


def label_of(raw: str, how: str | None, kept: str | None, rubric: Rubric) -> Label:
    """The label of one stored answer; RowError `invalid_answer` when it is none."""
    if how == "typed":
        return from_typed(raw, rubric.target)
    value = rubric.parse(raw)
    found = from_evidence(kept, raw, rubric.target) if kept else None
    return found or Label(value, "plain")
