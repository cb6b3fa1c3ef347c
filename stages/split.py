"""Labels -> train, val, calibration, test without leaks: python stages/split.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401
import pyarrow.parquet as pq

from assay import config
from assay.errors import run_main
from assay.posts import read, write_json, write_table

COLUMNS = ("post_id", "text", "author", "text_sig", "image_sig", "split")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    from assay.splits import leak_figures, split

    task = config.load().tasks[args.task]
    labels = pq.read_table(args.labels, columns=["post_id", "status", "value"]).to_pylist()
    table = split(read(args.sample, COLUMNS).to_pylist(), labels, task.split, task.target)
    write_table(table, args.out)
    write_json(leak_figures(table), args.metrics)


if __name__ == "__main__":
    run_main(main)
