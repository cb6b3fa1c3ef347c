"""The training entry of a SageMaker container: channels and hyperparameters in, a model folder out.

Channels are folders of a table (`*.csv`, `*.jsonl` or `*.parquet`; columns text, image_path and labels by default)
with its pictures: `train`, and where they are given `validation` and `test`. Without `test`, `validation` is what
figures are measured on, and a part of `train` decides when to stop; with `train` alone, the posts are split anew. The
way of the posts is the pipeline's: ingest, gold labels, split by leakage groups, features, fit, calibration.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from assay.authors import author_key
from assay.config import Demo, TableCorpus
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.encode.extract import embed
from assay.errors import DataError, run_main
from assay.measure.evaluate import evaluate
from assay.posts import read, write_json, write_table
from assay.progress import say
from assay.sampling import write_sample
from assay.scoring.judge import judge
from assay.serve.sagemaker.hyperparameters import CHANNELS, parse, student_of, task_of
from assay.serve.sagemaker.pack import add_code
from assay.splits import split
from assay.student.card import write_card
from assay.student.learn import Lesson, learn
from assay.targets import KINDS, NAMES
from assay.teacher.annotate import annotate

COLUMNS = ("post_id", "text", "author", "text_sig", "image_sig", "split")


def main() -> None:
    """What the container starts."""
    run_main(lambda: train(parse()))


def train(args: argparse.Namespace) -> None:
    """Train, evaluate where there is a test split, and write the model folder; DataError where data do not fit."""
    with tempfile.TemporaryDirectory(prefix="assay-sagemaker-") as folder:
        work = Path(folder)
        table, root = _joined(args, work)
        task, student = task_of(args, official=table["split"].nunique() > 1), student_of(args)
        corpus = _corpus(work / "posts.parquet", root)
        rules = Rules(
            corpus=args.name,
            author_key=author_key(),
            check_images="full",
            max_pixels=corpus.max_pixels,
            shard_posts=corpus.shard_posts,
            brands={},
        )
        found = ingest(open_corpus(corpus, Demo()), rules, posts=work / "posts", problems=work / "problems.parquet")
        say(f"train: {found['posts']} posts; problems: {json.dumps(found.get('problems', {}))}")
        sample, labels, parts = work / "sample", work / "labels.parquet", work / "split.parquet"
        write_sample(work / "posts", root, sample, settings=task.sample, max_pixels=corpus.max_pixels)
        annotate(sample, labels, settings=task.annotate, target=task.target, rubric=work, task=args.name)
        known = pq.read_table(labels, columns=["post_id", "status", "value"]).to_pylist()
        write_table(split(read(sample, COLUMNS).to_pylist(), known, task.split, task.target), parts)
        made = {"image_px": task.sample.image_px, "max_images": task.sample.max_images}
        embed(sample, work / "features", student=student, **made)
        lesson = Lesson(
            name=args.name,
            targets={args.name: task.target},
            student=student,
            settings=task.train,
            features=work / "features",
            labels={args.name: labels},
            split=parts,
            sample=sample,
        )
        learn(lesson, args.model_dir, lambda trained: write_card(trained, {args.name: task}), _told)
        add_code(args.model_dir)
        _, test = judge(args.model_dir, sample, work / "features", labels, parts, task=args.name, slices=[])
        figures = evaluate(test, task.target)
        main_figure = "f1_macro"
        value = figures[main_figure]
        say(f"test {main_figure}={value['value']:.4f} [{value['low']}, {value['high']}] on {figures['n']} posts")
        if args.output_data_dir is not None:
            write_json(figures, args.output_data_dir / "evaluate.json")


def _told(figures: dict[str, Any]) -> None:
    """A line an epoch, as a job's metric definitions can find it."""
    say(" ".join(f"{name}={value:.4f}" for name, value in figures.items() if isinstance(value, float)))


def _joined(args: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, Path]:
    """The tables of all channels as one, with paths of pictures that count from a common folder."""
    parts = []
    given = {name: getattr(args, name) for name in CHANNELS if getattr(args, name) is not None}
    if "train" not in given:
        raise DataError("no channel train: SM_CHANNEL_TRAIN is not set; give the job an input named train")
    root = Path(os.path.commonpath([path.resolve() for path in given.values()]))
    for channel, folder in given.items():
        table = _table(folder)
        wanted = (args.text_column, args.image_column, args.label_column)
        lacking = [name for name in wanted if name not in table.columns]
        if lacking:
            have = ", ".join(map(str, table.columns))
            raise DataError(f"channel {channel}: no column {', '.join(lacking)}; the table has {have}")
        own = pd.DataFrame(
            {
                "id": [f"{channel}-{number}" for number in range(len(table))],
                "text": table[args.text_column].fillna("").astype(str),
                "image": [_picture(folder, root, name) for name in table[args.image_column].fillna("")],
                "label": table[args.label_column].fillna("").astype(str),
            }
        )
        own["label"] = own["label"].map(lambda told: told.strip() or ("[]" if KINDS[args.kind].shape == NAMES else ""))
        own["split"] = channel if "test" in given or channel == "train" else "test"
        parts.append(own)
    joined = pd.concat(parts, ignore_index=True)
    joined.to_parquet(work / "posts.parquet", index=False)
    return joined, root


def _table(folder: Path) -> pd.DataFrame:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".csv", ".tsv", ".jsonl", ".parquet"))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise DataError(f"{folder}: one table (.csv, .tsv, .jsonl or .parquet) is wanted; there is {names}")
    path = files[0]
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)


def _picture(folder: Path, root: Path, name: str) -> str | None:
    """The path of a picture from the common folder; it may stand beside the table or in `images/`."""
    if not name:
        return None
    for base in (folder, folder / "images"):
        if (base / name).is_file():
            return str((base.resolve() / name).relative_to(root))
    return str((folder.resolve() / name).relative_to(root))


def _corpus(table: Path, root: Path) -> TableCorpus:
    columns = {"id": "id", "text": "text", "image": "image", "split": "split", "gold": {"label": "label"}}
    made = {"kind": "table", "path": str(table), "images_root": str(root), "columns": columns, "check_images": "full"}
    return TableCorpus.model_validate(made)
