"""Findings of a large corpus: time, memory, and how many of many small brands get an interval, and whether it holds.

    python benchmarks/many_brands.py [--quick] [--posts 1600000] [--brands 5000] [--labels 15000]

Posts, 30 % of which name one of many brands (Zipf), a student of middling accuracy that is a little off on each brand,
and a random sample of labels; brand table and findings as `report` makes them. *narrow* counts the brands with at least
30 posts whose interval is narrower than 1 of 10 points, of this estimator and of the labels alone. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import pyarrow as pa

from assay.measure.estimator import DESIGN, Estimator
from assay.measure.findings import brand_table, findings
from assay.measure.groups import group_table
from assay.targets import KINDS

BANDS = {"min": 0, "max": 10, "bands": [3.5, 6.5], "band_names": ["low", "moderate", "high"]}
LEAST = 30


def planted(n: int, b: int, m: int, off_sd: float) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table, np.ndarray]:
    """Posts, predictions, labels, design, and the true mean of each brand."""
    rng = np.random.default_rng(1)
    chance = 1 / np.arange(1, b + 1)
    brand = np.where(rng.random(n) < 0.3, rng.choice(b, n, p=chance / chance.sum()), -1)
    level = np.append(rng.normal(0, 0.7, b), 0.0)[brand]
    off = np.append(rng.normal(0, off_sd, b), 0.0)[brand]
    signal = rng.standard_normal(n)
    y = np.clip(5 + level + 1.5 * signal + rng.normal(0, 1.2, n), 0, 10)
    own = np.clip(5 + level + off + 1.5 * signal, 0, 10)
    every = np.clip(own[:, None] + rng.normal(0, 0.2, (n, 5)), 0, 10).astype(np.float32)
    ids = pa.array([f"p{i}" for i in range(n)])
    offsets = pa.array(np.concatenate([[0], np.cumsum(brand >= 0)]).astype(np.int32))
    names = pa.array([f"b{one:04d}" for one in range(b)]).take(pa.array(brand[brand >= 0]))
    posts = pa.table(
        {
            "post_id": ids,
            "brands": pa.ListArray.from_arrays(offsets, names),
            "sponsored": rng.random(n) < 0.2,
            "author": [f"a{i}" for i in rng.integers(0, n // 20, n)],
            "language": np.array(["en", "es", "pt"], dtype=object)[rng.integers(0, 3, n)],
        }
    )
    told = pa.ListArray.from_arrays(pa.array(np.arange(0, 5 * n + 1, 5, dtype=np.int32)), pa.array(every.ravel()))
    predictions = pa.table(
        {
            "post_id": ids,
            "status": ["ok"] * n,
            "value": every.mean(1).astype(float),
            "by_student": told,
            "in_train": np.zeros(n, dtype=bool),
        }
    )
    rows = rng.choice(n, m, replace=False)
    labels = pa.table(
        {"post_id": ids.take(pa.array(rows)), "status": ["ok"] * m, "value": y[rows], "inclusion_p": [m / n] * m}
    )
    design = pa.table(
        {
            "post_id": labels["post_id"],
            "stratum": ["all"] * m,
            "group": np.arange(m),
            "held_out_p": pa.nulls(m, pa.float64()),
            "learnt": np.zeros(m, dtype=bool),
        }
    ).cast(DESIGN)
    sizes = np.bincount(brand[brand >= 0], minlength=b)
    truth = np.bincount(brand[brand >= 0], y[brand >= 0], minlength=b) / np.maximum(sizes, 1)
    return posts, predictions, labels, design, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_600_000)
    parser.add_argument("--brands", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=15_000)
    parser.add_argument("--off", type=float, default=0.25, help="by how much a student is off on a brand, as an sd")
    parser.add_argument("--quick", action="store_true", help="100,000 posts, 500 brands, 2,000 labels")
    args = parser.parse_args()
    n, b, m = (100_000, 500, 2000) if args.quick else (args.posts, args.brands, args.labels)
    posts, predictions, labels, design, truth = planted(n, b, m, args.off)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    task = KINDS["score"].model_validate({"kind": "score", **BANDS})
    est = Estimator(posts, predictions, labels, design, task=task)
    table, rankings = brand_table(est, posts, min_posts=LEAST)
    by = group_table(est, ["sponsored", "language", "author_size"], min_posts=LEAST)
    found = findings(est, predictions, table, rankings, min_posts=LEAST, groups=by)
    took = time.perf_counter() - start
    shown = [row for row in table if row["scored"] >= LEAST]
    known = [row for row in shown if row["mean"] is not None]
    narrow = [row for row in known if row["mean_high"] - row["mean_low"] < 1]
    hits = [
        row["mean_low"] <= truth[int(row["brand"][1:])] + 5e-5
        and truth[int(row["brand"][1:])] - 5e-5 <= row["mean_high"]
        for row in known
    ]
    lent = [row for row in shown if row["mean_borrowed"] is not None]
    held = [
        row["mean_borrowed_low"] - 5e-5 <= truth[int(row["brand"][1:])] <= row["mean_borrowed_high"] + 5e-5
        for row in lent
    ]
    slim = [row["mean_borrowed_high"] - row["mean_borrowed_low"] < 1 for row in lent]
    alone = est.mean(by="brand")
    low, high = alone.joint.interval(plain=True)
    figures = {
        "posts": n,
        "labels": m,
        "seconds": round(took, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "gib_before": round(before, 2),
        "brands": len(shown),
        "known": len(known),
        "narrow": len(narrow),
        "narrow_labels_alone": int(((high - low) < 1)[alone.joint.posts >= LEAST].sum()),
        "coverage": round(float(np.mean(hits)), 4) if hits else None,
        "borrowed": len(lent),
        "borrowed_narrow": sum(slim),
        "borrowed_coverage": round(float(np.mean(held)), 4),
        "borrowed_coverage_narrow": round(float(np.mean([h for h, one in zip(held, slim, strict=True) if one])), 4),
        "borrowed_median_width": round(
            float(np.median([row["mean_borrowed_high"] - row["mean_borrowed_low"] for row in lent])), 3
        ),
        "answers": found["answers"][-1],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
