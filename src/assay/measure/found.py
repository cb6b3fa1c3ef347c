"""What is found, by name: the shapes of findings.json, of rows of tables, and of what `assay compare` tells."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Verdict = Literal["better", "worse", "equivalent", "not decided", "not known"]


class Interval(TypedDict):
    """A figure with its 95 % interval; null where it is not to be had."""

    value: float | None
    low: float | None
    high: float | None


class Named(Interval):
    """A figure of a group, a period or a term."""

    name: str


class Decided(Named):
    """A figure that may differ from 0, such as a coefficient of a regression."""

    decided: bool  # the interval does not hold 0


class Difference(Decided):
    """Posts of one value of a column less those of another."""

    labels: NotRequired[list[int]]  # of both sides
    groups: NotRequired[int]  # of the mean of differences within groups: of how many


class Estimate(Named):
    """A corrected figure of a group beside that of its labels alone."""

    posts: int
    labels: int
    labels_alone: Interval
    gain: float | None  # how many times as many labels would say as much without the student


class GroupEstimate(Estimate):
    """The same by a column, of all posts or of one brand."""

    by: str
    brand: str  # empty: all posts
    estimand: str


class Rank(Named):
    """A group in an order: its simultaneous interval, and the ranks that it may have; 1 is the highest."""

    rank_low: int
    rank_high: int


class Lent(Named):
    """An estimate that borrows strength from other groups."""

    posts: int
    labels: int
    own: float  # 0 to 1, how much of what the student misses is told by the group's own labels


class Coded(TypedDict):
    """What people would say of a group beside what the teacher would."""

    name: str
    posts: int
    labels: int
    coded: int
    people: Interval
    teacher: Interval
    bias: Interval  # teacher less people
    habits: float  # the part of the variance that only more people lessen
    df: float
    p: float | None  # of the bias, for all rows together
    decided: bool


class Coders(TypedDict, total=False):
    """People's part of findings.json; `why_not` where nothing can be told."""

    coded: int
    coders: int
    note: str | None
    coder_sd: dict[str, float | None]  # by estimand
    by: dict[str, list[Coded]]
    why_not: str


class Counts(TypedDict):
    """How many brands there are."""

    named: int
    shown: int
    min_posts: int


class Findings(TypedDict):
    """findings.json; the target adds what it tells of all predictions (`Target.summary`)."""

    posts: int
    scored: int
    status: dict[str, int]
    in_train: int
    about: dict[str, str]
    labels: int
    corrected: dict[str, Interval]  # by estimand
    labels_alone: dict[str, Interval]
    gain: dict[str, float | None]
    corrected_bands: NotRequired[dict[str, Interval]]
    labels_alone_bands: NotRequired[dict[str, Interval]]
    brands: Counts
    by: dict[str, dict[str, list[Estimate]]]  # column, estimand
    contrasts: dict[str, dict[str, list[Difference]]]  # column, estimand
    people: NotRequired[Coders]
    order: dict[str, str]
    answers: list[str]
    note: NotRequired[str]  # of what the target adds
    notes: NotRequired[list[str]]


class Cells(TypedDict):
    """One column of brands by groups."""

    groups: list[str]
    brands: dict[str, dict[str, GroupEstimate]]


class Moved(TypedDict):
    """A finding of two runs."""

    estimand: str
    name: str
    a: Interval
    b: Interval
    difference: Interval  # b - a
    p: float | None  # for all rows together
    decided: bool


class MetricVerdict(TypedDict):
    """A metric of two students on the same posts."""

    metric: str
    higher_is_better: bool
    a: Interval
    b: Interval
    difference: Interval  # positive: b is better
    p: float | None
    margin: float
    verdict: Verdict | None


class ChangedSetting(TypedDict):
    """A setting that differs; null where a side has none."""

    key: str
    a: Any
    b: Any


class Changed(TypedDict):
    """What differs between two revisions."""

    settings: list[ChangedSetting]
    rubric: bool
    teacher: bool
    corpus: bool
    code: list[str]  # stages


class Labels(TypedDict):
    """How many posts are labelled on each side."""

    a: int
    b: int
    both: int
    other: int  # posts whose label differs
    agreement: NotRequired[dict[str, Any]]


class Compared(TypedDict):
    """What `assay compare` tells; see scoring.compare."""

    task: str
    a: str
    b: str
    question: str | None
    changed: Changed
    labels: Labels
    notes: list[str]
    metrics: list[MetricVerdict]
    judged: dict[str, int] | None
    scope: str | None
    findings: list[Moved]
    brands: list[Moved]
