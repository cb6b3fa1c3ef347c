"""Mean colours of posts by brand and by score band (or class, or label), with intervals: rows of colours.csv.

What is known of every post of the corpus is known: its colours, by brand too. Bands are what the labels would say: a
ratio of two estimates, the colours of posts that are in a band over how many are, with the student's help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.measure import intervals
from assay.measure.domains import by_column, everyone
from assay.measure.estimate import LEAST_EFFECTIVE, Joint, estimate, indicator
from assay.measure.frame import Frame
from assay.measure.metrics import UNKNOWN, Figure

CHANNELS = ("red", "green", "blue")  # 0 to 255
FIGURES = (*CHANNELS, "red_to_blue", "brightness", "saturation")  # of the column `colours` of posts and samples
COLUMNS = ["post_id", "brands", "colours"]
STEPS = 2
ENDLESS = (-np.inf, np.inf)
Array = np.ndarray


@dataclass(frozen=True)
class Pictures:
    """Posts whose colours may be known, and what is known of them."""

    posts: pa.Table  # COLUMNS
    weights: Array  # [k], 1 / inclusion probability; 1 of a whole corpus
    source: str  # corpus | sample

    def colours(self, name: str) -> Array:
        """One figure of every post, [k]; nan: not known."""
        column = pc.struct_field(self.posts["colours"].combine_chunks(), name)
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=float)


def pictures_of(posts: pa.Table, sample: Path) -> Pictures:
    """Those of the whole corpus where its pictures were decoded (check_images: full), else of the sample."""
    if posts["colours"].null_count < len(posts):
        return Pictures(posts.select(COLUMNS), np.ones(len(posts)), "corpus")
    shards = sorted(sample.glob("part-*.parquet"))
    drawn = pa.concat_tables(pq.read_table(path, columns=[*COLUMNS, "inclusion_p"]) for path in shards)
    drawn = drawn.filter(pc.is_in(drawn["post_id"], value_set=posts["post_id"].combine_chunks()))
    return Pictures(drawn.select(COLUMNS), 1 / np.asarray(drawn["inclusion_p"], dtype=float), "sample")


def colour_table(est: Frame, pictures: Pictures, *, min_posts: int) -> list[dict[str, Any]]:
    """A row for all posts, each brand, and each band, class or label: means over posts with pictures, `_low`, `_high`.

    Figures are null below `min_posts` posts with pictures (of bands: that are predicted to be in it), or where labels
    are too few. Ratios are means over posts.
    """
    ids = est.predictions["post_id"].combine_chunks()
    place = np.asarray(pc.fill_null(pc.index_in(pictures.posts["post_id"].combine_chunks(), value_set=ids), -1))
    known = {name: pictures.colours(name) for name in FIGURES}
    seen = np.isfinite(known["red"])
    brands = by_column(pictures.posts, "brand")
    groups = everyone(len(seen)).joined(brands)
    counts = np.asarray(groups.members[:, np.flatnonzero(seen)].sum(1)).astype(int)
    rows = []
    for i, (name, count) in enumerate(zip(groups.names, counts, strict=True)):
        row = _start("brand" if i else "all", name, int(count), min_posts)
        members = groups.members[[i]].indices
        for figure in FIGURES:
            found = UNKNOWN if row["too_few"] else _mean(est, pictures, place, members, known[figure])
            row |= _columns(figure, found)
        if count or not i:
            rows.append(row | {"from": pictures.source})
    predicted = [name for i in place[seen] if i >= 0 for name in est.task.groups_of(est.said[i])]
    for band in [one for one in est.task.groups if one in est.task.all_estimands]:
        row = _start(est.task.group, band, predicted.count(band), min_posts)
        figures = {} if row["too_few"] else _of_band(est, pictures, place, known, band)
        for figure in FIGURES:
            row |= _columns(figure, figures.get(figure, UNKNOWN))
        rows.append(row | {"from": pictures.source})
    return rows


def _start(by: str, name: str, count: int, min_posts: int) -> dict[str, Any]:
    return {"by": by, "name": name, "posts_with_pictures": count, "too_few": count < min_posts}


def _columns(name: str, figure: Figure) -> dict[str, float | None]:
    digits = 2 if name in CHANNELS else 4
    edges = {"": figure.value, "_low": figure.low, "_high": figure.high}
    return {f"{name}{edge}": round(float(v), digits) if np.isfinite(v) else None for edge, v in edges.items()}


def _mean(est: Frame, pictures: Pictures, place: Array, members: Array, colours: Array) -> Figure:
    """Over some posts; of these posts of a whole corpus it is known."""
    at = members[np.isfinite(colours[members])]
    if not len(at):
        return UNKNOWN
    w, c = pictures.weights[at], colours[at]
    mean = float(np.average(c, weights=w))
    influence = w * (c - mean) / w.sum()
    if est.of == "these_posts":
        units, left = len(at), np.clip(1 - 1 / w, 0, 1)
        variance = float((left * influence**2).sum())
    else:
        cluster = np.where(place[at] >= 0, est.design.cluster[np.maximum(place[at], 0)], est.n + np.arange(len(at)))
        cluster = np.unique(cluster, return_inverse=True)[1]
        units = int(cluster.max()) + 1
        variance = float(((indicator(cluster).T @ influence) ** 2).sum())
    if units < LEAST_EFFECTIVE and variance > 0:
        return UNKNOWN
    variance *= units / max(units - 1, 1)
    low, high = intervals.mean_interval(np.array(mean), np.array(variance), np.array(units - 1.0))
    return Figure(mean, float(low), float(high))


def _of_band(est: Frame, pictures: Pictures, place: Array, colours: dict[str, Array], band: str) -> dict[str, Figure]:
    """Each figure over the posts that labels would put into a band.

    The mean m from which colours in the band are off by nothing, sum of (c - m) [in the band] = 0, as an estimate with
    one lambda for all of it; its interval by linearisation.
    """
    y, f, learnt = est.frame(band)
    rows, everybody = est.design.rows, everyone(est.n).members
    helps = pictures.source == "corpus"  # else colours are known of labelled posts alone, and predictions cannot help

    def total(values: Array) -> Joint:
        """The mean over all posts of values where a post is in the band, else 0."""
        return estimate(
            est.design,
            everybody,
            values[rows] * y,
            values * f if helps else np.zeros(est.n),
            are_shares=False,
            bounds=ENDLESS,
            learnt=values * learnt if est.design.learnt is not None else None,
        )

    shares: dict[bytes, float] = {}
    found = {}
    for name, own in colours.items():
        every = np.full(est.n, np.nan)
        every[place[place >= 0]] = own[place >= 0]
        known = np.isfinite(every)
        key = known.tobytes()
        if key not in shares:
            shares[key] = float(total(known.astype(float)).value[0])
        weight = est.design.weight * y * known[rows]
        if not (shares[key] > 0 and weight.sum() > 0):
            found[name] = UNKNOWN
            continue
        mean = float(np.average(np.where(known, every, 0)[rows], weights=weight))
        for _ in range(STEPS):
            off = total(np.where(known, every - mean, 0))
            mean += float(off.value[0]) / shares[key]
        low, high = intervals.mean_interval(np.array(mean), off.variance / shares[key] ** 2, off.df)
        found[name] = Figure(mean, float(low[0]), float(high[0])) if off.known[0] else UNKNOWN
    return found
