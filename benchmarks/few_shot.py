"""A new question with 20 to 300 labels: from nothing, or from another task's student (`train.start_from`).

    python benchmarks/few_shot.py --mvsa /data/mvsa_single --memes /data/propaganda_memes [--draws 10] [--quick]

Three pairs of a question with many labels and one with few, on real posts:

- `smears`: is the meme a smear (labels)? The other student knows the other techniques of the same memes.
- `techniques`: how many techniques has the meme (a score of 0 to 10)? The other student knows the eight commonest.
- `sentiment`: MVSA's three classes. The other student was asked about propaganda techniques, of other posts.

A third of the posts (whole leakage groups) is the test; of the rest the other student learns all, the new one the
labels drawn. Beside it stand the mean (or shares) of the few labels and the linear probe of the features, its strength
by folds. Every arm sees the same labels; figures are means over draws, differences paired by draw with 95 % t
intervals. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kfold import Prepared, params_of
from pydantic import TypeAdapter
from scipy.stats import t as student_t
from votes import labelled

from assay.config import Train
from assay.errors import run_main
from assay.measure import metrics
from assay.measure.baselines import Learning, Views, predict_all
from assay.progress import progress
from assay.splits import grouped_folds
from assay.student.crossfit import crossfit
from assay.student.model import Start
from assay.student.parts import Part
from assay.student.trained import Trained, start_of
from assay.targets import AnyTarget, Target

SIZES = (20, 50, 100, 300)
COLUMNS = "{id: id, text: text, image: image, split: (file), gold: {labels: labels}}"
FIGURE = {"score": "mae", "classes": "auroc", "labels": "auroc_macro"}
NAME = "t"


@dataclass
class Pair:
    """A question with few labels, its posts, and what to start from."""

    data: Prepared
    posts: Part
    target: Target
    start: Start
    test: np.ndarray  # rows
    rest: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvsa", required=True, help="MVSA-Single")
    parser.add_argument("--memes", required=True, help="memes of SemEval-2021 task 6")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="2 draws of 20 and 50 labels, 400 posts, 3 epochs")
    args = parser.parse_args()
    sizes, draws = (SIZES[:2], 2) if args.quick else (SIZES, args.draws)
    found: dict[str, Any] = {"draws": draws}
    with tempfile.TemporaryDirectory(prefix="assay-few-") as work:
        pairs = made_pairs(args, Path(work))
        jobs = [(name, size, seed) for name in pairs for size in sizes for seed in range(draws)]
        rows: dict[tuple[str, int], list[dict[str, float]]] = {}
        with progress(what="few shot", total=len(jobs), unit="student") as bar:
            for name, size, seed in jobs:
                rows.setdefault((name, size), []).append(one_draw(pairs[name], size, seed))
                bar.update()
    for (name, size), draws_of in rows.items():
        found.setdefault(name, {})[str(size)] = summary(draws_of)
    print(json.dumps(found))


def made_pairs(args: argparse.Namespace, work: Path) -> dict[str, Pair]:
    """All three pairs, the rich students trained."""
    memes = {"path": args.memes, "kind": "table", "columns": COLUMNS, "column": "labels", "target": "labels"}
    asked_of = {"hateful": memes | {"task": "hateful"}, "sentiment": {"path": args.mvsa}}
    few = {}
    for name, (task, wanted) in zip(("memes", "mvsa"), asked_of.items(), strict=True):
        (work / name).mkdir()
        data = Prepared(params_of(quick=args.quick, **wanted), task, work / name, baselines=False)
        few[name] = data, labelled(data)
    data, posts = few["memes"]
    named = list(data.task.target.groups)
    y, smears = posts.values[data.name], named.index("Smears")
    others = [i for i in np.argsort(-y.sum(0), kind="stable") if i != smears]
    test, rest = halves(posts, y[:, smears].astype(int))
    techniques = rich(data, posts, rest, y[:, others[:12]])
    eight = rich(data, posts, rest, y[:, sorted([*others[:7], smears])])
    counts = np.minimum(y.sum(1), 10).astype(np.float32)
    found = {
        "smears": Pair(data, asked(posts, y[:, [smears]]), target("labels", names=["smears"]), techniques, test, rest),
        "techniques": Pair(data, asked(posts, counts), target("score", min=0, max=10), eight, test, rest),
    }
    data, posts = few["mvsa"]
    test, rest = halves(posts, posts.values[data.name].astype(int))
    classes = asked(posts, posts.values[data.name])
    return found | {"sentiment": Pair(data, classes, data.task.target, techniques, test, rest)}


def target(kind: str, **told: Any) -> Target:
    """A target by its settings."""
    found: Target = TypeAdapter(AnyTarget).validate_python({"kind": kind} | told)
    return found


def asked(posts: Part, values: np.ndarray) -> Part:
    """The posts with other labels."""
    found = posts.take(np.arange(len(posts)))
    found.values, found.soft = {NAME: values}, {}
    return found


def halves(posts: Part, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the test, a third, and of the rest."""
    fold = grouped_folds(strata, posts.group, 3, 1)
    return np.flatnonzero(fold == 0), np.flatnonzero(fold != 0)


