"""params.yaml with all defaults filled in, a small file a section: python stages/settings.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.besides import of_others
from assay.errors import run_main
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = config.load(args.params)
    for key, value in (params.sections() | of_others(params)).items():
        write_json(value, args.out / f"{key}.json")


if __name__ == "__main__":
    run_main(main)
