"""What annotation would ask, cost and take, before anything is sent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from assay.config import Teacher
from assay.remote.answers import AnswerStore
from assay.remote.dialect import for_answers, longest
from assay.remote.money import price, tokens_of
from assay.teacher.ask import ask
from assay.teacher.asking import Round
from assay.teacher.questions import Brief, Company, Keys, all_keys, each, questions
from assay.teacher.structure import Way, body, ways

SEEN = 500  # the last answers of a teacher that tokens, cost and rate are taken from
LOOKED_AT = 200  # new posts whose requests are made to estimate tokens where no answer is there


def plan(
    sample: Path,
    brief: Brief,
    store: AnswerStore,
    task: str,
    *,
    pilot: int = 0,
    company: Mapping[str, Brief] | None = None,
) -> dict[str, Any]:
    """How many posts are new, the tokens and the cost to expect with 95 % intervals, and the time.

    Figures rest on earlier answers of the same teacher with this prompt's task, or on a pilot of some
    posts that are asked now (their answers are kept); without either on the requests alone, roughly.
    With `company` (annotate.ask_with) a question is a call with all of its parts.
    """
    keys, digests = all_keys(sample, brief)
    settings = brief.settings
    if pilot:
        missing = set(each(keys.values())) - store.known(each(keys.values()))
        first = set(islice((one.votes[0] for one in keys.values() if one and one.votes[0] in missing), pilot))
        if first:
            others = Company(task, company, store.known) if company else None
            ask(
                questions(sample, brief, keys, digests, first, others),
                len(first),
                settings.teacher,
                brief,
                store,
                Round(),
                task,
            )
    there = store.known(each(keys.values()))
    missing = set(each(keys.values())) - there
    second = {one.second for one in keys.values() if one and one.second} & missing
    found: dict[str, Any] = {
        "task": task,
        "posts": len(keys),
        "without_content": sum(one is None for one in keys.values()),
        "questions": len(there) + len(missing),
        "answered": len(there),
        "new_questions": len(missing),
        "budget_usd": settings.budget_usd,
        "spent_usd": round(store.spent(task), 6),
        "teachers": {},
    }
    for teacher, count in ((settings.teacher, len(missing - second)), (settings.second_teacher, len(second))):
        if teacher and count:
            along = (company or {}) if teacher is settings.teacher else {}
            asked = Missing(sample, brief, keys, digests, missing, Company(task, along, store.known) if along else None)
            found["teachers"][teacher.model] = _of_teacher(teacher, count, asked, store, len(along) + 1)
    return found


class Missing(NamedTuple):
    """The questions that are still to be asked, see questions.questions."""

    sample: Path
    brief: Brief
    keys: dict[str, Keys | None]
    digests: dict[str, str]
    missing: set[str]
    company: Company | None


def _of_teacher(teacher: Teacher, count: int, asked: Missing, store: AnswerStore, parts: int) -> dict[str, Any]:
    brief = asked.brief
    seen = [cost for cost in store.costs(teacher.model, SEEN) if cost.together == parts]
    prompts: list[float] = [cost.prompt_tokens * parts for cost in seen if cost.prompt_tokens is not None]
    answers = [cost.completion_tokens * parts for cost in seen if cost.completion_tokens is not None]
    if prompts and answers:
        based = f"the last {len(prompts)} answers"
    else:
        prompts, answers = _estimated(asked), [longest(for_answers(teacher, parts))]
        based = "the requests alone, with the longest answers; --pilot 20 asks some posts and knows better"
    costs = [cost.usd * parts for cost in seen if cost.usd is not None]
    if teacher.usd_per_million_input is not None:
        share = teacher.batch_price if brief.settings.mode == "batch" else 1.0
        mean_answer = round(statistics.fmean(answers))
        costs = [share * (price(teacher, int(prompt), mean_answer) or 0.0) for prompt in prompts]
    rate = store.rate(teacher.model, SEEN)
    return {
        "new_questions": count,
        "based_on": based,
        "prompt_tokens": interval(prompts, count),
        "completion_tokens": interval(answers, count),
        "cost_usd": interval(costs, count) if costs else None,
        "questions_per_s": round(rate, 3) if rate else None,
        "hours": round(count / rate / 3600, 2) if rate else None,
    }


def interval(values: Sequence[float], count: int) -> dict[str, float]:
    """The expected sum over `count` questions with its 95 % interval, from some questions that are known.

    The spread of the new ones and the uncertainty of the known ones' mean both count.
    """
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else mean / 2
    half = 1.96 * deviation * math.sqrt(count + count**2 / len(values))
    return {
        name: float(f"{value:.6g}")
        for name, value in (
            ("expected", mean * count),
            ("low", max(0.0, mean * count - half)),
            ("high", mean * count + half),
        )
    }


def _estimated(asked: Missing) -> list[float]:
    settings = asked.brief.settings.teacher
    way: Way = ways(settings, asked.brief.settings)[0]
    first = asked.missing & {own.votes[0] for own in asked.keys.values() if own}
    new = questions(asked.sample, asked.brief, asked.keys, asked.digests, first, asked.company)
    return [float(tokens_of(body(question, way, settings))) for _, _, question in islice(new, LOOKED_AT)] or [0.0]


def as_text(found: dict[str, Any]) -> str:
    """The plan as lines for people."""
    lines = [
        f"{found['task']}: {found['posts']} posts, {found['questions']} questions, {found['answered']} answered, "
        f"{found['new_questions']} new"
    ]
    for model, one in found["teachers"].items():
        lines.append(f"  {model}: {one['new_questions']} questions, by {one['based_on']}")
        for name, label in (
            ("prompt_tokens", "tokens in"),
            ("completion_tokens", "tokens out"),
            ("cost_usd", "US dollars"),
        ):
            value = one[name]
            said = "unknown; set usd_per_million_input and usd_per_million_output" if value is None else _range(value)
            lines.append(f"    {label}: {said}")
        hours = "unknown before some answers" if one["hours"] is None else f"{one['hours']:g} hours at the last rate"
        lines.append(f"    time: {hours}")
    if found["budget_usd"] is not None:
        lines.append(f"  budget: {found['spent_usd']:g} of {found['budget_usd']:g} US dollars spent")
    return "\n".join(lines)


def _range(value: dict[str, float]) -> str:
    return f"{value['expected']:,.6g} [{value['low']:,.6g}, {value['high']:,.6g}]"
