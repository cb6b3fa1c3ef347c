"""params.yaml with all defaults filled in, a small file a section: python stages/settings.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.errors import run_main
from assay.places import files_digest, start_folder
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = config.load(args.params)
    sections = params.sections()
    for name, task in params.tasks.items():
        if task.train.start_from:  # what a student starts from is a setting of it
            sections[f"tasks/{name}/train"]["start"] = files_digest(start_folder(task.train.start_from))
    for key, value in sections.items():
        write_json(value, args.out / f"{key}.json")


if __name__ == "__main__":
    run_main(main)
