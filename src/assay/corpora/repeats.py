"""How much of a corpus repeats itself: posts whose content came before, and those whose text nearly did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.posts import shards
from assay.text import PERMUTATIONS

NEAR = 0.8  # of the minima of two signatures that agree: an estimate of the Jaccard similarity of their words
BANDS = PERMUTATIONS // 2  # of two minima each
ROWS = 65_536  # compared at a time


def repeats(posts: Path) -> dict[str, int]:
    """`exact`: posts with text and images of an earlier one; `near_text`: posts whose text is like an earlier one's.

    Texts are compared by their MinHash signatures (text.signature) where two minima in a row agree, with the first and
    with the last of those before that have the same two: time grows as n log n, memory by 100 bytes a post. It
    is an estimate: of texts 0.8 alike about two in three are found, of those 0.9 alike nine in ten, of those half alike
    one in a hundred (tests/test_repeats.py); splits look at the texts themselves.
    """
    exact, parts = 0, []
    for path in shards(posts):
        table = pq.read_table(path, columns=["duplicate_of", "text_sig"])
        exact += len(table) - table["duplicate_of"].null_count
        parts.append(_minima(table["text_sig"].combine_chunks()))
    return {"exact": exact, "near_text": int(near(np.concatenate(parts)).sum())}


def _minima(signatures: pa.Array) -> np.ndarray:
    """uint32 [n, permutations] of the posts that have words."""
    whole = b"".join(signatures.drop_null().to_pylist())
    return np.frombuffer(whole, dtype="<u4").reshape(-1, PERMUTATIONS)


def near(minima: np.ndarray) -> np.ndarray:
    """Whether each text is like an earlier one, bool [n], from uint32 [n, permutations]."""
    found = np.zeros(len(minima), dtype=bool)
    if len(minima) < 2:
        return found
    words = np.ascontiguousarray(minima).view(np.uint64)
    for band in range(BANDS):
        order = np.argsort(words[:, band], kind="stable")  # of equal ones the earlier post comes first
        key = words[order, band]
        same = np.flatnonzero(key[1:] == key[:-1]) + 1
        starts = np.maximum.accumulate(np.where(np.r_[True, key[1:] != key[:-1]], np.arange(len(key)), 0))
        for before in (order[starts[same]], order[same - 1]):
            after = order[same]
            open_ = ~found[after]
            _mark(minima, after[open_], before[open_], found)
    return found


def _mark(minima: np.ndarray, after: np.ndarray, before: np.ndarray, found: np.ndarray) -> None:
    for start in range(0, len(after), ROWS):
        a, b = after[start : start + ROWS], before[start : start + ROWS]
        alike = (minima[a] == minima[b]).mean(axis=1) >= NEAR
        found[a[alike]] = True
