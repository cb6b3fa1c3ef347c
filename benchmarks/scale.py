"""A million posts from raw files to findings, with the process killed every few minutes: is every row accounted for?

    python benchmarks/scale.py --model models/sentiment [--data /data/mvsa_single] [--posts 1000000] [--scored 100000]
    python benchmarks/scale.py --model models/sentiment --quick

Writes a corpus of JSON posts in the layout of the Instagram brand release, each with a caption of its own and a link to
one of a few thousand pictures (real ones with --data, else drawn ones), and ingests it; scores the first --scored posts
in processes of their own that get kill -9 after --kill-s seconds each, until one comes through; then reports on as many
predictions as there are posts (whole_report.py). The last line is one JSON object: `accounted` is whether posts and
dropped rows are the source's rows, and predictions the scored posts, each once and in order; `shards_twice` how many
finished shards were computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from ingest import PeakMemory, write

from assay.corpora.demo import ensure_drawn
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.posts import read, span, write_table

HERE = Path(__file__).resolve().parent
PICTURES = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained student, such as models/sentiment")
    parser.add_argument("--data", type=Path, help="MVSA-single, for real pictures")
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--scored", type=int, default=100_000)
    parser.add_argument("--kill-s", type=float, default=180.0)
    parser.add_argument("--quick", action="store_true", help="4,000 posts, 600 of them scored, a kill every 12 s")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        score(args.child, args.model)
        return
    if args.quick:
        args.posts, args.scored, args.kill_s = 4000, 600, 12.0
    with tempfile.TemporaryDirectory(prefix="assay-scale-", dir=os.environ.get("TMPDIR")) as folder:
        work = Path(folder)
        found = ingested(work, args) | scored(work, args) | reported(args)
    print(json.dumps(found))


def ingested(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write the corpus and read it."""
    pictures = sorted((args.data / "data").glob("*.jpg"))[:PICTURES] if args.data else drawn(work)
    copies = work / "pictures"
    copies.mkdir()
    own = [Path(shutil.copy(path, copies / f"{number}.jpg")) for number, path in enumerate(pictures)]
    (work / "corpus").mkdir()
    write(work / "corpus", args.posts, own)
    rules = Rules("scale", b"key", check_images="none")
    start = time.perf_counter()
    with PeakMemory() as memory:
        told = ingest(Instagram(work / "corpus"), rules, posts=work / "posts", problems=work / "problems.parquet")
    took = time.perf_counter() - start
    return {
        "posts": told["posts"],
        "ingest_accounted": told["source_rows"] == args.posts == told["posts"] + told["dropped"]["total"],
        "ingest_posts_per_s": round(args.posts / took),
        "ingest_peak_mib": round(memory.peak / 2**20),
    }


def drawn(work: Path) -> list[Path]:
    """Drawn pictures."""
    ensure_drawn(work / "demo", posts=300, seed=1)
    return sorted((work / "demo").rglob("*.jpg"))


def scored(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Score in processes that are killed, until one comes through."""
    first = span(work / "posts", 0, args.scored, ["post_id", "text", "images", "author", "duplicate_of"])
    write_table(first, work / "first" / "part-00000.parquet")
    split = {"post_id": pa.nulls(0, pa.string()), "split": pa.nulls(0, pa.string())}
    write_table(pa.table(split), work / "split.parquet")
    waiting = work / "home" / "inference"
    env = {**os.environ, "ASSAY_HOME": str(work / "home")}
    command = [sys.executable, __file__, "--child", str(work), "--model", str(args.model)]
    seen: dict[str, int] = {}
    kills = twice = peak = 0
    start = time.perf_counter()
    while True:
        with PeakMemory() as memory:
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
            kills += killed(process, args.kill_s, waiting, len(seen))
        peak = max(peak, memory.peak)
        there = {path.name: path.stat().st_mtime_ns for path in waiting.glob("*.parquet")}
        twice += sum(there.get(name) != written for name, written in seen.items())
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"scoring ended with {process.returncode} after {len(there)} shards")
        seen = there
    took = time.perf_counter() - start
    ids = read(work / "out", ["post_id"])["post_id"]
    return {
        "scored": len(ids),
        "accounted": ids.combine_chunks().equals(first["post_id"].combine_chunks()),
        "kills": kills,
        "shards": len(there),
        "shards_twice": twice,
        "scored_posts_per_s": round(len(ids) / took, 1),
        "peak_mib": round(peak / 2**20),
    }


def killed(process: subprocess.Popen[bytes], after_s: float, shards: Path, there: int) -> bool:
    """Kill a process after some seconds, but not before it has finished a shard; whether it had not ended before."""
    until = time.monotonic() + after_s
    while process.poll() is None:
        if time.monotonic() > until and len(list(shards.glob("*.parquet"))) > there:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.2)
    return False


def score(work: Path, model: Path) -> None:
    """What the infer stage does; in a process of its own."""
    from assay.config import Infer
    from assay.images import MAX_PIXELS
    from assay.scoring.corpus import infer
    from assay.student.trained import load_trained

    task = load_trained(model).task
    settings = Infer(shard_posts=1000 if len(read(work / "first", ["post_id"])) > 10_000 else 100)
    infer(
        model,
        work / "first",
        work / "corpus",
        work / "split.parquet",
        {task: work / "out"},
        settings=settings,
        max_pixels=MAX_PIXELS,
    )


def reported(args: argparse.Namespace) -> dict[str, Any]:
    """The report of as many posts."""
    command = [sys.executable, str(HERE / "whole_report.py"), "--posts", str(args.posts)]
    command += ["--brands", str(max(20, args.posts // 320)), "--labels", str(max(1000, args.posts // 100))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    told = json.loads(done.stdout.splitlines()[-1])
    return {"report_s": told["seconds"], "report_mib": round(told["peak_gib"] * 1024)}


if __name__ == "__main__":
    main()
