"""Predictions of a joint student -> findings and brand tables of each task: python stages/joint_report.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.measure.csvfile import write_csv
from assay.posts import read, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joint", required=True)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="the folder of all tasks' labels")
    parser.add_argument("--split", type=Path, required=True, help="the split of the joint sample")
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--brands", type=Path, required=True, help="a folder: one table a task")
    args = parser.parse_args()
    from assay.measure.findings import brand_table, findings
    from assay.measure.report import correct

    tasks = config.load().members(args.joint)
    posts = args.corpora / next(iter(tasks.values())).corpus / "posts"
    brands = read(posts, ["brands"])["brands"].to_pylist()
    found = {}
    for name, task in tasks.items():
        table = read(args.predictions / name, ["post_id", "status", "value", "reason", "in_train"])
        corrected = correct(table, args.labels / f"{name}.parquet", args.split, task.target)
        least = task.report.min_posts
        found[name] = findings(table, brands, task.target, min_posts=least, corrected=corrected)
        rows = brand_table(table["value"].to_pylist(), brands, task.target, min_posts=least, corrected=corrected)
        write_csv(rows or [{"brand": None, "posts": None}], args.brands / f"{name}.csv")
    write_json(found, args.findings)


if __name__ == "__main__":
    run_main(main)
