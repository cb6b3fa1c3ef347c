"""Do the intervals of findings hold? Simulations through the real sample, folds and estimator, with a student that is
trained anew each time (a small linear one, or that of the train stage), on planted populations and on MVSA-single with
its own labels as truth.

    python benchmarks/coverage.py [--quick] [--runs 500] [--only NAME …] [--mvsa FOLDER]

For each setting and estimand: the coverage of the 95 % interval, beside that of the student's figures taken as if they
were labels (naive), and for means, where the package ppi-python is installed, of its ppi_mean_ci with the same
predictions (ppi); its mean width against that of a survey of all the same labels without a student (width_ratio) and
against the best that normal theory allows, 3.92 standard deviations of the estimates (oracle_ratio). The last line is
one JSON object of these, by setting and estimand.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from populations import World, mvsa, planted, truths_of
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from assay.config import Head, ImageBranch, Sample, Split, Student, Train
from assay.encode.features import Features
from assay.measure.estimate import Of
from assay.measure.estimator import DESIGN, Estimator
from assay.measure.metrics import Figure
from assay.measure.ranking import ranked
from assay.sampling import draw
from assay.scoring.designs import active
from assay.splits import assign_with_chance, grouped_folds
from assay.student.crossfit import crossfit
from assay.student.parts import Part

FOLDS = 5


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    make: Callable[[np.random.Generator], World]
    design: str = "random"
    size: int = 900
    of: Of = "these_posts"
    redraw: bool = False  # a new population each time: figures are about posts like these
    estimands: tuple[str, ...] = ("mean", "brand", "difference", "band")
    student: str = "linear"


# ------------------------------------------------------------------------------------- one run


def labelled(world: World, setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows of the sample, their inclusion probabilities and strata, by the real designs."""
    n = world.posts.num_rows
    if setting.design == "active":
        numbers = np.random.default_rng(seed).random(n)
        y = world.target.encode(world.values)
        chosen = active(
            world.features, numbers, setting.size, first=0.5, label=lambda rows: y[rows], target=world.target
        )
        return chosen.rows, chosen.p, ["all"] * len(chosen.rows)
    ids = world.posts["post_id"].to_pylist()
    strata = ["all"] * n
    if setting.design == "stratified":
        strata = [one[0] if one else "" for one in world.posts["brands"].to_pylist()]
    settings = Sample(
        design="stratified" if setting.design == "stratified" else "random", by="brand", posts=setting.size, seed=seed
    )
    drawn = draw(ids, strata, settings)
    place = {post_id: i for i, post_id in enumerate(ids)}
    names = list(drawn.inclusion_p)
    return (
        np.array([place[one] for one in names]),
        np.array([drawn.inclusion_p[one] for one in names]),
        [drawn.stratum[one] for one in names],
    )


def cross_fitted(world: World, rows: np.ndarray, fold: np.ndarray, kind: str) -> np.ndarray:
    """Every post's prediction by each of the students, [k, n]; a linear student, trained here."""
    x = world.features if kind != "blind" else world.features[:, 5:8]
    found = []
    for number in range(int(fold.max()) + 1):
        learn = rows[fold != number]
        if world.target.kind == "score":
            y = np.array([world.values[i] for i in learn], dtype=float)
            guess = np.clip(Ridge(alpha=1.0).fit(x[learn], y).predict(x), 0, 10)
        else:
            y = np.array([world.values[i] == "yes" for i in learn])
            flat = np.full(len(x), y.mean())
            guess = flat if len(set(y)) < 2 else LogisticRegression(C=1.0).fit(x[learn], y).predict_proba(x)[:, 1]
        found.append(guess)
    return np.stack(found)


