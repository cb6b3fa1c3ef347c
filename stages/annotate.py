"""Sample -> labels, from a teacher or from a column: python stages/annotate.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.corpora.brand_file import brand_index
from assay.errors import run_main
from assay.machine import read_figures, write_figures
from assay.posts import write_json
from assay.progress import report_to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--rubrics", type=Path, required=True)
    parser.add_argument("--humans", type=Path, required=True)
    parser.add_argument("--people", type=Path, help="where what people said goes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--progress", type=Path, help="a file that says how far it is, while it runs")
    parser.add_argument("--machine", type=Path, help="for figures of this machine; else they stand among the others")
    args = parser.parse_args()
    from assay.teacher.annotate import annotate, brief_of
    from assay.teacher.privacy import handles

    report_to(args.progress, "annotate")
    params = config.load()
    task = params.tasks[args.task]
    rubric = args.rubrics / task.annotate.rubric_file(args.task)
    found = annotate(
        args.sample,
        args.out,
        settings=task.annotate,
        target=task.target,
        rubric=rubric,
        task=args.task,
        keep_handles=handles(params.corpora[task.corpus]),
        humans=args.humans / f"{args.task}.csv",
        people_out=args.people,
        company={
            name: brief_of(name, params.tasks[name], params.corpora[task.corpus], args.rubrics)
            for name in task.annotate.ask_with
        },
        dictionary=brand_index(params.corpora[task.corpus]) if task.annotate.brands else None,
    )
    now = {name: found.pop(name) for name in ("asked", "from_store")}  # another run's may differ: not tracked
    now |= found.pop("speed", {})
    if args.machine:
        write_figures(args.machine, "annotate", read_figures(args.machine, "annotate") | now)
    write_json(found if args.machine else found | now, args.metrics)


if __name__ == "__main__":
    run_main(main)
