"""Any number of several named labels, also none."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from assay.errors import RowError
from assay.targets.base import NAMES, Array, Label, Metric, Reading, Shape, Value
from assay.targets.label_metrics import counts, decide, fit_thresholds, label_metrics, per_label
from assay.targets.names import NamedTarget
from assay.targets.tokens import Token, trimmed


class LabelsTarget(NamedTarget):
    """Any number of the named labels, also none."""

    shape: ClassVar[Shape] = NAMES
    answer_key: ClassVar[str] = "labels"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("f1_macro"),
        Metric("f1_micro"),
        Metric("f1_macro_at_half", stops=False),
        Metric("f1_micro_at_half", stops=False),
        Metric("auroc_macro", ranking=True),
        Metric("average_precision", ranking=True),
        Metric("exact_match", stops=False),
    )
    agreement_level: ClassVar[str] = "nominal"
    group: ClassVar[str] = "label"

    kind: Literal["labels"]
    names: Annotated[list[str], Field(min_length=1)]
    """The labels, of which any number holds, also none; each is a heading of the rubric."""

    # ------------------------------------------------------------------------------ the teacher's answer

    def answer_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "enum": list(self.names)}}

    def form(self) -> str:
        return f'"labels": [<all that hold of {json.dumps(list(self.names))}, none: []>]'

    def parse(self, value: Any, raw: str) -> Value:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise RowError("invalid_answer", f"labels {value!r} is not a list of names")
        return self._known(value, "invalid_answer")

    def gold(self, raw: str) -> Value:
        """Labels are a JSON list, or names separated by commas; `[]` means none of them."""
        return self._known(self._split(raw), "label_outside_target")

    def _known(self, names: Sequence[str], code: str) -> list[str]:
        """The labels in the target's order, each once; RowError for one that the target does not have."""
        for name in names:
            if name not in self.names:
                raise RowError(code, f"label {name!r} is none of {', '.join(self.names)}")
        return [name for name in self.names if name in names]

    def _split(self, raw: str) -> list[str]:
        if raw in self.names:
            return [raw]
        if raw.startswith("["):
            try:
                found = json.loads(raw)
            except ValueError as error:
                raise RowError("label_outside_target", f"{raw[:80]!r} is not a list of names") from error
            return [str(one) for one in found]
        return [part.strip() for part in raw.split(",") if part.strip()]

    def joint(self, values: Sequence[Value]) -> Value:
        """What at least half of them say."""
        return [n for n in self.names if 2 * sum(n in value for value in values) >= len(values)]  # type: ignore[operator]

    def of_votes(self, answers: Sequence[Value]) -> Label:
        """What at least half of them say."""
        shares = [sum(name in value for value in answers) / len(answers) for name in self.names]  # type: ignore[operator]
        spread = round(statistics.fmean(min(p, 1 - p) for p in shares), 6)
        return Label(self._held(shares), "votes", shares, spread)

    def _held(self, shares: Sequence[float]) -> list[str]:
        return [name for name, p in zip(self.names, shares, strict=True) if p >= 0.5]

    def of_tokens(self, tokens: Sequence[Token], answer: Mapping[str, Any]) -> Label | None:
        """Probability that each label is in the list, taking the places of the list as independent.

        At each place a label has the mass of the tokens that lead to it and to no other.
        """
        masses: dict[tuple[int, str], float] = {}
        text, path = "", 1.0
        for token in trimmed(tokens):
            for other, mass in token.alternatives.items():
                number, partial = _element(text + other)
                led = self._led(partial)
                if other != token.text and led and (number, "") not in masses:
                    masses[number, led] = masses.get((number, led), 0.0) + path * mass
            path = _carried(path, text, token)
            text += token.text
            number, partial = _element(text)
            led = self._led(partial)
            if led and (number, "") not in masses:
                masses[number, led] = masses.get((number, led), 0.0) + path
                masses[number, ""] = 1.0  # this place is settled; the rest of the name says nothing more
            if "]" in token.text:
                break
        if not text.startswith("["):
            return None
        shares = []
        for name in self.names:
            missing = math.prod(1 - min(mass, 1.0) for (_, one), mass in masses.items() if one == name)
            shares.append(round(1 - missing, 6))
        return Label([name for name in self.names if name in answer["labels"]], "logprobs", shares)

    def _led(self, partial: str) -> str | None:
        """The one label that a beginning leads to."""
        led = [name for name in self.names if partial and name.startswith(partial)]
        exact = [name for name in led if name == partial]
        return (exact or led)[0] if len(led) == 1 or exact else None

    def typed_questions(self, instructions: str) -> dict[str, Any]:
        asked = {name: f"{instructions}\n\nDoes the label {name!r} hold?" for name in self.names}
        return {name: {"type": "noul", "instructions": said} for name, said in asked.items()}

    def of_typed(self, answers: Mapping[str, Any]) -> Label:
        shares = [float(answers[name]["noul"]) for name in self.names]
        if not all(0 <= p <= 1 for p in shares):
            raise ValueError(f"probabilities {shares}")
        return Label(self._held(shares), "typed", shares)

    # ---------------------------------------------------------------------------------- values as numbers

    @property
    def arrow(self) -> pa.DataType:
        return pa.list_(pa.string())

    def numbers(self, values: Sequence[Value]) -> Array:
        return np.array([[float(name in value) for name in self.names] for value in values])  # type: ignore[operator]

    def encode(self, values: Sequence[Value | None]) -> Array:
        rows = [
            [np.nan] * len(self.names) if value is None else [float(name in value) for name in self.names]  # type: ignore[operator]
            for value in values
        ]
        return np.array(rows, dtype=np.float32).reshape(len(values), len(self.names))

    def strata(self, y: Array) -> Array:
        """The rarest label that holds, which of equally rare ones comes first by name; -1 where none does."""
        held = np.nan_to_num(y) > 0.5
        times = held.sum(0)
        rarest = sorted(range(len(self.names)), key=lambda k: (times[k], self.names[k]))
        found = held[:, rarest].argmax(1)
        return np.where(held.any(1), np.array(rarest)[found], -1)

    def too_few(self, held: Mapping[str, Array]) -> tuple[str | None, list[str]]:
        notes: list[str] = []
        for split, values in sorted(held.items()):
            there = np.nan_to_num(values).sum(0)
            none = [name for name, count in zip(self.names, there, strict=True) if not count]
            if none and split == "train" and len(none) == len(self.names):
                return "no post in train has any label; label more posts", notes
            if none:
                notes.append(f"no post of the {split} split has {', '.join(none)}; figures that need one are null")
        return None, notes

    # ------------------------------------------------------------------------- judging predictions p of y

    def figures(self, y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
        return label_metrics(y, p, w, thresholds)

    def per_name(self, y: Array, p: Array, w: Array, thresholds: Array | None) -> dict[str, dict[str, Any]]:
        found, truth = per_label(y, p, w, thresholds), y > 0.5
        half = counts(y, decide(p, None), w)["f1"]
        figures = ("precision", "recall", "f1", "auroc", "average_precision")
        return {
            name: {
                "n": int(truth[:, k].sum()),
                **{figure: found[figure][:, k] for figure in figures},
                "f1_at_half": half[:, k],
                "threshold": 0.5 if thresholds is None else round(float(np.mean(thresholds[..., k])), 2),
            }
            for k, name in enumerate(self.names)
        }

    def as_predicted(self, y: Array) -> Array:
        return y

    def constant(self, y: Array, weights: Array, n: int) -> Array:
        """The weighted shares."""
        return np.tile(weights @ y / weights.sum(), (n, 1))

    def errors(self, y: Array, p: Array) -> Array:
        """The mean distance over the labels."""
        return np.asarray(np.abs(p - y).mean(1))

    def pairs(self, y: Array, p: Array) -> list[tuple[float | str, float]]:
        """Each label that holds and its probability."""
        return [(self.names[k], float(p[i, k])) for i, k in np.argwhere(y > 0.5)]

    def calibration(self, y: Array, p: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
        """Each label's probability against whether it holds."""
        return p.ravel(), y.ravel(), np.repeat(weights, len(self.names)), np.linspace(0, 1, 11)

    def crossed(self, y: Array, p: Array, thresholds: Array | None) -> list[tuple[str, str]]:
        """Labels against none."""
        chosen, truth = decide(p, thresholds), y > 0.5
        return [
            (self.names[k] if truth[i, k] else "none", self.names[k] if chosen[i, k] else "none")
            for i, k in np.argwhere(chosen | truth)
        ]

    def said(self, y: Array, p: Array, thresholds: Array | None) -> tuple[list[str], list[str]]:
        told = [
            [", ".join(name for name, held in zip(self.names, row, strict=True) if held) or "none" for row in rows]
            for rows in (y > 0.5, decide(p, thresholds))
        ]
        return told[0], told[1]

    def thresholds(self, y: Array, p: Array, weights: Array) -> Array | None:
        return fit_thresholds(y, p, weights)

    def read(self, row: Any, calibrated: Mapping[str, Any], thresholds: Array | None) -> Reading:
        shares = {name: float(p) for name, p in zip(self.names, row, strict=True)}
        held = [n for k, n in enumerate(self.names) if thresholds is not None and row[k] >= thresholds[k]]
        apart = calibrated.get("set_q90")
        kept = None if not apart else [name for name, p in shares.items() if p >= 1 - apart.get(name, 1.0)]
        return Reading(held, shares, prediction_set=kept)

    # ------------------------------------------------------------------------------------ findings, words

    def groups_of(self, value: Any) -> list[str]:
        return list(value or [])

    def words(self) -> str:
        return f"any of the labels {', '.join(self.names)}"


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
