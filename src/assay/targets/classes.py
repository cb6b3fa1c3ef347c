"""Exactly one of several named classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from assay.errors import RowError
from assay.targets.base import NAME, Array, Label, Metric, Reading, Shape, Value, normal
from assay.targets.names import NamedTarget
from assay.targets.tokens import COVERED, Token, name_masses, trimmed
from assay.targets.weighted import auroc


class ClassesTarget(NamedTarget):
    """Exactly one of the named classes."""

    shape: ClassVar[Shape] = NAME
    answer_key: ClassVar[str] = "label"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("f1_weighted"),
        Metric("accuracy"),
        Metric("f1_macro"),
        Metric("auroc", ranking=True),
    )
    agreement_level: ClassVar[str] = "nominal"
    group: ClassVar[str] = "class"

    kind: Literal["classes"]
    names: Annotated[list[str], Field(min_length=2)]
    """The classes, of which exactly one holds; each is a heading of the rubric."""

    # ------------------------------------------------------------------------------ the teacher's answer

    def answer_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}

    def form(self) -> str:
        return f'"label": <one of {json.dumps(list(self.names))}>'

    def parse(self, value: Any, raw: str) -> Value:
        if value not in self.names:
            raise RowError("invalid_answer", f"label {value!r} is none of {', '.join(self.names)}")
        return str(value)

    def gold(self, raw: str) -> Value:
        if raw not in self.names:
            raise RowError("label_outside_target", f"{raw!r} is none of {', '.join(self.names)}")
        return raw

    def joint(self, values: Sequence[Value]) -> Value:
        """The majority; ties go to the first name."""
        return max(self.names, key=lambda name: (sum(value == name for value in values), -self.names.index(name)))

    def of_votes(self, answers: Sequence[Value]) -> Label:
        """The majority; ties go to the first name."""
        return self._label([sum(value == name for value in answers) / len(answers) for name in self.names], "votes")

    def of_tokens(self, tokens: Sequence[Token], answer: Mapping[str, Any]) -> Label | None:
        found = name_masses(trimmed(tokens), [f'"{name}"' for name in self.names])
        covered = sum(found)
        return None if covered < COVERED else self._label([mass / covered for mass in found], "logprobs")

    def typed_questions(self, instructions: str) -> dict[str, Any]:
        criteria = dict.fromkeys(self.names)
        return {"label": {"type": "choice", "instructions": instructions, "criteria": criteria}}

    def of_typed(self, answers: Mapping[str, Any]) -> Label:
        given = answers["label"]["probabilities"]
        return self._label(normal([float(given[name]) for name in self.names]), "typed")

    def _label(self, shares: Sequence[float], how: str) -> Label:
        """The likeliest; ties go to the first."""
        best = max(range(len(shares)), key=lambda i: shares[i])
        return Label(self.names[best], how, [round(p, 6) for p in shares], round(1 - shares[best], 6))

    # ---------------------------------------------------------------------------------- values as numbers

    @property
    def arrow(self) -> pa.DataType:
        return pa.string()

    def numbers(self, values: Sequence[Value]) -> Array:
        return np.array([self.names.index(str(value)) for value in values], dtype=float)

    def encode(self, values: Sequence[Value | None]) -> Array:
        return np.array([-1 if value is None else self.names.index(str(value)) for value in values], dtype=np.int64)

    def strata(self, y: Array) -> Array:
        """The classes."""
        return np.asarray(y).astype(np.int64)

    def too_few(self, held: Mapping[str, Array]) -> tuple[str | None, list[str]]:
        counts = np.bincount(held["train"].clip(min=-1) + 1, minlength=len(self.names) + 1)[1:]
        few = [f"{name} {count}" for name, count in zip(self.names, counts, strict=True) if count < 2]
        said = (
            f"too few posts in train of the classes {', '.join(few)}; each needs at least 2: label more posts, or take "
            "them out of target.names"
        )
        return (said if few else None), []

    # ------------------------------------------------------------------------- judging predictions p of y

    def chosen(self, p: Array) -> Array:
        """The number of the class that probabilities p [n, names] decide for, int [n]."""
        return np.asarray(p.argmax(1))

    def figures(self, y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
        """Accuracy, macro and weighted F1 and macro AUROC of classes y [n] and probabilities p [n, names]."""
        y = y.astype(int)
        found = self._per_class(y, p, w)
        support, f1 = found["support"], found["f1"]
        there = support > 0
        classes = there.sum(1)
        defined = there & ~np.isnan(found["auroc"])
        with np.errstate(divide="ignore", invalid="ignore"):
            area = np.where(defined, found["auroc"], 0).sum(1) / defined.sum(1)
        return {
            "accuracy": w @ (self.chosen(p) == y) / w.sum(1),
            "f1_macro": np.where(there, f1, 0).sum(1) / classes,
            "f1_weighted": (f1 * support).sum(1) / support.sum(1),
            "auroc": area,
        }

    def per_name(self, y: Array, p: Array, w: Array, thresholds: Array | None) -> dict[str, dict[str, Any]]:
        found, counts = self._per_class(y, p, w), np.bincount(y, minlength=len(self.names))
        figures = ("precision", "recall", "f1", "auroc")
        return {
            name: {"n": int(counts[k]), **{figure: found[figure][:, k] for figure in figures}}
            for k, name in enumerate(self.names)
        }

    def _per_class(self, y: Array, p: Array, w: Array) -> dict[str, Array]:
        """Support, precision, recall, F1 and one-against-rest AUROC of each class, each [B, names]."""
        classes = p.shape[1]
        truth, chosen = np.eye(classes)[y], np.eye(classes)[self.chosen(p)]
        support, predicted, hits = w @ truth, w @ chosen, w @ (truth * chosen)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(predicted > 0, hits / predicted, 0.0)
            recall = np.where(support > 0, hits / support, 0.0)
            f1 = np.where(support + predicted > 0, 2 * hits / (support + predicted), 0.0)
        areas = np.stack([auroc(y == k, p[:, k], w) for k in range(classes)], axis=1)
        return {"support": support, "precision": precision, "recall": recall, "f1": f1, "auroc": areas}

    def confusion(self, y: Array, p: Array, weights: Array) -> dict[str, dict[str, float]]:
        table = np.zeros((len(self.names), len(self.names)))
        np.add.at(table, (y, self.chosen(p)), weights)
        shares = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
        return {
            truth: {said: round(float(share), 4) for said, share in zip(self.names, row, strict=True)}
            for truth, row in zip(self.names, shares, strict=True)
        }

    def as_predicted(self, y: Array) -> Array:
        return np.asarray(np.eye(len(self.names))[y.astype(int)])

    def constant(self, y: Array, weights: Array, n: int) -> Array:
        """The weighted shares: the majority wins."""
        shares = np.bincount(y, weights=weights, minlength=len(self.names))
        return np.tile(shares / shares.sum(), (n, 1))

    def errors(self, y: Array, p: Array) -> Array:
        """1 - the true class' probability."""
        return np.asarray(1 - p[np.arange(len(y)), y])

    def pairs(self, y: Array, p: Array) -> list[tuple[float | str, float]]:
        """The true class and its probability."""
        own = p[np.arange(len(y)), y]
        return [(self.names[truth], float(share)) for truth, share in zip(y, own, strict=True)]

    def calibration(self, y: Array, p: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
        """Confidence in the likeliest class against accuracy."""
        return p.max(1), (p.argmax(1) == y).astype(float), weights, np.linspace(0, 1, 11)

    def crossed(self, y: Array, p: Array, thresholds: Array | None) -> list[tuple[str, str]]:
        return [(self.names[a], self.names[b]) for a, b in zip(y, self.chosen(p), strict=True)]

    def said(self, y: Array, p: Array, thresholds: Array | None) -> tuple[list[str], list[str]]:
        return [self.names[k] for k in y], [self.names[k] for k in self.chosen(p)]

    def read(self, row: Any, calibrated: Mapping[str, Any], thresholds: Array | None) -> Reading:
        shares = {name: float(p) for name, p in zip(self.names, row, strict=True)}
        best, apart = self.names[int(self.chosen(np.asarray(row)[None])[0])], calibrated.get("set_q90")
        kept = None if apart is None else [name for name, p in shares.items() if p >= 1 - apart or name == best]
        return Reading(best, shares, prediction_set=kept)

    # ------------------------------------------------------------------------------------ findings, words

    def groups_of(self, value: Any) -> list[str]:
        return [] if value is None else [value]

    def words(self) -> str:
        return f"one of the classes {', '.join(self.names)}"
