"""The contract of a kind of target: all that assay must know of what a task asks for, but for how a student learns it.

A kind is one file here, and one of the same name in `student/outputs`. Nothing else asks which kind a target is; what
differs in drawing or modelling asks for the shape of a value (`NUMBER`, `NAME` or `NAMES`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from assay.section import Section
from assay.targets.tokens import Token

Array = np.ndarray
Value = float | str | list[str]
Shape = Literal["number", "name", "names"]
GAP = -2  # the stratum of what has no label; -1 is that of labels of which none holds
NUMBER: Shape = "number"
NAME: Shape = "name"
NAMES: Shape = "names"


class Metric(NamedTuple):
    """A figure that predictions are judged by."""

    name: str
    higher: bool = True  # whether more is better
    stops: bool = True  # whether training may stop by it (train.metric)
    ranking: bool = False  # whether it needs probabilities that rank posts, which a plain answer has not
    is_share: bool = True  # whether it lies from 0 to 1


@dataclass(frozen=True)
class Label:
    """What an answer says of a post; `how` names where the distribution comes from."""

    value: Value
    how: str  # plain | logprobs | typed | votes
    distribution: list[float] | None = None
    spread: float | None = None  # standard deviation of a score; 1 - share of the chosen class


class Reading(NamedTuple):
    """A student's raw prediction as a user sees it; see scoring.predict.Prediction."""

    value: Value
    probabilities: dict[str, float] | None = None
    interval: tuple[float, float] | None = None
    prediction_set: list[str] | None = None


