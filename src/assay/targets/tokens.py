"""What the probabilities of an answer's tokens say of its value.

The answer's own path is followed token by token; at each step an alternative counts for the one value that it leads
to. Alternatives that could still become several values are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

COVERED = 0.5  # less mass than this on readable answers: the distribution is not used


class Token(NamedTuple):
    """A token of an answer with its likeliest alternatives, itself among them: text -> probability."""

    text: str
    alternatives: dict[str, float]


def trimmed(tokens: Sequence[Token]) -> list[Token]:
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


def name_masses(tokens: Sequence[Token], wanted: Sequence[str]) -> list[float]:
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
