"""Mean colours of posts by brand and by score band (or class, or label): rows of colours.csv."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from assay.targets import Target

CHANNELS = ("red", "green", "blue")  # 0 to 255
FIGURES = (*CHANNELS, "red_to_blue", "brightness", "saturation")  # of the column `colours` of posts and samples
Known = dict[str, Any] | None


def colour_table(
    values: Sequence[Any],
    brands: Sequence[list[str]],
    colours: Sequence[Known],
    target: Target,
    *,
    min_posts: int,
    weights: Sequence[float] | None = None,
    source: str = "corpus",
) -> list[dict[str, Any]]:
    """A row for all posts, each brand, and each band, class or label as predicted; means over posts with pictures.

    `colours` stands row by row beside `values` and `brands`; `weights`: 1 / inclusion probability, where they are a
    sample. Figures are null below `min_posts` posts with pictures. Ratios are means over posts.
    """
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    known = [i for i, one in enumerate(colours) if one is not None]
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in known:
        groups["all", "all"].append(i)
        for brand in brands[i]:
            groups["brand", brand].append(i)
        for name in target.groups_of(values[i]):
            groups[target.group, name].append(i)
    order = [
        ("all", "all"),
        *sorted(key for key in groups if key[0] == "brand"),
        *((target.group, name) for name in target.groups),
    ]
    return [_row(key, groups[key], colours, weight, min_posts, source) for key in order]


def _row(
    key: tuple[str, str],
    members: list[int],
    colours: Sequence[Known],
    weight: np.ndarray,
    min_posts: int,
    source: str,
) -> dict[str, Any]:
    few = len(members) < min_posts
    row: dict[str, Any] = {"by": key[0], "name": key[1], "posts_with_pictures": len(members), "too_few": few}
    for name in FIGURES:
        told = [i for i in members if (colours[i] or {})[name] is not None]
        mean = None
        if told and not few:
            mean = float(np.average([(colours[i] or {})[name] for i in told], weights=weight[told]))
        row[name] = None if mean is None else round(mean, 2 if name in CHANNELS else 4)
    return row | {"from": source}


def colours_of_task(
    post_ids: list[str],
    values: list[Any],
    brands: list[list[str]],
    colours: list[Known],
    sample: Path,
    target: Target,
    *,
    min_posts: int,
) -> list[dict[str, Any]]:
    """The table over the whole corpus where its pictures were decoded (check_images: full), else over the sample."""
    if any(one is not None for one in colours):
        return colour_table(values, brands, colours, target, min_posts=min_posts)
    at = {post: i for i, post in enumerate(post_ids)}
    rows = [
        row
        for path in sorted(sample.glob("part-*.parquet"))
        for row in pq.read_table(path, columns=["post_id", "colours", "inclusion_p"]).to_pylist()
        if row["post_id"] in at
    ]
    return colour_table(
        [values[at[r["post_id"]]] for r in rows],
        [brands[at[r["post_id"]]] for r in rows],
        [r["colours"] for r in rows],
        target,
        min_posts=min_posts,
        weights=[1 / r["inclusion_p"] for r in rows],
        source="sample",
    )