class Target(Section, ABC):
    """What a task asks for. Encoded values y are float [n] (nan: none), int [n] (-1: none) or float [n, names]."""

    kind: str
    shape: ClassVar[Shape]
    answer_key: ClassVar[str]  # of the teacher's answer
    metrics: ClassVar[tuple[Metric, ...]]  # the first is the headline, by which two predictors are compared
    agreement_level: ClassVar[str]  # Krippendorff's level of measurement
    group: ClassVar[str]  # what posts of like predictions are called: band, class, label

    # ------------------------------------------------------------------------------ the teacher's answer

    @abstractmethod
    def headings(self) -> list[str]:
        """The names that must be headings of the rubric."""

    @abstractmethod
    def answer_schema(self) -> dict[str, Any]:
        """The JSON schema of the answer's value."""

    @abstractmethod
    def form(self) -> str:
        """The value's place in the answer, in words for the teacher: `"label": <…>`."""

    @abstractmethod
    def parse(self, value: Any, raw: str) -> Value:
        """The value of a JSON answer; RowError `invalid_answer` when it is none. `raw`: the answer, to quote."""

    @abstractmethod
    def gold(self, raw: str) -> Value:
        """A label as text as a value; RowError `label_outside_target` when it does not fit."""

    @abstractmethod
    def joint(self, values: Sequence[Value]) -> Value:
        """What several people say together."""

    @abstractmethod
    def of_votes(self, answers: Sequence[Value]) -> Label:
        """What several answers of one teacher say together, with their distribution."""

    @abstractmethod
    def of_tokens(self, tokens: Sequence[Token], answer: Mapping[str, Any]) -> Label | None:
        """The label by the probabilities of the tokens of an answer; None where these say too little."""

    @abstractmethod
    def typed_questions(self, instructions: str) -> dict[str, Any]:
        """The typed questions (System One) that ask for it, by name."""

    @abstractmethod
    def of_typed(self, answers: Mapping[str, Any]) -> Label:
        """The label of typed answers; KeyError, TypeError or ValueError when they are none of this target."""

    # ---------------------------------------------------------------------------------- values as numbers

    @property
    @abstractmethod
    def arrow(self) -> pa.DataType:
        """The Arrow type of a value."""

    @abstractmethod
    def numbers(self, values: Sequence[Value]) -> Array:
        """Values as numbers in double precision: scores [n], numbers of classes [n], or 0 and 1 [n, names]."""

    @abstractmethod
    def encode(self, values: Sequence[Value | None]) -> Array:
        """Values as a student learns them: float32 [n], int64 [n] or float32 [n, names]; nan or -1 for None."""

    @abstractmethod
    def soft(self, values: Sequence[list[float] | None]) -> Array:
        """Distributions that labels carry, float32 [n, outputs]; nan where there is none to learn from."""

    @abstractmethod
    def strata(self, y: Array) -> Array:
        """What samples, splits and folds spread evenly, int [n], of encoded values without gaps."""

    def strata_with_gaps(self, y: Array) -> Array:
        """The same of encoded values some of which are no label: these are a stratum of their own."""
        known = (np.isfinite(y) & (y >= 0 if y.dtype.kind == "i" else True)).reshape(len(y), -1).all(1)
        found = np.full(len(y), GAP)
        found[known] = self.strata(y[known])
        return found

    @abstractmethod
    def too_few(self, held: Mapping[str, Array]) -> tuple[str | None, list[str]]:
        """Why nothing can be learnt from the encoded values of the splits (or None), and what is worth a word."""

    # ------------------------------------------------------------------------- judging predictions p of y

    @property
    def headline(self) -> str:
        """The figure that decides which of two predictors is better."""
        return self.metrics[0].name

    def is_higher_better(self, metric: str) -> bool:
        """The direction of a metric; KeyError for one that the target does not have."""
        return {one.name: one.higher for one in self.metrics}[metric]

    def span(self, metric: str) -> float:
        """How far apart two values of a metric can be; 1 for shares, correlations and the like."""
        return 1.0

    @abstractmethod
    def figures(self, y: Array, p: Array, w: Array, thresholds: Array | None = None) -> dict[str, Array]:
        """All metrics for every row of weights w [B, n], [B] each; p: scores [n] or probabilities [n, names]."""

    def per_name(self, y: Array, p: Array, w: Array, thresholds: Array | None) -> dict[str, dict[str, Any]]:
        """Figures of each class or label: `n`, arrays [B], and plain numbers; {} for scores."""
        return {}

    def confusion(self, y: Array, p: Array, weights: Array) -> dict[str, dict[str, float]]:
        """Of the posts that truly are of a class, the weighted share predicted as each class; {} for others."""
        return {}

    @abstractmethod
    def as_predicted(self, y: Array) -> Array:
        """Encoded values as if they were predictions: scores, or probabilities of 0 and 1."""

    @abstractmethod
    def constant(self, y: Array, weights: Array, n: int) -> Array:
        """The best prediction that looks at nothing, for n posts."""

    @abstractmethod
    def errors(self, y: Array, p: Array) -> Array:
        """Each post's error, [n], from 0 to `largest_error`."""

    @property
    def largest_error(self) -> float:
        """The largest error there can be."""
        return 1.0

    @abstractmethod
    def pairs(self, y: Array, p: Array) -> list[tuple[float | str, float]]:
        """Truth and prediction as the plot of one against the other shows them."""

    @abstractmethod
    def calibration(self, y: Array, p: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
        """What a reliability diagram bins: predicted, observed, weights, and the ten bins' eleven edges."""

    @abstractmethod
    def crossed(self, y: Array, p: Array, thresholds: Array | None) -> list[tuple[str, str]]:
        """Actual and predicted name of each post (or label that holds), for DVC's confusion template."""

    @abstractmethod
    def said(self, y: Array, p: Array, thresholds: Array | None) -> tuple[list[str], list[str]]:
        """Truth and prediction of each post in words."""

    def thresholds(self, y: Array, p: Array, weights: Array) -> Array | None:
        """Where a probability becomes a label, [names], fitted; None where nothing is cut."""
        return None

    @abstractmethod
    def read(self, row: Any, calibrated: Mapping[str, Any], thresholds: Array | None) -> Reading:
        """A student's prediction of one post as a user sees it; `calibrated`: what its output's calibration found."""

    # ------------------------------------------------------------------------------------ findings, words

    @property
    @abstractmethod
    def estimands(self) -> list[str]:
        """What is estimated over a corpus: the mean, or the share of each name."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest figure that an estimand can have."""
        return 0.0, 1.0

    @property
    def are_shares(self) -> bool:
        """Whether estimands are shares of posts."""
        return self.shape != NUMBER

    def column(self, estimand: str) -> str:
        """The estimand's column in brand tables."""
        return f"share_{estimand}" if self.are_shares else estimand

    @abstractmethod
    def observed(self, values: Sequence[Any], estimand: str) -> Array:
        """What each post contributes to an estimand, float [n]; nan for None."""

    def expected(self, predictions: pa.Table, estimand: str) -> Array:
        """What each predicted post contributes to an estimand, float [n]; nan where nothing is predicted.

        A probability where there is one, not whether it is the largest: over posts that no student saw, the mean of
        students' probabilities is what each gives on average, and the largest of a mean is not.
        """
        column = predictions["probabilities"].combine_chunks()
        found = np.full(len(column), np.nan)
        there = np.asarray(column.is_valid())
        rows = np.asarray(column.flatten(), dtype=float).reshape(int(there.sum()), -1)
        if rows.size:
            found[there] = rows[:, self.groups.index(estimand)]
        return found

    def is_share(self, estimand: str) -> bool:
        """Whether an estimand is a share of posts: that of a class, of a label, or of a score's band."""
        return estimand in self.groups

    @property
    def all_estimands(self) -> list[str]:
        """The estimands, and of scores the bands' shares beside the mean."""
        return list(dict.fromkeys([*self.estimands, *(self.groups if len(self.groups) > 1 else [])]))

    def uncorrected(self, values: Sequence[Any], estimand: str) -> dict[str, float | None]:
        """Plain figures of predictions beside the corrected one, by their columns; rounded to four decimals."""
        seen = self.observed(values, estimand)
        return {f"{self.column(estimand)}_uncorrected": round(float(seen.mean()), 4) if len(seen) else None}

    @abstractmethod
    def summary(self, values: Sequence[Any]) -> dict[str, Any]:
        """The distribution of predictions without gaps, as findings.json has it."""

    @abstractmethod
    def histogram(self, values: Sequence[Any]) -> list[tuple[str, int]]:
        """Counts of predictions without gaps: of score bins, or of classes or labels, in order."""

    @property
    def edges(self) -> list[float]:
        """Where a group begins, in bins of the histogram."""
        return []

    @property
    @abstractmethod
    def groups(self) -> list[str]:
        """The bands, classes or labels, in order."""

    @abstractmethod
    def groups_of(self, value: Any) -> list[str]:
        """The groups that a prediction puts a post in; none for None."""

    @abstractmethod
    def words(self) -> str:
        """What is asked for, in words: `a score from 0 to 10`."""


def normal(shares: Sequence[float]) -> list[float]:
    """Shares that sum to 1; ValueError where they are none."""
    total = sum(shares)
    if not all(p >= 0 for p in shares) or not total > 0:
        raise ValueError(f"probabilities {list(shares)}")
    return [p / total for p in shares]


def share_of(count: int, total: int) -> float | None:
    """A share to four decimals, None of nothing."""
    return round(count / total, 4) if total else None


def counted_names(values: Sequence[Any], names: Sequence[str]) -> dict[str, int]:
    """How many values are, or have, each name."""
    counts = Counter(name for value in values for name in ([value] if isinstance(value, str) else value))
    return {name: counts[name] for name in names}
