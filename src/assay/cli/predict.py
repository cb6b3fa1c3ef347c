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
from assay.buckets import Root, is_address, root_of
from assay.errors import CorpusError, SettingsError
from assay.progress import progress, say

if TYPE_CHECKING:
    from assay.scoring.streaming import Post, Stored


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
    predict.add_argument(
        "--images-root",
        type=root_of,
        help="the folder, or the address such as s3://bucket/folder, that image paths count from and stay in",
    )
    predict.add_argument(
        "--columns",
        type=columns_named,
        metavar="YAML",
        help="which columns of a table hold id, text and image, such as '{text: caption, image: file}'",
    )
    predict.add_argument("--task", help="which task, of a joint student")
    predict.add_argument("--post-id", action="append", default=[], help="a post of --corpus; may be repeated")
    predict.add_argument("--corpus", help="a corpus of params.yaml that has been ingested")
    predict.add_argument("--out", type=Path, help="add the answers to this file; those that it has stay")
    predict.add_argument("--follow", action="store_true", help="then watch the last source, a table or folder")
    predict.add_argument("--every", type=float, default=1.0, help="seconds between two looks at it; default: 1")
    predict.set_defaults(run=_predict)


def columns_named(text: str) -> dict[str, str]:
    """Column names by `id`, `text` and `image`, in small letters; SettingsError for anything else."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    allowed = ("id", "text", "image")
    fits = isinstance(found, dict) and all(key in allowed and isinstance(name, str) for key, name in found.items())
    if not found or not fits:
        raise argparse.ArgumentTypeError(f"allowed: names of columns by {', '.join(allowed)}: '{{text: caption}}'")
    return {key: value.strip().lower() for key, value in found.items()}


def _predict(args: argparse.Namespace) -> None:
    from assay.scoring.predict import Predictor
    from assay.scoring.streaming import Written, answers

    stopped = threading.Event()
    posts, named = _asked(args, stopped)
    if args.out and not named and not args.post_id:
        raise CorpusError("--out is for posts that have ids: name a table, a folder or - for JSON lines")
    if args.out and is_address(str(args.out).replace(":/", "://", 1)):
        raise CorpusError(f"--out {args.out}: allowed: a file of this machine")
    if args.out and any(args.out.exists() and Path(one).exists() and args.out.samefile(one) for one in named):
        raise CorpusError(f"--out {args.out} is what is to be scored; name another")
    out = Written(args.out) if args.out else None
    if out:
        posts = out.new(posts)
    write = out.write if out else _print
    predictor = Predictor.load(args.model, cached=not args.follow and "-" not in named)  # no end, no bound
    ends = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in ends}
    got: list[int] = []

    def stop(number: int, _: object) -> None:
        got.append(number)
        stopped.set()
        for one in ends:  # the second time it is obeyed at once
            signal.signal(one, before[one] or signal.SIG_DFL)

    for number in ends:
        signal.signal(number, stop)
    try:
        with progress(what="predict") as bar:
            for row in answers(predictor, posts, task=args.task, stop=stopped.is_set):
                write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode())
                bar.update()
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for number in ends:
            signal.signal(number, before[number] or signal.SIG_DFL)
        if out:
            out.close()
    if out and out.skipped:
        say(f"predict: {out.skipped} posts have an id that {args.out} answers already; they were not scored again")

    if got and not args.follow:
        say("predict: stopped before the end")
        raise SystemExit(128 + got[0])


def _print(line: str) -> None:
    print(line, flush=True)


def _asked(args: argparse.Namespace, stopped: threading.Event) -> tuple[Iterator[Post], list[str]]:
    """The posts that the arguments name, and the sources; CorpusError where there are none, or too many ways."""
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
        return iter(_posts(args.corpus, args.post_id)), []
    if not named:
        if not any(ways):
            raise CorpusError(
                "nothing to score: give --text, --image, a table, a folder or - for JSON lines, or --post-id with "
                "--corpus"
            )
        return iter([Post("", args.text or "", list(args.image))]), []
    wait = sources.every(args.every, stopped.is_set) if args.follow else sources.no_more
    last, columns = len(named) - 1, {**sources.OWN, **(args.columns or {})}
    for at, name in enumerate(named):
        if name != "-":
            watched = args.follow and at == last
            named[at] = str(sources.here(name, watched=watched))
            sources.check(Path(named[at]), watched=watched)
    parts = [
        sources.standard_input(sys.stdin.buffer, args.images_root, columns)
        if name == "-"
        else sources.of(Path(name), args.images_root, wait if at == last else sources.no_more, columns)
        for at, name in enumerate(named)
    ]
    return chain.from_iterable(parts), named


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
        row["post_id"]: Post(row["post_id"], row["text"], [_image(root, path) for path in row["images"]])
        for batch in stream(folder, ["post_id", "text", "images"])
        for row in batch
        if row["post_id"] in set(wanted)
    }
    for one in wanted:
        if one not in there:
            raise CorpusError(f"--post-id {one}: {folder} has no such post")
    note_read("predict", corpus, len(wanted))
    return [there[one] for one in wanted]


def _image(root: Root, relative: str) -> Path | Stored:
    from assay.scoring.streaming import Stored

    return root / relative if isinstance(root, Path) else Stored(root, relative)
