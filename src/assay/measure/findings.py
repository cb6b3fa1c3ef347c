"""What the corpus says: distribution, means and shares, groups, brands and their order, in figures and in words.

Means over predictions alone carry the student's bias; they are marked as uncorrected everywhere, and stand beside the
corrected ones of `estimator`, which have intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from assay.errors import DataError
from assay.measure.contrasts import WITHIN
from assay.measure.domains import by_column
from assay.measure.estimator import WORDS, Estimator
from assay.measure.found import Coders, Difference, Findings, GroupEstimate, Interval, Lent
from assay.measure.groups import of_all
from assay.measure.metrics import UNKNOWN, Figure
from assay.measure.ranking import Ranking, ranked

UNCORRECTED = "uncorrected model means"
CONTRAST = "sponsored"
LENT = {"": "value", "_low": "low", "_high": "high", "_own": "own"}


def findings(
    est: Estimator,
    predictions: pa.Table,
    brands: list[dict[str, Any]],
    rankings: dict[str, Ranking],
    *,
    min_posts: int,
    groups: Sequence[GroupEstimate] = (),
) -> Findings:
    """The content of findings.json; `brands` and `rankings` are those of `brand_table`, `groups` of `group_table`."""
    target = est.task
    status = Counter(predictions["status"].to_pylist())
    wholes = {one: est.of_groups(one) for one in target.all_estimands}
    bands = [one for one in target.all_estimands if one not in target.estimands]

    def of_all_posts(names: Sequence[str], *, plain: bool = False) -> dict[str, Interval]:
        return {one: wholes[one].figure(0, plain=plain).rounded() for one in names}

    found = Findings(
        posts=predictions.num_rows,
        scored=est.n,
        status=dict(sorted(status.items())),
        in_train=int(np.sum(predictions["in_train"].to_numpy(zero_copy_only=False))),
        about={"target": est.of, "words": WORDS[est.of]},
        labels=len(est.design.rows),
        corrected=of_all_posts(target.estimands),
        labels_alone=of_all_posts(target.estimands, plain=True),
        gain={one: wholes[one].gain(0) for one in target.estimands},
        brands={"named": len(brands), "shown": sum(not row["too_few"] for row in brands), "min_posts": min_posts},
        by=of_all(groups),
        contrasts=_contrasts(est),
        order={one: ranking.words() for one, ranking in rankings.items()},
        answers=[],
    )
    if bands:
        found["corrected_bands"] = of_all_posts(bands)
        found["labels_alone_bands"] = of_all_posts(bands, plain=True)
    if people := _people(est):
        found["people"] = people
    found["answers"] = answers(found, est)
    return cast(Findings, found | {"note": UNCORRECTED} | target.summary(est.said))


def brand_table(est: Estimator, posts: pa.Table, *, min_posts: int) -> tuple[list[dict[str, Any]], dict[str, Ranking]]:
    """A row a brand, and for each estimand the brands' order.

    Posts, labels, corrected mean score or shares with 95 % intervals (`_low`, `_high`: of this brand alone;
    `_joint_low`, `_joint_high`: all brands' at once), the ranks that it may have, and the uncorrected figures. A post
    of several brands counts for each; `_borrowed`, `_borrowed_low`, `_borrowed_high` and `_borrowed_own` are of
    `small_areas`, also for brands without labels. Sorted by name; figures are null below `min_posts` scored posts, and
    corrected ones where too few labels are known.
    """
    target = est.task
    counts = by_column(posts, "brand")
    scored = est.groups("brand")
    place = {name: i for i, name in enumerate(scored.names)}
    estimates = {one: est.over(one, scored) for one in target.estimands}
    rankings = {one: ranked(found, least_posts=min_posts) for one, found in estimates.items()}
    ranks = {one: {row["name"]: row for row in ranking.rows()} for one, ranking in rankings.items()}
    lent = {one: _borrowed(est, one) for one in target.estimands}
    all_posts = np.asarray(counts.members.sum(1)).astype(int)
    rows = []
    for name, count in zip(counts.names, all_posts, strict=True):
        at = place.get(name)
        members = [] if at is None else scored.members[[at]].indices
        few = len(members) < min_posts
        row: dict[str, Any] = {"brand": name, "posts": int(count), "scored": len(members), "too_few": few}
        first = estimates[target.estimands[0]].joint
        row["labels"] = 0 if at is None else int(first.labels[at])
        known = [] if few else [est.said[i] for i in members]
        for one in target.estimands:
            figure = (UNKNOWN if few or at is None else estimates[one].figure(at)).rounded()
            column = target.column(one)
            row |= {column: figure["value"], f"{column}_low": figure["low"], f"{column}_high": figure["high"]}
            told: Mapping[str, Any] = ranks[one].get(name, {})
            row |= {f"{column}_joint_{edge}": told.get(edge) for edge in ("low", "high")}
            row |= {f"{column}_{edge}": told.get(edge) for edge in ("rank_low", "rank_high")}
            own: Mapping[str, Any] = {} if few or at is None else lent[one].get(name, {})
            row |= {f"{column}_borrowed{edge}": own.get(key) for edge, key in LENT.items()}
            row |= target.uncorrected(known, one)
        rows.append(row)
    return rows, rankings


def _borrowed(est: Estimator, estimand: str) -> dict[str, Lent]:
    """Estimates of brands that borrow strength, by name; {} where labels do not tell how much brands differ."""
    try:
        return {row["name"]: row for row in est.small("brand", estimand=estimand).rows()}
    except DataError:
        return {}


def _contrasts(est: Estimator) -> dict[str, dict[str, list[Difference]]]:
    """Sponsored posts against others, over all and within brands; {} where the corpus does not say."""
    try:
        sides = est.groups(CONTRAST)
        if sides.names != ["false", "true"]:
            return {}
        within = "brand" if len(est.groups("brand")) > 1 else None
    except DataError:
        return {}
    found = {}
    for one in est.task.estimands:
        rows = est.difference(CONTRAST, within=within, estimand=one)
        found[one] = [row for row in rows if row["value"] is not None or row["name"] in ("all", WITHIN)]
    return {CONTRAST: found}


def _people(est: Estimator) -> Coders | None:
    """What people would say, and the teacher's bias, of all posts and by brand; None where nobody coded."""
    if est.codes is None or not len(est.codes):
        return None
    try:
        found = {one: est.human(by="brand", estimand=one) for one in est.task.estimands}
    except DataError as error:
        return {"why_not": str(error)}
    first = found[est.task.estimands[0]]
    sd = {one: None if told.coder_sd is None else round(told.coder_sd, 4) for one, told in found.items()}
    rows = {one: [row for row in told.rows if row["people"]["value"] is not None] for one, told in found.items()}
    return {"coded": first.coded, "coders": first.coders, "note": first.note, "coder_sd": sd, "by": rows}


# ------------------------------------------------------------------------------------------ words


def answers(found: Findings, est: Estimator) -> list[str]:
    """What is found, in sentences: figures with intervals, and of comparisons only what is decided."""
    target = est.task
    told = []
    for one, figure in found["corrected"].items():
        what = "The mean score" if one == "mean" else f"The share of posts that are {one}"
        told.append(f"{what} is {said(figure, share=target.is_share(one))}.")
    for band, figure in found.get("corrected_bands", {}).items():
        told.append(f"{said(figure, share=True)} of the posts are {band}.")
    for one, rows in found["contrasts"].get(CONTRAST, {}).items():
        row = next((row for row in rows if row["name"] == WITHIN), rows[0])
        told.append(_contrast(row, one, share=target.is_share(one)))
    told += _people_words(found.get("people", Coders()), est)
    for one, words in found["order"].items():
        of = "" if one == "mean" else f" (share of {one})"
        told.append(f"Of the brands{of}, {words}.")
    return told


def _contrast(row: Difference, one: str, *, share: bool) -> str:
    where = " within brands" if row["name"] == WITHIN else ""
    if row["value"] is None:
        return f"Whether sponsored posts differ from others{where} cannot be told from these labels."
    gap, points = Figure.of(row), " percentage points" if share else ""
    what = "mean score" if one == "mean" else f"share of {one}"
    if not row["decided"]:
        return f"Whether the {what} of sponsored posts is higher or lower than that of others{where} is not decided."
    low, high = sorted((abs(gap.low), abs(gap.high)))
    scale, digits = (100, 1) if share else (1, 2)
    figure = f"{scale * abs(gap.value):.{digits}f}{points} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    return f"The {what} of sponsored posts is {figure} {'higher' if gap.value > 0 else 'lower'} than of others{where}."


def _people_words(people: Coders, est: Estimator) -> list[str]:
    """What people would say, and where the teacher is decided to differ from them."""
    told = []
    for one, rows in people.get("by", {}).items():
        share = est.task.is_share(one)
        what = "the mean score" if one == "mean" else f"the share of {one}"
        for row in rows:
            if row["name"] == "all":
                told.append(f"By people's codes {what} would be {said(row['people'], share=share)}.")
            elif row["decided"]:
                harder = "more" if Figure.of(row["bias"]).value > 0 else "less"
                told.append(f"Of {row['name']} the teacher says {harder} than people do ({what}).")
    return told


def said(figure: Interval, *, share: bool) -> str:
    """A figure with its interval in words."""
    if figure["value"] is None:
        return "not known (too few labels)"
    value, low, high = Figure.of(figure)
    if share:
        return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
