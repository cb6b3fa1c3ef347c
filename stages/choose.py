"""Which posts a diverse or active sample takes; nothing for other designs: python stages/choose.py --help"""

import argparse
from functools import partial
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.config import DESIGNS_WITH_FEATURES
from assay.corpora.where import images_root
from assay.errors import run_main
from assay.sampling import write_choice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--posts", type=Path, required=True)
    parser.add_argument("--rubrics", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = config.load()
    task = params.tasks[args.task]
    corpus = params.corpora[task.corpus]
    if task.sample.design not in DESIGNS_WITH_FEATURES:
        write_choice({}, args.out)
        return
    from assay.scoring.choose import choose  # brings torch, which other designs do not need
    from assay.teacher.annotate import annotate
    from assay.teacher.privacy import handles

    choose(
        args.posts,
        images_root(corpus, params.demo),
        args.out,
        task=task,
        student=params.students[task.student],
        max_pixels=corpus.max_pixels,
        ask=partial(
            annotate,
            settings=task.annotate,
            target=task.target,
            rubric=args.rubrics / task.annotate.rubric_file(args.task),
            task=args.task,
            keep_handles=handles(corpus),
            committed=args.labels,
        ),
    )


if __name__ == "__main__":
    run_main(main)
