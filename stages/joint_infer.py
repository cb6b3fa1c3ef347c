"""Score every post of the corpus for several tasks at once: python stages/joint_infer.py --help"""

import argparse
from pathlib import Path

from assay import config
from assay.corpora.where import images_root
from assay.errors import run_main
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joint", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--manifests", type=Path, required=True, help="say which state the images are in")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="one folder a task below it")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--machine", type=Path, help="for figures of this machine")
    parser.add_argument("--curves", type=Path, help="for curves of this machine")
    args = parser.parse_args()
    from assay.scoring.corpus import infer

    params = config.load()
    tasks = params.members(args.joint)
    first = next(iter(tasks.values()))
    corpus = params.corpora[first.corpus]
    found, log = infer(
        args.model,
        args.corpora / first.corpus / "posts",
        images_root(corpus, params.demo),
        args.split,
        {name: args.out / name for name in tasks},
        batch_size=first.infer.batch_size,
        max_pixels=corpus.max_pixels,
        manifest=args.manifests / f"{first.corpus}.json",
    )
    log.write(args.machine, args.curves, {})
    write_json(found, args.metrics)


if __name__ == "__main__":
    run_main(main)
