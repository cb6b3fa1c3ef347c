"""Which posts a diverse or active sample takes; nothing for other designs: python stages/choose.py --help"""

import argparse
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
    from assay.teacher.privacy import handles

    params = config.load()
    task = params.tasks[args.task]
    corpus = params.corpora[task.corpus]
    if task.sample.design not in DESIGNS_WITH_FEATURES:
        write_choice({}, args.out)
        return
    from assay.scoring.choose import choose  # brings torch, which other designs do not need

    choose(
        args.posts,
        images_root(corpus, params.demo),
        args.out,
        name=args.task,
        task=task,
        student=params.students[task.student],
        max_pixels=corpus.max_pixels,
        rubric=args.rubrics / f"{task.annotate.rubric or args.task}.md",
        committed=args.labels,
        keep_handles=handles(corpus),
    )


if __name__ == "__main__":
    run_main(main)
