"""Tables of several tasks -> what a joint student learns from: python stages/join.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.errors import run_main
from assay.progress import say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joint", required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    from assay.student.join import join

    tasks = config.load().members(args.joint)
    found = join(tasks, samples=args.samples, labels=args.labels, features=args.features, out=args.out)
    say(f"join: {found['posts']} posts, {found['labelled']} of them labelled for one or more of {', '.join(tasks)}")


if __name__ == "__main__":
    run_main(main)
