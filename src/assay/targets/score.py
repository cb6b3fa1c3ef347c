"""A bounded score, such as 0 to 10, with named bands or without."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from assay.errors import RowError
from assay.targets.base import NUMBER, Array, Label, Metric, Reading, Shape, Target, Value, normal, share_of
from assay.targets.tokens import COVERED, Token, trimmed
from assay.targets.weighted import pearson, spearman

BINS = 20  # of the distribution over a corpus
SHORT_RANGE = 3  # of scores: on a shorter one, decimals are to be expected


class ScoreTarget(Target):
    """A bounded score; `bands` are the inner edges between the named bands, low to high."""

    shape: ClassVar[Shape] = NUMBER
    answer_key: ClassVar[str] = "score"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mae", higher=False, is_share=False),
        Metric("rmse", higher=False, is_share=False),
        Metric("r2", is_share=False),
        Metric("pearson", stops=False, is_share=False),
        Metric("spearman", is_share=False),
        *(Metric(f"within_{name}", stops=False) for name in ("0_5", "1", "2")),
    )
    agreement_level: ClassVar[str] = "interval"
    group: ClassVar[str] = "band"

    kind: Literal["score"]
    min: float = 0.0
    """The lowest score."""
    max: float = 10.0
    """The highest score."""
    bands: list[float] = []
    """The inner edges between the bands, low to high."""
    band_names: list[str] = []
    """Names of the bands, low to high, which are headings of the rubric; []: they are called by their ranges, such as
    3-5.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        edges = [self.min, *self.bands, self.max]
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"bands {self.bands} must rise, between {self.min} and {self.max}")
        if self.band_names and len(self.band_names) != len(self.bands) + 1:
            raise ValueError(f"band_names needs {len(self.bands) + 1} names for {len(self.bands)} edges")
        return self

    # ------------------------------------------------------------------------------ the teacher's answer

    def headings(self) -> list[str]:
        return self.band_names

    def answer_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.min, "maximum": self.max}

    def form(self) -> str:
        return f'"score": <a number from {self.min:g} to {self.max:g}>'

    def parse(self, value: Any, raw: str) -> Value:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise RowError("invalid_answer", f"score {value!r} is not a number")
        if not self.min <= value <= self.max:  # before anything that a huge number would break
            raise RowError("invalid_answer", f"score {str(raw)[-40:]!r} is outside {self.min:g} to {self.max:g}")
        return float(value)

    def gold(self, raw: str) -> Value:
        try:
            value = float(raw)
        except ValueError as error:
            raise RowError("label_outside_target", f"{raw!r} is not a number") from error
        if not self.min <= value <= self.max:
            raise RowError("label_outside_target", f"{value:g} is outside {self.min:g} to {self.max:g}")
        return value

    def joint(self, values: Sequence[Value]) -> Value:
        """The mean."""
        return float(sum(map(float, values)) / len(values))  # type: ignore[arg-type]

    def of_votes(self, answers: Sequence[Value]) -> Label:
        """Their mean."""
        counts = Counter(float(value) for value in answers)  # type: ignore[arg-type]
        return self._label({value: n / len(answers) for value, n in counts.items()}, "votes")

    def of_tokens(self, tokens: Sequence[Token], answer: Mapping[str, Any]) -> Label | None:
        masses = self._masses(trimmed(tokens))
        covered = sum(masses.values())
        if covered < COVERED:
            return None
        return self._label({value: mass / covered for value, mass in masses.items()}, "logprobs")

    def typed_questions(self, instructions: str) -> dict[str, Any]:
        criteria = [f"{level:g}" for level in self.levels()]
        if self.band_names:
            bands = [self.band_names[sum(level >= edge for edge in self.bands)] for level in self.levels()]
            criteria = [f"{level} ({band})" for level, band in zip(criteria, bands, strict=True)]
        return {"score": {"type": "score", "instructions": instructions, "criteria": criteria}}

    def of_typed(self, answers: Mapping[str, Any]) -> Label:
        given, levels = answers["score"]["probabilities"], self.levels()
        masses = normal([float(given[str(i)]) for i in range(len(levels))])
        return self._label(dict(zip(levels, masses, strict=True)), "typed")

    def levels(self) -> list[float]:
        """The scores a distribution is over: whole numbers where 2 to 25 steps cover the range, else 21 even ones."""
        span = self.max - self.min
        steps = int(span) if span == int(span) and 2 <= span <= 25 else 20
        return [self.min + span * i / steps for i in range(steps + 1)]

    def _label(self, masses: Mapping[float, float], how: str) -> Label:
        """Expected score, spread and distribution over the levels; `masses` sum to 1.

        What lies between two levels is shared between them, so that the mean is kept.
        """
        mean = sum(value * mass for value, mass in masses.items())
        variance = sum(mass * (value - mean) ** 2 for value, mass in masses.items())
        grid = self.levels()
        step = (self.max - self.min) / (len(grid) - 1)
        shares = [0.0] * len(grid)
        for value, mass in masses.items():
            place = (value - self.min) / step
            low = min(int(place), len(grid) - 2)
            shares[low + 1] += mass * (place - low)
            shares[low] += mass * (1 - (place - low))
        mean = min(max(mean, self.min), self.max)
        return Label(round(mean, 6), how, [round(p, 6) for p in shares], round(math.sqrt(max(variance, 0.0)), 6))

    def _masses(self, tokens: Sequence[Token]) -> dict[float, float]:
        """Score -> probability, over the path of the answer and the branches next to it."""
        masses: dict[float, float] = {}
        if self.min < 0:  # a minus says nothing of the number behind it
            return masses
        prefix, path = "", 1.0
        for token in tokens:
            for text, mass in token.alternatives.items():
                if text == token.text and _is_number_part(text):
                    continue  # the path itself goes on
                value = self._branch(prefix, text)
                if value is not None:
                    masses[value] = masses.get(value, 0.0) + path * mass
            if not _is_number_part(token.text):
                break
            prefix += token.text
            path *= token.alternatives[token.text]
        return masses

    def _branch(self, prefix: str, text: str) -> float | None:
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
        grows = whole and (0 < value * 10 <= self.max or self.max - self.min < SHORT_RANGE)
        return value if self.min <= value <= self.max and not grows else None

    # ---------------------------------------------------------------------------------- values as numbers

    @property
    def arrow(self) -> pa.DataType:
        return pa.float64()

    def numbers(self, values: Sequence[Value]) -> Array:
        return np.array(values, dtype=float)

    def encode(self, values: Sequence[Value | None]) -> Array:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float32)

    def soft(self, values: Sequence[list[float] | None]) -> Array:
        """None: a score is learnt as the mean that its distribution has."""
        return np.full((len(values), 1), np.nan, dtype=np.float32)

    def strata(self, y: Array) -> Array:
        """Bands, or quintiles where there are none."""
        return np.asarray(np.digitize(y, self.bands or np.unique(np.nanquantile(y, [0.2, 0.4, 0.6, 0.8]))))

    def too_few(self, held: Mapping[str, Array]) -> tuple[str | None, list[str]]:
        return None, []

    # ------------------------------------------------------------------------- judging predictions p of y

    def span(self, metric: str) -> float:
        return self.max - self.min if metric in ("mae", "rmse") else 1.0

    def figures(self, y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
        """MAE, RMSE, R2, Pearson, Spearman and the share within 0.5, 1 and 2 of scores y [n] and predictions p [n]."""
        error, total = p - y, w.sum(1)
        squares = w @ error**2
        mean = w @ y / total
        spread = w @ y**2 - total * mean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = np.where(spread > 1e-12, 1 - squares / spread, np.nan)
        distance = np.abs(error)
        return {
            "mae": w @ distance / total,
            "rmse": np.sqrt(squares / total),
            "r2": r2,
            "pearson": pearson(y, p, w),
            "spearman": spearman(y, p, w),
            "within_0_5": w @ (distance <= 0.5 + 1e-9) / total,
            "within_1": w @ (distance <= 1 + 1e-9) / total,
            "within_2": w @ (distance <= 2 + 1e-9) / total,
        }

    def as_predicted(self, y: Array) -> Array:
        return y

    def constant(self, y: Array, weights: Array, n: int) -> Array:
        """The weighted median."""
        order = np.argsort(y, kind="stable")
        along = np.cumsum(weights[order])
        return np.full(n, float(y[order][np.searchsorted(along, along[-1] / 2)]))

    def errors(self, y: Array, p: Array) -> Array:
        """The distance."""
        return np.asarray(np.abs(p - y))

    @property
    def largest_error(self) -> float:
        return self.max - self.min

    def pairs(self, y: Array, p: Array) -> list[tuple[float | str, float]]:
        return [(float(truth), float(said)) for truth, said in zip(y, p, strict=True)]

    def calibration(self, y: Array, p: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
        return p.astype(float), y.astype(float), weights, np.linspace(self.min, self.max, 11)

    def crossed(self, y: Array, p: Array, thresholds: Array | None) -> list[tuple[str, str]]:
        """By bands."""
        names = self.groups
        return [(names[a], names[b]) for a, b in zip(*(np.digitize(x, self.bands) for x in (y, p)), strict=True)]

    def said(self, y: Array, p: Array, thresholds: Array | None) -> tuple[list[str], list[str]]:
        return [f"{one:g}" for one in y], [f"{one:.2f}" for one in p]

    def read(self, row: Any, calibrated: Mapping[str, Any], thresholds: Array | None) -> Reading:
        value, half = float(row), calibrated.get("residual_q90")
        span = None if half is None else (max(self.min, value - half), min(self.max, value + half))
        return Reading(value, interval=span)

    # ------------------------------------------------------------------------------------ findings, words

    @property
    def estimands(self) -> list[str]:
        return ["mean"]

    @property
    def bounds(self) -> tuple[float, float]:
        return self.min, self.max

    def observed(self, values: Sequence[Any], estimand: str) -> Array:
        """The score, or whether it is in a band."""
        return self._in_band(np.array([np.nan if value is None else value for value in values], dtype=float), estimand)

    def expected(self, predictions: pa.Table, estimand: str) -> Array:
        """The score; of a band, the share of the students of cross-fitting that put the post into it."""
        value = np.asarray(predictions["value"].combine_chunks().to_numpy(zero_copy_only=False), dtype=float)
        told = predictions["by_student"].combine_chunks() if "by_student" in predictions.column_names else None
        if estimand == "mean" or told is None or told.null_count == len(told):
            return self._in_band(value, estimand)
        inside = self._in_band(np.asarray(told.flatten(), dtype=float), estimand)
        parents = np.asarray(pc.list_parent_indices(told))
        counts = np.bincount(parents, minlength=len(told))
        sums = np.bincount(parents, inside, minlength=len(told))
        return np.where(counts > 0, sums / np.maximum(counts, 1), self._in_band(value, estimand))

    def _in_band(self, scores: Array, estimand: str) -> Array:
        if estimand == "mean":
            return scores
        inside = np.digitize(scores, self.bands) == self.groups.index(estimand)
        return np.where(np.isfinite(scores), inside.astype(float), np.nan)

    def uncorrected(self, values: Sequence[Any], estimand: str) -> dict[str, float | None]:
        seen = self.observed(values, estimand)
        spread = round(float(seen.std()), 4) if len(seen) else None
        return super().uncorrected(values, estimand) | {"sd": spread}

    def summary(self, values: Sequence[Any]) -> dict[str, Any]:
        if not len(values):
            return {"mean": None, "bands": {}}
        scores = np.array(values, dtype=float)
        where = np.digitize(scores, self.bands)
        quantiles = {q: round(float(np.quantile(scores, q)), 4) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        return {
            "mean": round(float(scores.mean()), 4),
            "sd": round(float(scores.std()), 4),
            "quantiles": {f"q{int(100 * q)}": value for q, value in quantiles.items()},
            "bands": {name: share_of(int((where == i).sum()), len(scores)) for i, name in enumerate(self.groups)},
        }

    def histogram(self, values: Sequence[Any]) -> list[tuple[str, int]]:
        edges = np.linspace(self.min, self.max, BINS + 1)
        return [(f"{low:.4g}", int(n)) for low, n in zip(edges, np.histogram(values, edges)[0], strict=False)]

    @property
    def edges(self) -> list[float]:
        return [(edge - self.min) / (self.max - self.min) * BINS for edge in self.bands]

    @property
    def groups(self) -> list[str]:
        """The bands' names, low to high; their ranges where params give none."""
        edges = itertools.pairwise([self.min, *self.bands, self.max])
        return self.band_names or [f"{low:g} to {high:g}" for low, high in edges]

    def groups_of(self, value: Any) -> list[str]:
        return [] if value is None else [self.groups[int(np.digitize(float(value), self.bands))]]

    def words(self) -> str:
        return f"a score from {self.min:g} to {self.max:g}"


def _is_number_part(text: str) -> bool:
    return bool(text) and all(c in "0123456789." for c in text)
