"""What the corpus says: distribution, bands, brands.

Means over predictions alone carry the student's bias; they are marked as uncorrected everywhere, and stand beside
the corrected ones of `corrected`, which have intervals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from assay.measure.corrected import NONE, Corrected
from assay.targets import Target

UNCORRECTED = "uncorrected model means"


def findings(
    predictions: pa.Table, brands: list[dict[str, Any]], target: Target, *, min_posts: int, corrected: Corrected
) -> dict[str, Any]:
    """The content of findings.json; `brands` are the rows of `brand_table`."""
    status = Counter(predictions["status"].to_pylist())
    scored = np.array([value is not None for value in predictions["value"].to_pylist()], dtype=bool)
    found: dict[str, Any] = {
        "posts": predictions.num_rows,
        "scored": int(scored.sum()),
        "status": dict(sorted(status.items())),
        "in_train": int(np.sum(predictions["in_train"].to_pylist())),
        "note": UNCORRECTED,
    }
    values = predictions["value"].to_pylist()
    found |= target.summary([v for v in values if v is not None])
    everywhere = np.ones(len(values), dtype=bool)
    found["corrected"] = {name: corrected(everywhere, name).rounded() for name in corrected.names}
    found["labels_only"] = {name: corrected(everywhere, name, labels_only=True).rounded() for name in corrected.names}
    found["held_out_labels"] = corrected.held_out(everywhere)
    found["brands"] = {"named": len(brands), "shown": sum(not row["too_few"] for row in brands), "min_posts": min_posts}
    return found


def brand_table(
    values: list[Any], brands: list[list[str]], target: Target, *, min_posts: int, corrected: Corrected
) -> list[dict[str, Any]]:
    """A row a brand: posts, corrected mean score or shares with 95 % intervals, and the uncorrected ones.

    A post of several brands counts for each. Sorted by name; figures are null below `min_posts` scored posts, and
    corrected ones where too few labels were held out.
    """
    by_brand: dict[str, list[int]] = defaultdict(list)
    for number, names in enumerate(brands):
        for name in names:
            by_brand[name].append(number)
    rows = []
    for name, members in sorted(by_brand.items()):
        mine = np.zeros(len(values), dtype=bool)
        mine[members] = True
        known = [values[i] for i in members if values[i] is not None]
        few = len(known) < min_posts
        row: dict[str, Any] = {"brand": name, "posts": len(members), "scored": len(known), "too_few": few}
        row["held_out_labels"] = corrected.held_out(mine)
        for one in corrected.names:
            figure = (NONE if few else corrected(mine, one)).rounded()
            column = target.column(one)
            row |= {column: figure["value"], f"{column}_low": figure["low"], f"{column}_high": figure["high"]}
            row |= target.uncorrected([] if few else known, one)
        rows.append(row)
    return rows