def rich(data: Prepared, posts: Part, rows: np.ndarray, values: np.ndarray) -> Start:
    """The student of many labels, as `assay keep` keeps it."""
    labels = target("labels", names=[f"n{k}" for k in range(values.shape[1])])
    pool, settings = asked(posts, values).take(rows), Train(**settings_of(data, 1))
    told: dict[str, Any] = {"student": data.student, "targets": {NAME: labels}, "settings": settings}
    found = crossfit(pool, folds=5, checkpoint=None, **told)
    facts = data.made["encoders"]
    return start_of(Trained(found.model, "rich", data.student, {NAME: labels}, facts, {}, {}, {}, {}))


def settings_of(data: Prepared, seed: int) -> dict[str, Any]:
    """The task's training, stopped by the loss."""
    return data.task.train.model_dump() | {"seed": seed, "metric": "loss", "loss": "auto"}


def one_draw(pair: Pair, size: int, seed: int) -> dict[str, float]:
    """The figure of every arm on one draw of labels."""
    rows = drawn(pair, size, seed)
    pool, held = pair.posts.take(rows), pair.posts.take(pair.test)
    targets, settings = {NAME: pair.target}, Train(**settings_of(pair.data, seed))
    given: dict[str, Any] = {"student": pair.data.student, "targets": targets, "settings": settings}
    found = {}
    for arm, start in (("nothing", None), ("start", pair.start)):
        model = crossfit(pool, folds=5, checkpoint=None, start=start, **given).model
        found[arm] = model.predict(held.features)[NAME]
    half = np.arange(size) % 4 > 0  # three quarters to learn from, the rest for the baselines' strengths
    learn, stop = pool.take(np.flatnonzero(half)), pool.take(np.flatnonzero(~half))
    told = Learning(seen(learn), learn.values[NAME], learn.weights, seen(stop), stop.values[NAME])
    guesses = predict_all(told, seen(held), pair.target)
    found |= {"constant": guesses["constant"], "probe": guesses["both"]}
    y, figure = held.values[NAME], FIGURE[pair.target.kind]
    y = y.astype(float) if y.dtype == np.float32 else y
    return {
        arm: metrics.point(y, np.asarray(p, dtype=float), held.weights, pair.target)[figure] for arm, p in found.items()
    }


def drawn(pair: Pair, size: int, seed: int) -> np.ndarray:
    """Rows with a label, by lot; drawn again where a class or a label is not among them."""
    rng = np.random.default_rng(seed)
    y = pair.posts.values[NAME]
    while True:
        rows = rng.choice(pair.rest, size, replace=False)
        kinds = {tuple(np.atleast_1d(one)) for one in y[rows]}
        if pair.target.kind == "score" or len(kinds) >= (3 if pair.target.kind == "classes" else 2):
            return np.asarray(rows)


def seen(part: Part) -> Views:
    """What baselines see."""
    return Views(part.features.image, part.features.text, part.features.words)


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Means over draws, and what the start is worth against nothing and against the probe."""
    found: dict[str, Any] = {arm: round(float(np.mean([row[arm] for row in rows])), 4) for arm in rows[0]}
    for other in ("nothing", "probe"):
        gaps = np.array([row["start"] - row[other] for row in rows])
        half = student_t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
        told = {"value": gaps.mean(), "low": gaps.mean() - half, "high": gaps.mean() + half}
        found[f"start_against_{other}"] = {key: round(float(one), 4) for key, one in told.items()}
    return found


if __name__ == "__main__":
    run_main(main)
