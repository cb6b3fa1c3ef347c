"""Digests of the code that every stage can reach, comments and docstrings left out: python stages/digests.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay.code import reached
from assay.errors import run_main
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for script in sorted(args.stages.glob("[!_]*.py")):
        write_json(reached(script), args.out / f"{script.stem}.json")


if __name__ == "__main__":
    run_main(main)
