"""Do the verdicts of `assay compare` hold? Pairs of students that are trained anew each time, on planted posts.

    python benchmarks/verdicts.py [--quick] [--runs 300]

A population of 8,000 posts by authors of ten posts each, 900 labelled, five folds of whole authors; ridge students. The
truth of two fits is how far they are apart on all posts of the population. *same*: two students of the same recipe from
other folds; *close*: the second lacks a feature that tells little; *worse*: it lacks one that tells much. For each: how
often the 95 % interval of the MAE difference holds its truth, and how often each verdict is given for it; *wrong*: a
verdict of better or worse on any of eight metrics against that metric's truth, or equivalent beyond the margin. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import numpy as np
from populations import SCORE
from sklearn.linear_model import Ridge

from assay.measure.judged import Judged
from assay.measure.metrics import point
from assay.measure.paired import pair_up, verdicts
from assay.splits import grouped_folds

POSTS, LABELS, FOLDS = 8000, 900, 5
LACKS = {"same": None, "close": 4, "worse": 1}


def student(x: np.ndarray, y: np.ndarray, rows: np.ndarray, fold: np.ndarray, lacks: int | None) -> np.ndarray:
    """What each of the students says of every post, [folds, n]."""
    seen = x if lacks is None else np.delete(x, lacks, axis=1)
    fits = [Ridge(alpha=1.0).fit(seen[rows[fold != k]], y[rows[fold != k]]) for k in range(FOLDS)]
    return np.stack([np.clip(one.predict(seen), 0, 10) for one in fits])


def one_run(seed: int, lacks: int | None) -> dict[str, Any]:
    """Draw, train both, compare; and the truth of each metric, positive where the second is better."""
    rng = np.random.default_rng([seed, 3])
    x = rng.standard_normal((POSTS, 6))
    author = np.arange(POSTS) // 10
    own = rng.standard_normal(POSTS // 10)[author]
    y = np.clip(5 + 1.3 * (x @ np.array([1.0, 0.8, -0.6, 0.4, 0.15, 0.0]) + 0.8 * own + rng.normal(0, 1, POSTS)), 0, 10)
    rows = rng.permutation(POSTS)[:LABELS]
    ids = [str(i) for i in rows]
    sides, wholes = [], []
    for fold_seed, lack in ((2 * seed, None), (2 * seed + 1, lacks)):
        fold = grouped_folds(SCORE.strata(y[rows]), author[rows], FOLDS, fold_seed)
        every = student(x, y, rows, fold, lack)
        said = every[fold, rows]
        sides.append((ids, Judged(y[rows], np.ones(LABELS), author[rows], said, {})))
        figures = [point(y, one, np.ones(POSTS), SCORE) for one in every]
        wholes.append({name: float(np.mean([f[name] for f in figures])) for name in figures[0]})
    pair, _ = pair_up(*sides)
    found = {}
    for row in verdicts(pair, SCORE, replicates=300):
        sign = 1 if row["higher_is_better"] else -1
        truth = sign * (wholes[1][row["metric"]] - wholes[0][row["metric"]])
        found[row["metric"]] = row | {"truth": truth}
    return found


def wrong(row: dict[str, Any]) -> bool:
    """Whether a verdict is against the truth."""
    truth, verdict = float(row["truth"]), row["verdict"]
    if verdict == "equivalent":
        return abs(truth) > float(row["margin"])
    return (verdict == "better" and truth < 0) or (verdict == "worse" and truth > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="20 runs")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name, lacks in LACKS.items():
        runs = [one_run(seed, lacks) for seed in range(20 if args.quick else args.runs)]
        mae = [run["mae"] for run in runs]
        held = [r["difference"]["low"] <= r["truth"] <= r["difference"]["high"] for r in mae]
        counts = Counter(r["verdict"] for r in mae)
        found[name] = {
            "runs": len(runs),
            "coverage": round(float(np.mean(held)), 4),
            "truth": round(float(np.mean([r["truth"] for r in mae])), 4),
            "width": round(float(np.mean([r["difference"]["high"] - r["difference"]["low"] for r in mae])), 4),
            "verdicts": {verdict: round(n / len(runs), 4) for verdict, n in counts.most_common()},
            "wrong_any_metric": round(float(np.mean([any(map(wrong, run.values())) for run in runs])), 4),
        }
        print(name, json.dumps(found[name]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
