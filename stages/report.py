"""Predictions -> findings, tables, a page, data sheet and model card: python stages/report.py --help"""

import argparse
import json
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.config import own
from assay.errors import run_main
from assay.posts import beside, read, write_json

PREDICTED = ["post_id", "status", "value", "probabilities", "by_student", "fold", "reason", "in_train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="or a joint student: what is of a task is below each path")
    parser.add_argument("--corpora", type=Path, required=True, help="with posts and problems, in <corpus>/")
    parser.add_argument("--metrics", type=Path, required=True, help="the folder of what train and evaluate wrote")
    outs = {"brands": ".csv", "groups": ".csv", "colours": ".csv", "page": ".html", "sheets": ""}
    for name in ("labels", "people", "split", "sample", "predictions", "findings", "summary", *outs):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    from assay.measure.report import COLUMNS, Sources, report
    from assay.measure.summary import of_corpus
    from assay.teacher.privacy import veil_of

    params = config.load()
    tasks, found = params.members(args.task), {}
    stage = f"{'joint_report' if len(tasks) > 1 else 'report'}@{args.task}"
    corpus = args.corpora / next(iter(tasks.values())).corpus
    posts = read(corpus / "posts", COLUMNS)
    evaluated = json.loads((args.metrics / "evaluate.json").read_text())
    for name, task in tasks.items():
        predictions = read(own(args.predictions, name, tasks), PREDICTED)
        sources = Sources(
            posts=beside(predictions, posts),
            predictions=predictions,
            problems=corpus / "problems.parquet",
            labels=own(args.labels, name, tasks, ".parquet"),
            people=own(args.people, name, tasks, ".parquet"),
            split=args.split,
            sample=own(args.sample, name, tasks),
            evaluated=evaluated | evaluated.get(name, {}),
            errors=own(args.metrics / "errors", name, tasks).with_suffix(".parquet"),
            curves=args.metrics / "train" / "plots" / "metrics",
            plots=own(args.metrics / "plots", name, tasks),
            veil=veil_of(task, params.corpora[task.corpus]),
        )
        places = {out: own(getattr(args, out), name, tasks, suffix) for out, suffix in outs.items()}
        found[name] = report(name, params, sources, stage=stage, **places)
    short = {name: of_corpus(found[name], task.target) for name, task in tasks.items()}
    write_json(short if len(tasks) > 1 else short[args.task], args.summary)
    write_json(found if len(tasks) > 1 else found[args.task], args.findings)


if __name__ == "__main__":
    run_main(main)
