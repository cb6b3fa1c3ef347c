"""Findings by month, sponsored, language, … of all posts and of each brand: rows of groups.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import DataError
from assay.measure.domains import Domains, crossed
from assay.measure.estimator import Estimator
from assay.measure.found import Cells, Estimate, GroupEstimate

BRAND_GROUP = "brand_group"  # the column of posts that names the groups of their brands
MOST_BRANDS = 40  # that are crossed with other columns, those with the most posts


def with_brand_groups(posts: pa.Table, groups: Mapping[str, Sequence[str]]) -> pa.Table:
    """The posts with a column `brand_group` more: to which groups, {group: its brands}, the brands of each belong.

    Unchanged where there are no groups. Capitals do not count.
    """
    if not groups:
        return posts
    brands = posts["brands"].combine_chunks()
    rows, named = np.asarray(pc.list_parent_indices(brands)), pc.utf8_lower(brands.flatten())
    inside = [
        np.unique(rows[np.asarray(pc.is_in(named, pa.array([brand.lower() for brand in own], named.type)))])
        for own in groups.values()
    ]
    which = np.repeat(np.arange(len(groups)), [len(one) for one in inside])
    row = np.concatenate(inside)
    ends = np.searchsorted(np.sort(row), np.arange(posts.num_rows + 1))
    names = pa.array(list(groups)).take(pa.array(which[np.lexsort((which, row))]))
    return posts.append_column(BRAND_GROUP, pa.ListArray.from_arrays(pa.array(ends, pa.int32()), names))


def unknown_brands(posts: pa.Table, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The brands of groups that no post names."""
    known = {brand.lower() for brand in pc.unique(posts["brands"].combine_chunks().flatten()).to_pylist()}
    listed = dict.fromkeys(one for group in groups.values() for one in group)
    return [brand for brand in listed if brand.lower() not in known]


def group_table(est: Estimator, by: Sequence[str], *, min_posts: int) -> list[GroupEstimate]:
    """A row a column (`by`), brand (empty: all posts), estimand and group: what Estimates.rows has of it.

    Groups with fewer than `min_posts` scored posts are left out; figures are null where too few labels are known. Each
    interval is of its group alone.
    """
    brands = _large(est.groups("brand"), min_posts)
    brands = brands.take(np.argsort(-_sizes(brands), kind="stable")[:MOST_BRANDS].tolist())
    found = []
    for column in by:
        try:
            groups = _large(est.groups(column), min_posts)
        except DataError:
            continue  # the corpus does not tell posts apart by it
        if len(groups) < 2 and column != BRAND_GROUP:
            continue
        parts = {"": groups}
        if column != BRAND_GROUP:
            parts |= {name: crossed(brands.take([i]), groups) for i, name in enumerate(brands.names)}
        for brand, members in parts.items():
            for estimand in est.task.estimands:
                for name, row in zip(groups.names, est.over(estimand, members).rows(), strict=True):
                    if row["posts"] >= min_posts:
                        row["name"] = name
                        found.append(GroupEstimate(by=column, brand=brand, estimand=estimand, **row))
    return found


def as_csv(rows: Sequence[GroupEstimate]) -> list[dict[str, object]]:
    """The rows of groups.csv."""
    first = ("by", "name", "brand", "estimand", "posts", "labels", "value", "low", "high")
    cells: Sequence[Mapping[str, object]] = rows
    return [
        {name: told[name] for name in first}
        | {f"labels_alone_{name}": value for name, value in row["labels_alone"].items()}
        | {"gain": row["gain"]}
        for row, told in zip(rows, cells, strict=True)
    ]


def of_all(rows: Sequence[GroupEstimate]) -> dict[str, dict[str, list[Estimate]]]:
    """The rows over all posts as findings.json has them: column -> estimand -> rows with a name."""
    found: dict[str, dict[str, list[Estimate]]] = {}
    for row in rows:
        if not row["brand"]:
            own = {name: value for name, value in row.items() if name not in ("by", "brand", "estimand")}
            told = cast(Estimate, own)
            found.setdefault(row["by"], {}).setdefault(row["estimand"], []).append(told)
    return found


def by_brand(rows: Sequence[GroupEstimate], estimand: str) -> dict[str, Cells]:
    """Brands by groups, where two of a brand are known: column -> {groups, brands: {brand: {group: row}}}."""
    found: dict[str, Cells] = {}
    for row in rows:
        if row["brand"] and row["estimand"] == estimand and row["value"] is not None:
            table = found.setdefault(row["by"], {"groups": [], "brands": {}})
            table["brands"].setdefault(row["brand"], {})[row["name"]] = row
    for table in found.values():
        table["brands"] = {name: cells for name, cells in sorted(table["brands"].items()) if len(cells) > 1}
        table["groups"] = sorted({group for cells in table["brands"].values() for group in cells})
    return {column: table for column, table in found.items() if table["brands"]}


def _large(groups: Domains, least: int) -> Domains:
    return groups.take([i for i, size in enumerate(_sizes(groups)) if size >= least])


def _sizes(groups: Domains) -> np.ndarray:
    return np.asarray(groups.members.sum(1))
