"""assay predict: score one post, posts of a corpus, or a stream of them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import config
from assay.errors import CorpusError, SettingsError
from assay.progress import progress, say

if TYPE_CHECKING:
    from assay.scoring.streaming import Post


def add_predict(commands: Any) -> None:
    """Add `predict` to the command line."""
    predict = commands.add_parser("predict", help="score posts with a trained student, one JSON line a post")
    predict.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="- for JSON lines on standard input, a CSV, TSV or JSONL table (columns id, text, image), a picture, or a "
        "folder of pictures with captions in text files of their names",
    )
    predict.add_argument("--model", type=Path, required=True, help="a model folder, such as models/sentiment")
    predict.add_argument("--text", help="the caption of one post")
    predict.add_argument("--image", type=Path, action="append", default=[], help="a picture of it; may be repeated")
    predict.add_argument("--table", help="the same as a table among the sources")
    predict.add_argument("--images-root", type=Path, default=Path(), help="the folder that image paths count from")
    predict.add_argument("--task", help="which task, of a joint student")
    predict.add_argument("--post-id", action="append", default=[], help="a post of --corpus; may be repeated")
    predict.add_argument("--corpus", help="a corpus of params.yaml that has been ingested")
    predict.add_argument("--out", type=Path, help="add the answers to this file; those that it has stay")
    predict.add_argument("--follow", action="store_true", help="then watch the last source, a table or folder")
    predict.add_argument("--every", type=float, default=1.0, help="seconds between two looks at it; default: 1")
    predict.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> None:
    from assay.scoring.predict import Predictor
    from assay.scoring.streaming import Written, answers

    stopped = threading.Event()
    posts = _asked(args, stopped)
    out = Written(args.out) if args.out else None
    if out:
        posts = out.new(posts)
    write = out.write if out else _print
    predictor = Predictor.load(args.model)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress(what="predict") as bar:
            for row in answers(predictor, posts, task=args.task, stop=stopped.is_set):
                write(json.dumps(row, ensure_ascii=False))
                bar.update()
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if out:
            out.close()
    if out and out.skipped:
        say(f"predict: {out.skipped} posts have an id that {args.out} answers already; they were not scored again")


def _print(line: str) -> None:
    print(line, flush=True)


def _asked(args: argparse.Namespace, stopped: threading.Event) -> Iterator[Post]:
    """The posts that the arguments name; CorpusError where there are none, or too many ways."""
    from assay.scoring import sources
    from assay.scoring.streaming import Post

    named = [*args.sources, *([args.table] if args.table else [])]
    ways = [bool(named), bool(args.post_id), args.text is not None or bool(args.image)]
    if sum(ways) > 1:
        raise CorpusError("give sources, or --post-id with --corpus, or --text and --image of one post: one of these")
    if args.follow and (not named or named[-1] == "-"):
        raise CorpusError("--follow: name a table or a folder to watch; standard input is read as it comes anyway")
    if not args.every > 0:
        raise SettingsError(f"--every {args.every}: allowed: more than 0 seconds")
    if args.post_id:
        return iter(_posts(args.corpus, args.post_id))
    if not named:
        if not any(ways):
            raise CorpusError(
                "nothing to score: give --text, --image, a table, a folder or - for JSON lines, or --post-id with "
                "--corpus"
            )
        return iter([Post("", args.text or "", list(args.image))])
    wait = sources.every(args.every, stopped.is_set) if args.follow else sources.no_more
    parts = [
        sources.standard_input(sys.stdin.buffer, args.images_root)
        if name == "-"
        else sources.of(Path(name), args.images_root, wait if name == named[-1] else sources.no_more)
        for name in named
    ]
    return chain.from_iterable(parts)


def _posts(corpus: str | None, wanted: list[str]) -> list[Post]:
    """Posts of an ingested corpus by their ids, in the order asked."""
    from assay.corpora.where import images_root
    from assay.posts import stream
    from assay.reads import note_read
    from assay.scoring.streaming import Post

    params = config.load()
    if corpus not in params.corpora:
        raise SettingsError(f"--corpus {corpus}: name one of params.yaml: {', '.join(params.corpora)}")
    root = images_root(params.corpora[corpus], params.demo)
    folder = Path("data") / "corpora" / corpus / "posts"
    there = {
        row["post_id"]: Post(row["post_id"], row["text"], [root / path for path in row["images"]])
        for batch in stream(folder, ["post_id", "text", "images"])
        for row in batch
        if row["post_id"] in set(wanted)
    }
    for one in wanted:
        if one not in there:
            raise CorpusError(f"--post-id {one}: {folder} has no such post")
    note_read("predict", corpus, len(wanted))
    return [there[one] for one in wanted]
