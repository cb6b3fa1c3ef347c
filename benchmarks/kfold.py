"""Grouped k-fold (or the official split) of one student and its baselines on a labelled corpus, over several seeds.

    python benchmarks/kfold.py --path /data/mvsa_single --kind mvsa --column sentiment
    python benchmarks/kfold.py --path /data/memes --kind table --official --target labels --column labels \\
        --columns '{id: id, text: text, image: image, split: (file), gold: {labels: labels}}'

In a k-fold every post is predicted once, by models that saw no post of its leakage group; the student is what the
pipeline trains on the rest, by default the mean of five students of cross-fitting (`--set train.crossfit=0`: one).
Figures are of these out-of-fold predictions, pooled; intervals are 95 % bootstrap intervals by group. For the
student they are of the first seed, with the mean and the spread over seeds beside them. Prints one JSON object as
its last line. `--random` adds a leaking random split, to show what it would have claimed; `--choose` leaves
out the first fold's test posts, for comparing settings on the others; `--first` is one fold alone, for what takes long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from assay import config
from assay.config import Params, Task
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.corpora.where import images_root
from assay.encode import features as feature_files
from assay.encode.extract import embed
from assay.errors import RowError, run_main
from assay.measure import metrics
from assay.measure.evaluate import evaluate
from assay.measure.judged import Judged
from assay.posts import read, write_table
from assay.sampling import write_sample
from assay.scoring.judge import compare, seen_by
from assay.splits import split
from assay.student.learn import Lesson, train_one
from assay.student.parts import Part, parts_by_split
from assay.student.trained import Trained
from assay.teacher.annotate import annotate


class Prepared:
    """The labelled corpus: ids, features, words and the tables in the work folder."""

    def __init__(self, params: Params, name: str, work: Path, *, baselines: bool = True) -> None:
        self.baselines = baselines
        self.name, self.task, self.work = name, params.tasks[name], work
        corpus = params.corpora[self.task.corpus]
        rules = Rules(self.task.corpus, b"benchmark", corpus.check_images, corpus.max_pixels, corpus.shard_posts)
        self.accounting = ingest(
            open_corpus(corpus, params.demo), rules, posts=work / "posts", problems=work / "problems.parquet"
        )
        root = images_root(corpus, params.demo)
        write_sample(work / "posts", root, work / "sample", settings=self.task.sample, max_pixels=corpus.max_pixels)
        annotate(
            work / "sample",
            work / "labels.parquet",
            settings=self.task.annotate,
            target=self.task.target,
            rubric=Path("rubrics/none.md"),
        )
        self.student = params.students[self.task.student]
        embed(
            work / "sample",
            work / "features",
            student=self.student,
            image_px=self.task.sample.image_px,
            max_images=self.task.sample.max_images,
        )
        self.ids, self.features, self.made = feature_files.load(work / "features")
        columns = ("post_id", "text", "author", "text_sig", "image_sig", "split")
        self.sample = read(work / "sample", columns).to_pylist()
        self.labels = pq.read_table(work / "labels.parquet", columns=["post_id", "status", "value"]).to_pylist()


def trained_on(data: Prepared, task: Task, seed: int) -> tuple[Trained, dict[str, Part]]:
    """Split, and train on what is not the test part of one fold; the parts of the split beside it."""
    settings = task.train.model_copy(update={"seed": seed})
    table, path = split(data.sample, data.labels, task.split, task.target), data.work / "split.parquet"
    write_table(table, path)
    labels, targets = {data.name: data.work / "labels.parquet"}, {data.name: task.target}
    raw = data.work / "sample"
    sample = raw if data.student.tuned else None
    parts = parts_by_split(data.ids, data.features, labels, path, targets, sample=sample)
    lesson = Lesson(data.name, targets, data.student, settings, data.work / "features", labels, path, sample)
    learnt = {name: part for name, part in parts.items() if name != "test"}  # students of cross-fitting share the rest
    trained = train_one(lesson, settings, learnt, data.made, None)
    if data.student.tuned:  # encoders that learnt are read from the folder
        trained.save(Path(tempfile.mkdtemp(dir=data.work)), card="")
    return trained, parts


def judged(data: Prepared, task: Task, trained: Trained, parts: dict[str, Part], *, baselines: bool) -> Judged:
    """What a student and the baselines say of the test part of one fold."""
    raw = data.work / "sample"

    def predict(part: Part) -> np.ndarray:
        return trained.model.predict(seen_by(trained, part.features, raw, part.ids))[data.name]

    test = compare(parts, task.target, data.name, predict, baselines=baselines)
    at = trained.model.thresholds(data.name)
    if at is not None:
        test.thresholds["student"] = at
    return test


def one_fold(data: Prepared, task: Task, seed: int) -> Judged:
    """Split, train and predict the test part of one fold with one seed."""
    trained, parts = trained_on(data, task, seed)
    return judged(data, task, trained, parts, baselines=data.baselines and seed == 1)  # no seed in them


def fold_of(task: Task, folds: int, fold: int) -> Task:
    """The task with one of several folds as its test split."""
    update = {"folds": folds, "fold": fold, "train": 0.8, "val": 0.1, "calibration": 0.05, "test": 0.05}
    return task.model_copy(update={"split": task.split.model_copy(update=update)})


def without_first_fold(data: Prepared, folds: int) -> None:
    """Leave only the posts that are not tested in the first fold, to choose settings on."""
    task = fold_of(data.task, folds, 0)
    rows = split(data.sample, data.labels, task.split, task.target).to_pylist()
    tested = {row["post_id"] for row in rows if row["split"] == "test"}
    data.sample = [row for row in data.sample if row["post_id"] not in tested]
    data.labels = [row for row in data.labels if row["post_id"] not in tested]


def pooled(data: Prepared, folds: int, seed: int) -> Judged:
    """The out-of-fold predictions of all folds, as one test."""
    tests = [one_fold(data, fold_of(data.task, folds, fold), seed) for fold in range(folds)]
    return Judged(
        np.concatenate([t.y for t in tests]),
        np.concatenate([t.weights for t in tests]),
        np.concatenate([t.group for t in tests]),
        np.concatenate([t.student for t in tests]),
        {name: np.concatenate([t.baselines[name] for t in tests]) for name in tests[0].baselines},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="the corpus")
    parser.add_argument("--kind", default="mvsa", help="its kind, as in params.yaml")
    parser.add_argument("--columns", help="the column map of a table, as YAML")
    parser.add_argument("--column", default="sentiment", help="its gold column")
    parser.add_argument("--target", choices=["classes", "labels"], help="default: the target of the task")
    parser.add_argument("--names", nargs="*", help="of classes or labels; default: those that the gold column has")
    parser.add_argument("--task", default="sentiment", help="the task of params.yaml whose settings are used")
    parser.add_argument("--official", action="store_true", help="the corpus' own split instead of folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-baselines", action="store_true", help="the student alone; quicker")
    parser.add_argument("--choose", action="store_true", help="folds of the first fold's training part alone")
    parser.add_argument("--first", action="store_true", help="the first fold alone")
    parser.add_argument("--random", action="store_true", help="also a random split that lets duplicates leak")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="train.*, head.*, text.* … to change")
    parser.add_argument("--quick", action="store_true", help="2 folds, 1 seed, 400 posts")
    args = parser.parse_args()
    params = load_params(args)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="assay-kfold-") as work:
        data = Prepared(params, args.task, Path(work), baselines=not args.no_baselines)
        folds, seeds = (2, 1) if args.quick else (args.folds, args.seeds)
        if args.choose:
            without_first_fold(data, folds)

        def run(seed: int) -> Judged:
            if args.official:
                return one_fold(data, data.task, seed)
            return one_fold(data, fold_of(data.task, folds, 0), seed) if args.first else pooled(data, folds, seed)

        found = summary([run(seed) for seed in range(1, seeds + 1)], data.task)
        if args.random:
            data.task = data.task.model_copy(update={"split": data.task.split.model_copy(update={"group_by": []})})
            found["leaking_random_split"] = summary([run(seed) for seed in range(1, seeds + 1)], data.task)
        found |= {
            "accounting": data.accounting,
            "folds": None if args.official else 1 if args.first else folds,
            "seeds": seeds,
            "seconds": round(time.perf_counter() - started, 1),
        }
    print(json.dumps(found))


def summary(tests: list[Judged], task: Task) -> dict[str, Any]:
    """Figures of the first seed with intervals, and mean and deviation over the seeds."""
    found = evaluate(tests[0], task.target)
    names = [n for n, f in found.items() if isinstance(f, dict) and set(f) == {"value", "low", "high"}]
    by_seed = [metrics.point(t.y, t.student, t.weights, task.target, t.thresholds.get("student")) for t in tests]
    for name in names:
        values = [figures[name] for figures in by_seed]
        found[name] |= {"mean": round(float(np.mean(values)), 4), "sd": round(float(np.std(values)), 4)}
    found["mean_over_seeds"] = {n: found[n]["mean"] for n in names}
    return found


def params_of(*, quick: bool, **told: Any) -> Params:
    """The settings that the command line would give; what is not told has its default, quick ones learn 3 epochs."""
    plain = {"kind": "mvsa", "columns": None, "column": "sentiment", "target": None, "names": None, "task": "sentiment"}
    return load_params(
        argparse.Namespace(**plain | {"quick": quick, "set": ["train.epochs=3"] if quick else []} | told)
    )


def load_params(args: argparse.Namespace) -> Params:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    corpus = {"kind": args.kind, "path": str(Path(args.path).resolve()), "check_images": "header"}
    if args.columns:
        corpus["columns"] = yaml.safe_load(args.columns)
    raw["corpora"]["benchmark"] = corpus
    task = raw["tasks"][args.task]
    task |= {"corpus": "benchmark", "annotate": {"from": "column", "column": args.column}}
    if args.target:
        task["target"] = {"kind": args.target, "names": args.names or _names(raw, args)}
        task["train"]["metric"] = "loss"
    task["sample"] |= {"design": "random" if args.quick else "all", "posts": 400}
    for pair in args.set:
        key, value = pair.split("=", 1)
        section, name = key.split(".", 1) if "." in key else ("train", key)
        student = raw["students"][task["student"]]
        place = task[section] if section in task else student[section]
        place[name] = yaml.safe_load(value)
    return _load(raw)


def _names(raw: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """The classes or labels that the gold column has."""
    raw = raw | {"tasks": {}}
    params = _load(raw)
    layout = open_corpus(params.corpora["benchmark"], params.demo)
    found: set[str] = set()
    for row in layout.rows():
        try:
            gold = layout.parse(row).gold.get(args.column)
        except RowError:
            continue
        if gold:
            found |= set(json.loads(gold)) if args.target == "labels" else {gold}
    return sorted(found)


def _load(raw: dict[str, Any]) -> Params:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(yaml.safe_dump(raw))
        file.flush()
        return config.load(file.name)


if __name__ == "__main__":
    run_main(main)
