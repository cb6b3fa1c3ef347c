"""assay predict: score one post, posts of a corpus, or a stream of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from assay import config
from assay.buckets import Root, is_address, root_of
from assay.errors import CorpusError, SettingsError
from assay.progress import progress, say

if TYPE_CHECKING:
    from assay.scoring.streaming import Post, Stored


def columns_named(text: str) -> dict[str, str]:
    """Column names by `id`, `text` and `image`, in small letters; BadParameter for anything else."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    allowed = ("id", "text", "image")
    fits = isinstance(found, dict) and all(key in allowed and isinstance(name, str) for key, name in found.items())
    if not found or not fits:
        raise BadParameter(f"allowed: names of columns by {', '.join(allowed)}: '{{text: caption}}'")
    return {key: value.strip().lower() for key, value in found.items()}


@dataclass
class Asked:
    """What is to be scored, as it was asked on the command line."""

    sources: list[str]
    text: str | None
    images: list[Path]
    images_root: Root | None
    columns: dict[str, str] | None
    post_ids: list[str]
    corpus: str | None
    follow: bool
    every: float


def predict(
    model: Annotated[Path, Option(help="A model folder, such as models/sentiment.")],
    source: Annotated[
        list[str] | None,
        Argument(
            metavar="SOURCE",
            help="- for JSON lines on standard input, a CSV, TSV or JSONL table (columns id, text, image), a picture, "
            "or a folder of pictures with captions in text files of their names.",
        ),
    ] = None,
    text: Annotated[str | None, Option(help="The caption of one post.")] = None,
    image: Annotated[list[Path] | None, Option(help="A picture of it; may be repeated.")] = None,
    table: Annotated[str | None, Option(metavar="SOURCE", help="The same as a table among the sources.")] = None,
    images_root: Annotated[
        str | None,
        Option(
            metavar="PLACE",
            help="The folder, or the address such as s3://bucket/folder, that image paths count from and stay in.",
        ),
    ] = None,
    columns: Annotated[
        Any,
        Option(
            parser=columns_named,
            metavar="YAML",
            help="Which columns of a table hold id, text and image, such as '{text: caption, image: file}'.",
        ),
    ] = None,
    task: Annotated[str | None, Option(help="Which task, of a joint student.")] = None,
    post_id: Annotated[list[str] | None, Option(metavar="ID", help="A post of --corpus; may be repeated.")] = None,
    corpus: Annotated[str | None, Option(help="A corpus of params.yaml that has been ingested.")] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Add the answers to this file; those that it has stay.")
    ] = None,
    follow: Annotated[bool, Option("--follow", help="Then watch the last source, a table or folder.")] = False,
    every: Annotated[float, Option(help="Seconds between two looks at it.")] = 1.0,
) -> None:
    """Score posts with a trained student, one JSON line a post."""
    from assay.scoring.predict import Predictor
    from assay.scoring.streaming import Written, answers

    asked = Asked(
        [*(source or []), *([table] if table else [])],
        text,
        image or [],
        root_of(images_root) if images_root is not None else None,
        columns,
        post_id or [],
        corpus,
        follow,
        every,
    )
    stopped = threading.Event()
    posts, named = _asked(asked, stopped)
    if out and not named and not asked.post_ids:
        raise CorpusError("--out is for posts that have ids: name a table, a folder or - for JSON lines")
    if out and is_address(str(out).replace(":/", "://", 1)):
        raise CorpusError(f"--out {out}: allowed: a file of this machine")
    if out and any(out.exists() and Path(one).exists() and out.samefile(one) for one in named):
        raise CorpusError(f"--out {out} is what is to be scored; name another")
    written = Written(out) if out else None
    if written:
        posts = written.new(posts)
    write = written.write if written else _print
    predictor = Predictor.load(model, cached=not follow and "-" not in named)  # no end, no bound
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
            for row in answers(predictor, posts, task=task, stop=stopped.is_set):
                write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode())
                bar.update()
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for number in ends:
            signal.signal(number, before[number] or signal.SIG_DFL)
        if written:
            written.close()
    if written and written.skipped:
        say(f"predict: {written.skipped} posts have an id that {out} answers already; they were not scored again")

    if got and not follow:
        say("predict: stopped before the end")
        raise SystemExit(128 + got[0])


def _print(line: str) -> None:
    print(line, flush=True)


def _asked(asked: Asked, stopped: threading.Event) -> tuple[Iterator[Post], list[str]]:
    """The posts that the arguments name, and the sources; CorpusError where there are none, or too many ways."""
    from assay.scoring import sources
    from assay.scoring.streaming import Post

    named = list(asked.sources)
    ways = [bool(named), bool(asked.post_ids), asked.text is not None or bool(asked.images)]
    if sum(ways) > 1:
        raise CorpusError("give sources, or --post-id with --corpus, or --text and --image of one post: one of these")
    if asked.follow and (not named or named[-1] == "-"):
        raise CorpusError("--follow: name a table or a folder to watch; standard input is read as it comes anyway")
    if not asked.every > 0:
        raise SettingsError(f"--every {asked.every}: allowed: more than 0 seconds")
    if asked.post_ids:
        return iter(_posts(asked.corpus, asked.post_ids)), []
    if not named:
        if not any(ways):
            raise CorpusError(
                "nothing to score: give --text, --image, a table, a folder or - for JSON lines, or --post-id with "
                "--corpus"
            )
        return iter([Post("", asked.text or "", list(asked.images))]), []
    wait = sources.every(asked.every, stopped.is_set) if asked.follow else sources.no_more
    last, columns = len(named) - 1, {**sources.OWN, **(asked.columns or {})}
    for at, name in enumerate(named):
        if name != "-":
            watched = asked.follow and at == last
            named[at] = str(sources.here(name, watched=watched))
            sources.check(Path(named[at]), watched=watched)
    parts = [
        sources.standard_input(sys.stdin.buffer, asked.images_root, columns)
        if name == "-"
        else sources.of(Path(name), asked.images_root, wait if at == last else sources.no_more, columns)
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
