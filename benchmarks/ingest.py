"""How fast, and in how much memory, ingest reads an Instagram corpus whose images are not opened.

    python benchmarks/ingest.py [--posts 200000] [--quick]

Writes a corpus of JSON posts with real-sized captions, hashtags, mentions and wrappers in a temporary
folder, then ingests it with `check_images: none`. The baseline is a plain loop over the same files:
read, parse, keep the caption; no checks, no signatures, no table. Figures are medians over --runs.
Prints one JSON object as its last line: posts_per_s, peak_mib (resident memory of all processes
together, sampled), baseline_posts_per_s, ratio.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from assay.corpora.demo import captions
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules


class PeakMemory:
    """Samples the resident memory of this process and its children until stopped."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def write(root: Path, posts: int, pictures: Sequence[Path] = ()) -> None:
    """A corpus in the layout of the brand release; images are links to `pictures`, or empty files where there are none.

    Captions differ, each by its number.
    """
    rng = np.random.default_rng(1)
    names, moods = list(captions.BRANDS), list(captions.MOOD)
    for folder in ("json", *(f"img_resized_{i}" for i in range(1, 17))):
        (root / folder).mkdir()
    texts = []
    for _ in range(2000):
        brand = names[int(rng.integers(len(names)))]
        parts = [
            captions.compose(rng, bias=int(rng.integers(6)), mood=moods[int(rng.integers(3))], brand=brand, slights=[])
        ]
        parts += [
            captions.compose(rng, bias=None, mood=None, brand=None, slights=[]) for _ in range(int(rng.integers(1, 3)))
        ]
        texts.append(" ".join(parts))
    with open(root / "post_info.txt", "w") as table:
        for number in range(posts):
            post_id = str(1_900_000_000_000_000_000 + number)
            node = _node(post_id, f"{texts[number % 2000]} {number}", number)
            (root / "json" / f"{post_id}.json").write_text(json.dumps(node))
            image = root / f"img_resized_{1 + number % 16}" / f"{post_id}.jpg"
            if pictures:
                os.link(pictures[number % len(pictures)], image)
            else:
                os.close(os.open(image, os.O_CREAT))
            table.write(f"{number}\tuser{number % 30_000}\t{number % 7 == 0:d}\t{post_id}.json\t['{post_id}.jpg']\n")


def _node(post_id: str, caption: str, number: int) -> dict[str, object]:
    tagged = [{"node": {"user": {"username": f"friend{i}", "full_name": f"Friend {i}"}, "x": 0.5}} for i in range(2)]
    return {
        "__typename": "GraphImage",
        "id": post_id,
        "shortcode": f"B{number}",
        "display_url": f"https://example.invalid/{'p' * 120}/{post_id}.jpg",
        "dimensions": {"height": 1080, "width": 1080},
        "taken_at_timestamp": 1_550_000_000 + number,
        "is_video": False,
        "edge_media_to_caption": {"edges": [{"node": {"text": caption}}]},
        "edge_media_preview_like": {"count": number % 9999, "edges": []},
        "edge_media_to_comment": {"count": number % 99},
        "edge_media_to_tagged_user": {"edges": tagged},
        "edge_media_to_sponsor_user": {"edges": []},
        "owner": {"id": str(number % 30_000), "username": f"user{number % 30_000}", "is_private": False},
        "display_resources": [{"src": f"https://example.invalid/{'r' * 120}", "config_width": w} for w in (640, 750)],
        "accessibility_caption": "Image may contain: one or more people",
        "location": None,
    }


def baseline(root: Path, limit: int) -> float:
    """Posts a second of a plain loop over the first `limit` posts."""
    started, kept = time.perf_counter(), []
    with open(root / "post_info.txt") as table:
        for number, line in enumerate(table):
            if number == limit:
                break
            *_, name, images = line.rstrip("\n").split("\t")
            node = json.loads((root / "json" / name).read_bytes())
            kept.append((node["edge_media_to_caption"]["edges"][0]["node"]["text"], ast.literal_eval(images)))
    return len(kept) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20,000 posts, one run")
    args = parser.parse_args()
    posts, runs = (20_000, 1) if args.quick else (args.posts, args.runs)
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        root = Path(folder) / "corpus"
        root.mkdir()
        write(root, posts)
        rules = Rules("bench", b"key", check_images="none")
        speeds, peaks, plain = [], [], []
        for run in range(runs):
            plain.append(baseline(root, min(posts, 20_000)))
            out = Path(folder) / f"out{run}"
            with PeakMemory() as memory:
                started = time.perf_counter()
                found = ingest(Instagram(root), rules, posts=out / "posts", problems=out / "problems.parquet")
                speeds.append(posts / (time.perf_counter() - started))
            peaks.append(memory.peak / 2**20)
            if found["posts"] != posts:
                raise SystemExit(f"{found} instead of {posts} posts")
    speed, plain_speed = statistics.median(speeds), statistics.median(plain)
    print(
        json.dumps(
            {
                "posts": posts,
                "posts_per_s": round(speed),
                "peak_mib": round(max(peaks)),
                "baseline_posts_per_s": round(plain_speed),
                "ratio": round(speed / plain_speed, 3),
                "cores": len(os.sched_getaffinity(0)),
            }
        )
    )


if __name__ == "__main__":
    main()
