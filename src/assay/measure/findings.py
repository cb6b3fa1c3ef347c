"""What the corpus says: distribution, bands, brands.

Means over predictions alone carry the student's bias; they are marked as uncorrected everywhere, and stand beside
the corrected ones of `corrected`, which have intervals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from assay.config import ScoreTarget, Target
from assay.measure.corrected import NONE, Corrected

UNCORRECTED = "uncorrected model means"
BINS = 20


def findings(
    predictions: pa.Table, brands: list[list[str]], target: Target, *, min_posts: int, corrected: Corrected
) -> dict[str, Any]:
    """The content of findings.json; `brands` stands row by row beside `predictions`."""
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
    if isinstance(target, ScoreTarget):
        found |= _of_scores(np.array([v for v in values if v is not None], dtype=float), target)
    else:
        shares = Counter(name for v in values if v is not None for name in names_of(v))
        found["shares"] = {name: _share(shares[name], int(scored.sum())) for name in target.names}
    everywhere = np.ones(len(values), dtype=bool)
    found["corrected"] = {name: corrected(everywhere, name).rounded() for name in corrected.names}
    found["labels_only"] = {name: corrected(everywhere, name, labels_only=True).rounded() for name in corrected.names}
    found["held_out_labels"] = corrected.held_out(everywhere)
    table = brand_table(values, brands, target, min_posts=min_posts, corrected=corrected)
    found["brands"] = {"named": len(table), "shown": sum(not row["too_few"] for row in table), "min_posts": min_posts}
    return found


def names_of(value: Any) -> list[str]:
    """The names that a prediction puts on a post: its class, or its labels."""
    return list(value) if isinstance(value, list) else [value]


def _share(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None


def _of_scores(scores: np.ndarray, target: ScoreTarget) -> dict[str, Any]:
    if not len(scores):
        return {"mean": None, "bands": {}}
    where = np.digitize(scores, target.bands)
    names = target.names_of_bands()
    return {
        "mean": round(float(scores.mean()), 4),
        "sd": round(float(scores.std()), 4),
        "quantiles": {
            f"q{int(100 * q)}": round(float(np.quantile(scores, q)), 4) for q in (0.05, 0.25, 0.5, 0.75, 0.95)
        },
        "bands": {name: _share(int((where == i).sum()), len(scores)) for i, name in enumerate(names)},
    }


def histogram(values: list[Any], target: Target) -> list[tuple[str, int]]:
    """Counts of scored posts: of score bins, or of classes or labels, in order."""
    known = [value for value in values if value is not None]
    if not isinstance(target, ScoreTarget):
        counts = Counter(name for value in known for name in names_of(value))
        return [(name, counts[name]) for name in target.names]
    edges = np.linspace(target.min, target.max, BINS + 1)
    return [(f"{low:.4g}", int(n)) for low, n in zip(edges, np.histogram(known, edges)[0], strict=False)]


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
            column = one if isinstance(target, ScoreTarget) else f"share_{one}"
            row |= {column: figure["value"], f"{column}_low": figure["low"], f"{column}_high": figure["high"]}
            if isinstance(target, ScoreTarget):
                row["mean_uncorrected"] = None if few else round(float(np.mean(known)), 4)
                row["sd"] = None if few else round(float(np.std(known)), 4)
            else:
                share = _share(sum(one in names_of(v) for v in known), len(known))
                row[f"share_{one}_uncorrected"] = None if few else share
        rows.append(row)
    return rows
