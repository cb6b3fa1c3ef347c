"""Prompts -> images of an audit, each made once: python stages/generate.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.audit.generate import generate
from assay.errors import run_main
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audit", required=True)
    parser.add_argument("--activities", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    params = config.load()
    audit = params.audits[args.audit]
    generator = params.generators[audit.generator]
    write_json(generate(audit, generator, args.activities, args.out), args.metrics)


if __name__ == "__main__":
    run_main(main)
