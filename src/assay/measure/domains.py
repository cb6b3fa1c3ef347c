"""Groups of posts that findings are about: by brand, month, sponsored, … and those of two columns crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from assay.errors import DataError

MADE = {"brand": "brands", "month": "created_at", "year": "created_at", "author_size": "author"}
FORMATS = {"month": "%Y-%m", "year": "%Y"}
SIZES = ((1, "1 post"), (9, "2 to 9"), (99, "10 to 99"))
Value = str | bool | int | float


@dataclass(frozen=True)
class Domains:
    """Named groups of n posts; a post may be in several, or in none."""

    names: list[str]
    members: sparse.csr_array  # bool [D, n]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, kept: Sequence[int]) -> Domains:
        """Some of the groups."""
        return Domains([self.names[i] for i in kept], sparse.csr_array(self.members[list(kept)]))

    def joined(self, other: Domains) -> Domains:
        """The groups of both."""
        return Domains(self.names + other.names, sparse.csr_array(sparse.vstack([self.members, other.members])))

    def at(self, name: Value) -> int:
        """The number of a group; DataError for one that there is not."""
        wanted = text_of(name)
        if wanted not in self.names:
            raise DataError(f"no group {wanted!r}; there are: {', '.join(self.names[:20])}")
        return self.names.index(wanted)


def everyone(n: int) -> Domains:
    """The one group of all posts."""
    return Domains(["all"], sparse.csr_array(np.ones((1, n), dtype=bool)))


def by_column(posts: pa.Table, by: str) -> Domains:
    """The groups of posts that share a value of a column, by name; posts without a value are in none.

    `brand` (a post may name several), `month`, `year`, `author_size` (posts of its author in the corpus), or any column
    of the posts. DataError for a column that there is not.
    """
    column = MADE.get(by, by)
    if column not in posts.column_names:
        allowed = sorted(
            {*posts.column_names, *(name for name, of in MADE.items() if of in posts.column_names)} - {"post_id"}
        )
        raise DataError(f"no column {by!r} to group posts by; there are: {', '.join(allowed)}")
    values = posts[column].combine_chunks()
    if by in FORMATS:
        values = pc.strftime(values, format=FORMATS[by])
    elif by == "author_size":
        values = _sizes(values)
    if pa.types.is_list(values.type):
        rows, flat = np.asarray(pc.list_parent_indices(values)), values.flatten()
    else:
        there = np.asarray(values.is_valid())
        rows, flat = np.flatnonzero(there), values.filter(pa.array(there))
    encoded = pc.dictionary_encode(flat)
    names = [text_of(one) for one in encoded.dictionary.to_pylist()]
    order = np.argsort(np.array(names, dtype=object)) if names else np.zeros(0, dtype=int)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    codes = place[np.asarray(encoded.indices)] if len(flat) else np.zeros(0, dtype=np.int64)
    ones = np.ones(len(rows), dtype=bool)
    members = sparse.csr_array((ones, (codes, rows)), shape=(len(names), posts.num_rows))
    members.sum_duplicates()
    members.data = members.data.astype(bool)
    return Domains([names[i] for i in order], members)


def crossed(first: Domains, second: Domains) -> Domains:
    """Every group of the one within every group of the other: `first / second`, in the order of the first."""
    names = [f"{a} / {b}" for a, b in product(first.names, second.names)]
    if not names:
        return Domains([], sparse.csr_array((0, first.members.shape[1]), dtype=bool))
    parts = []
    for j in range(len(second)):
        inside = np.zeros(first.members.shape[1], dtype=bool)
        inside[second.members[[j]].indices] = True
        part = sparse.csr_array(first.members, copy=True)
        part.data = inside[part.indices]
        part.eliminate_zeros()
        parts.append(part)
    order = np.arange(len(names)).reshape(len(second), len(first)).T.ravel()  # those of the first group come first
    return Domains(names, sparse.csr_array(sparse.csr_array(sparse.vstack(parts))[order]))


def those(posts: pa.Table, where: dict[str, Value]) -> Domains:
    """The one group of posts that have all these values, {column: value}."""
    found = everyone(posts.num_rows)
    for column, value in where.items():
        groups = by_column(posts, column)
        found = Domains([], sparse.csr_array(found.members.multiply(groups.members[[groups.at(value)]])))
    name = ", ".join(f"{column} {text_of(value)}" for column, value in where.items()) or "all"
    return Domains([name], sparse.csr_array(found.members.astype(bool)))


def text_of(value: Value | None) -> str:
    """A value as a group is named by it: true and false for bools."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sizes(authors: pa.Array) -> pa.Array:
    encoded = pc.dictionary_encode(authors)
    codes = np.asarray(pc.fill_null(encoded.indices, -1))
    counts = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
    labels = np.array([name for _, name in SIZES] + ["100 or more"], dtype=object)
    where = np.searchsorted([most for most, _ in SIZES], counts[np.maximum(codes, 0)]) if len(counts) else codes
    return pa.array([None if code < 0 else labels[at] for code, at in zip(codes, where, strict=True)], pa.string())