def pipeline_fitted(world: World, rows: np.ndarray, group: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by the train stage's own cross-fitting, [k, n], and the fold of each labelled post: hidden layers and
    linear model, weighed and calibrated out of fold.
    """
    os.environ["ASSAY_WORKERS"] = "1"  # this is one of several processes already
    n = len(world.features)
    yes, nothing = np.ones(n, bool), np.zeros((n, 0), np.float32)
    seen = Features(world.features.astype(np.float32), nothing, yes, ~yes, [""] * n)
    y = world.target.encode([world.values[i] for i in rows])
    student = Student(image=ImageBranch(encoder="planted"), head=Head(hidden=[16]))
    pool = Part(seen.take(rows), {"t": y}, np.ones(len(rows)), group)
    settings = Train(lr=0.003, epochs=8, seed=seed)
    targets = {"t": world.target}
    with contextlib.redirect_stderr(io.StringIO()):
        found = crossfit(
            pool, student=student, targets=targets, settings=settings, folds=FOLDS, checkpoint=None, on_epoch=None
        )
    every = found.model.each(seen)["t"].astype(float)
    return every if every.ndim == 2 else every[:, :, 0], found.fold


def estimator_of(world: World, setting: Setting, seed: int) -> tuple[Estimator, np.ndarray]:
    """The real estimator over a sample, its folds and its students; and the mean predictions [n]."""
    rows, p, stratum = labelled(world, setting, seed)
    group = world.author[rows]
    y = world.target.encode([world.values[i] for i in rows])
    if setting.student == "held out":
        names, held = assign_with_chance(world.target.strata(y), group, Split(seed=seed))
        fold = np.where(np.isin(names, ("train", "val")), 1, 0)
        every = cross_fitted(world, rows, fold, "linear")[:1]
        own, of = every[0], np.full(world.posts.num_rows, -1)
        extra = {"held_out_p": [held] * len(rows), "learnt": fold == 1}
    else:
        if setting.student == "pipeline":
            every, fold = pipeline_fitted(world, rows, group, seed)
        else:
            fold = grouped_folds(world.target.strata(y), group, FOLDS, seed)
            every = cross_fitted(world, rows, fold, setting.student)
        of = np.full(world.posts.num_rows, -1)
        by_author = dict(zip(group.tolist(), fold.tolist(), strict=True))
        of = np.array([by_author.get(one, -1) for one in world.author.tolist()])
        own = np.where(of >= 0, every[np.maximum(of, 0), np.arange(len(of))], every.mean(0))
        extra = {"held_out_p": [None] * len(rows), "learnt": np.zeros(len(rows), bool)}
    predictions: dict[str, Any] = {"post_id": world.posts["post_id"]}
    if world.target.kind == "score":
        told = [[float(every[f, i])] if f >= 0 else every[:, i].tolist() for i, f in enumerate(of)]
        predictions |= {"value": own, "by_student": pa.array(told, pa.list_(pa.float32()))}
    else:
        predictions |= {
            "value": ["yes" if one >= 0.5 else "no" for one in own],
            "probabilities": pa.array(np.column_stack([own, 1 - own]).tolist(), pa.list_(pa.float32())),
        }
    ids = [f"p{i}" for i in rows]
    labels = pa.table(
        {"post_id": ids, "status": ["ok"] * len(rows), "value": [world.values[i] for i in rows], "inclusion_p": p}
    )
    design = pa.table({"post_id": ids, "stratum": stratum, "group": group, **extra}).cast(DESIGN)
    return Estimator(world.posts, pa.table(predictions), labels, design, task=world.target, target=setting.of), own


def one_run(setting: Setting, world: World | None, seed: int) -> dict[str, tuple[float, ...]]:
    """Of each estimand: value, low, high, width of the labels alone, naive low and high, and the truth."""
    rng = np.random.default_rng([seed, 7])
    if world is None:
        world = setting.make(rng)
    est, own = estimator_of(world, setting, seed)
    main = est.task.estimands[0]
    found: dict[str, tuple[float, ...]] = {}

    def put(name: str, figure: Any, plain: Any, naive: np.ndarray, truth: float | None = None) -> None:
        half = 1.96 * naive.std() / max(len(naive), 1) ** 0.5
        truth = world.truths.get(name, np.nan) if truth is None else truth
        found[name] = (*figure, plain[2] - plain[1], naive.mean() - half, naive.mean() + half, truth)

    if "mean" in setting.estimands:
        whole = est.of_groups(main)
        put("mean", whole.figure(0), whole.figure(0, plain=True), own)
    if "brand" in setting.estimands:
        brands, members = est.of_groups(main, "brand"), est.groups("brand").members
        for i, name in enumerate(brands.names):
            put(f"brand {name}", brands.figure(i), brands.figure(i, plain=True), own[members[[i]].indices])
    if "small" in setting.estimands:
        lent, members = est.small("brand"), est.groups("brand").members
        for i, name in enumerate(lent.names):
            truth, one = world.truths.get(f"brand {name}", np.nan), own[members[[i]].indices]
            put(f"small {name}", lent.figure(i), brands.figure(i, plain=True), one, truth)
    if "band" in setting.estimands and world.target.kind == "score":
        high = est.share("high")
        put("band", high.figure(0), high.figure(0, plain=True), (own >= 6.5).astype(float))
    if "difference" in setting.estimands:
        gap = Figure.of(est.difference("sponsored")[0])
        sides = est.of_groups(main, "sponsored")
        widths = [np.subtract(*sides.figure(i, plain=True)[2:0:-1]) for i in (0, 1)]
        truth = world.truths.get("difference", np.nan)
        found["difference"] = (*gap, float(np.hypot(*widths)), np.nan, np.nan, truth)
    if "regression" in setting.estimands:
        row = next(row for row in est.regress("y ~ sponsored") if row["name"].startswith("sponsored"))
        truth = world.truths.get("regression", np.nan)
        found["regression"] = (*Figure.of(row), np.nan, np.nan, np.nan, truth)
    if "ppi" in setting.estimands and (interval := _ppi(est)):
        found["ppi"] = (np.nan, *interval, *found["mean"][3:4], np.nan, np.nan, world.truths["mean"])
    if "rank" in setting.estimands:
        found |= _rank(est, world)
    return {name: tuple(float(np.nan if v is None else v) for v in told) for name, told in found.items()}


def _ppi(est: Estimator) -> tuple[float, float] | None:
    """What ppi-python says of the mean, from the same labels and predictions; None where it is not installed."""
    here = str(Path(__file__).resolve().parent)
    sys.path = [place for place in sys.path if place != here]  # numba would take this file for the package coverage
    try:
        from ppi_py import ppi_mean_ci
    except ImportError:
        return None
    y, f, _ = est.frame(est.task.estimands[0])
    rows = est.design.rows
    rest = np.delete(f, rows)
    low, high = ppi_mean_ci(y, f[rows], rest, alpha=0.05)
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])


def _rank(est: Estimator, world: World) -> dict[str, tuple[float, ...]]:
    """Whether any statement about the order is wrong, and whether the top's own and simultaneous intervals hold."""
    brands = est.of_groups(est.task.estimands[0], "brand")
    ranking = ranked(brands)
    truth = {name: world.truths[f"brand {name}"] for name in ranking.names}
    wrong = any(truth[ranking.names[i]] <= truth[ranking.names[j]] for i, js in enumerate(ranking.above) for j in js)
    top = ranking.names[0]
    own, joint = brands.figure(brands.names.index(top)), ranking.figures[0]
    said = sum(len(js) for js in ranking.above)
    return {
        "rank": (float(said), 0.0 if wrong else -1.0, 0.5, np.nan, *own[1:], 0.0),
        "top": (*joint, np.nan, *own[1:], truth[top]),
    }


# ------------------------------------------------------------------------------------- settings


def settings(folder: Path | None = None) -> dict[str, Setting]:
    """All settings by name; MVSA where its folder is given."""
    cls = partial(planted, kind="classes")
    shares = ("mean", "brand", "difference", "regression", "ppi")
    scores = ("mean", "brand", "difference", "band", "regression", "ppi")
    real = {"MVSA": Setting(partial(mvsa, folder=folder), estimands=shares)} if folder else {}
    return real | {
        "random": Setting(planted, estimands=scores),
        "stratified": Setting(planted, design="stratified"),
        "active": Setting(partial(planted, n=4000), design="active", size=600),
        "own accounts": Setting(partial(planted, accounts=2)),
        "own accounts, held out": Setting(partial(planted, accounts=2), student="held out"),
        "blind student": Setting(planted, student="blind"),
        "the pipeline's student": Setting(planted, student="pipeline"),
        "the pipeline's student, share": Setting(cls, student="pipeline", estimands=("mean", "brand", "difference")),
        "few labels a brand": Setting(
            partial(planted, brands=40), estimands=("mean", "brand", "difference", "band", "small")
        ),
        "share": Setting(cls, estimands=shares),
        "rare share": Setting(partial(cls, rare=0.01), estimands=("mean",)),
        "share, few labels a brand": Setting(
            partial(cls, brands=40), estimands=("mean", "brand", "difference", "small")
        ),
        "all labelled": Setting(partial(planted, n=1000), size=1000, estimands=("mean", "brand")),
        "author clusters": Setting(
            partial(planted, authors="tens", equal=True), of="posts_like_these", redraw=True, estimands=("mean",)
        ),
        "Zipf authors": Setting(
            partial(planted, authors="zipf", equal=True),
            of="posts_like_these",
            redraw=True,
            estimands=("mean", "brand"),
        ),
        "40 equal brands": Setting(partial(planted, brands=40, equal=True), size=2000, estimands=("rank", "brand")),
    }


def run(setting: Setting, runs: int, pool: ProcessPoolExecutor) -> dict[str, dict[str, float]]:
    """Simulate one setting; figures by estimand (those of brands together)."""
    world = None
    if not setting.redraw:
        world = setting.make(np.random.default_rng(1))
        world.truths = truths_of(world, (*setting.estimands, *(("brand",) if "rank" in setting.estimands else ())))
    raw: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for told in pool.map(partial(_run, setting, world), range(runs), chunksize=max(1, runs // 16)):
        for estimand, figures in told.items():
            raw[estimand].append(figures)
    if setting.redraw:  # the truth is that of all posts like these: the mean over many populations
        many = [truths_of(setting.make(np.random.default_rng([r, 7])), setting.estimands) for r in range(200)]
        for estimand in raw:
            truth = float(np.nanmean([one.get(estimand, np.nan) for one in many]))
            raw[estimand] = [(*figures[:-1], truth) for figures in raw[estimand]]
    by: dict[str, list[np.ndarray]] = defaultdict(list)
    for estimand, runs_of in raw.items():
        by[estimand.split(" ")[0]].append(np.array(runs_of))
    return {estimand: _summary(parts) for estimand, parts in by.items()}


def _run(setting: Setting, world: World | None, seed: int) -> dict[str, tuple[float, ...]]:
    with threadpool_limits(1):
        return one_run(setting, world, seed)


def _summary(parts: list[np.ndarray]) -> dict[str, float]:
    hits, naive, widths, plain, oracle = [], [], [], [], []
    for figures in parts:
        known = figures[np.isfinite(figures[:, 1])]
        if len(known) < 10:
            continue
        value, low, high, alone, naive_low, naive_high, truth = known.T
        hits.append((low <= truth + 1e-9) & (truth - 1e-9 <= high))
        if np.isfinite(naive_low).any():
            naive.append((naive_low <= truth) & (truth <= naive_high))
        widths.append((high - low).mean())
        plain.append(np.nanmean(alone))
        oracle.append(3.92 * value.std() if np.isfinite(value).all() else np.nan)
    if not hits:
        return {"runs": 0}
    found = {
        "coverage": np.concatenate(hits).mean(),
        "naive_coverage": np.concatenate(naive).mean() if naive else np.nan,
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        found |= {
            "width": np.mean(widths),
            "width_ratio": np.sum(widths) / np.sum(plain),
            "oracle_ratio": np.sum(widths) / np.sum(oracle),
        }
    found["known"] = float(np.mean([np.isfinite(one[:, 1]).mean() for one in parts]))
    return {name: round(float(v), 4) if np.isfinite(v) else None for name, v in found.items()}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="replications of each setting")
    parser.add_argument("--quick", action="store_true", help="16 replications of two settings")
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"these alone: MVSA, {', '.join(settings())}")
    parser.add_argument("--mvsa", type=Path, metavar="FOLDER", help="MVSA-single, whose own labels are then the truth")
    args = parser.parse_args()
    known = settings(args.mvsa)
    names = args.only or (["random", "rare share"] if args.quick else list(known))
    if lacking := [name for name in names if name not in known]:
        parser.error(f"no setting {lacking[0]!r}; there are {', '.join(known)}")
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for name in names:
            start = time.perf_counter()
            found[name] = run(known[name], 16 if args.quick else args.runs, pool)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            for estimand, figures in found[name].items():
                print(f"  {estimand:12} " + "  ".join(f"{k} {v}" for k, v in figures.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
