"""What an audit finds, by name: the shape of audit.json."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from assay.measure.found import Interval


class Test(Interval):
    """A figure that was tested against chance."""

    p: float | None
    p_adjusted: NotRequired[float]  # for all tests of its family
    floor: NotRequired[float | None]  # what chance reaches in 95 of 100 draws


class Weat(TypedDict):
    """WEAT's effect size of a category against all others."""

    value: float
    p: float
    p_adjusted: NotRequired[float]


class MeanTest(Test):
    """The mean of a difference per activity."""

    activities: int
    effect: NotRequired[float]  # the mean over the standard deviation
    sd: NotRequired[float]
    detectable: NotRequired[float | None]  # see inference.reach
    needed: NotRequired[int | None]
    position: NotRequired[Interval]  # of a lean: where between the two groups the reference stands
    weat: NotRequired[Weat]  # of a category
    too_few: NotRequired[bool]  # activities of a category


class Accuracy(Test):
    """How often a probe tells groups apart, 0 to 1."""

    chance: float


class Nearness(TypedDict):
    """Mean likeness of the reference to a group; see Measures.nearness."""

    same_seed: Interval
    other_seeds: NotRequired[Interval]
    floor: NotRequired[Interval]


class Dispersion(TypedDict, total=False):
    """How far images of a group are from each other; see Measures.dispersion."""

    across: Interval
    within: Interval
    vendi: Interval


class DispersionGap(TypedDict, total=False):
    """The dispersion of one group less that of another."""

    across: Test
    within: MeanTest
    vendi: MeanTest


class Comparison(TypedDict, total=False):
    """Two groups in one space."""

    lean: MeanTest
    lean_all: MeanTest
    sc_weat: Test
    by_category: dict[str, MeanTest]
    separation: Test
    centroids: Test
    probe: Accuracy
    dispersion: DispersionGap  # always there
    verdict: str


class InSpace(TypedDict):
    """What one space tells."""

    kind: str  # images | patches | prompts
    control: bool
    comparisons: dict[str, Comparison]
    nearness: NotRequired[dict[str, Nearness]]
    dispersion: NotRequired[dict[str, Dispersion]]  # always there, behind nearness
    probe: NotRequired[Accuracy]


class Verdict(TypedDict):
    """What all spaces together say of a comparison."""

    verdict: str
    spaces_that_say_so: int
    spaces: int
    controls: list[str]


class Found(TypedDict):
    """audit.json."""

    activities: int
    incomplete: int
    images: dict[str, int | dict[str, int]]
    spaces_used: int
    encoders_lacking: int
    verdicts: dict[str, Verdict]
    spaces: dict[str, InSpace]
    agreement: NotRequired[dict[str, dict[str, Interval]]]
    text_image: NotRequired[dict[str, dict[str, dict[str, Interval]]]]
    perceived: NotRequired[dict[str, object]]


UNKNOWN = Interval(value=None, low=None, high=None)
