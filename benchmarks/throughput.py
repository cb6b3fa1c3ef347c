"""Posts a second of one trained student, from files to written predictions, by the ways that people score a corpus.

    python benchmarks/throughput.py --model models/sentiment --data /data/mvsa_single [--posts 600] [--rounds 3]
    assay export models/sentiment --graph deployed && python benchmarks/throughput.py … --deployed deployed
    python benchmarks/throughput.py --model models/sentiment --data /data/mvsa_single --quick

Ways, each in a process of its own, by turns, on the same pictures and captions of MVSA-single and the same weights:
`plain` one post at a time in PyTorch; `loader` a Dataset and a DataLoader with batches of 32; `ray` Ray Data with an
actor that does the same (where Ray is installed); `ours_torch` and `ours`, what the infer stage does, by PyTorch and
by the default runtime; `ours_bf16`, with `infer.precision: bf16`, where the processor has it; `deployed`, with the
folder of `--deployed`. Beside them what the machine could do at most with the same runtime: `encoders` alone on inputs
that are ready, `decode` alone, and both at once on the same cores (`limit`). Every way has warmed up before its clock
runs; nothing is kept from one to another. The last line is one JSON object of medians.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay.encode.graph import has_bf16

WARM = 48  # posts
WAYS = ("plain", "loader", "ray", "ours_torch", "ours", "ours_bf16", "deployed", "encoders", "decode", "limit")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained student, such as models/sentiment")
    parser.add_argument("--data", type=Path, required=True, help="MVSA-single")
    parser.add_argument(
        "--deployed", type=Path, help="the same student with graphs, as `assay export --graph` writes it"
    )
    parser.add_argument("--posts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="96 posts, one round")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.posts, args.rounds = 96, 1
    if args.way:
        print(json.dumps(measure(args.way, args.model, args.data, args.posts)))
        return
    left_out = {"ray": not find_spec("ray"), "deployed": args.deployed is None, "ours_bf16": not has_bf16()}
    ways = [way for way in WAYS if not left_out.get(way)]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way in ways:
            runs[way].append(in_own_process(way, args))
            print(f"{way}: {runs[way][-1]['posts_per_s']:.1f} posts a second", file=sys.stderr)
    print(json.dumps(summary(runs, args.posts)))


def in_own_process(way: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one way does, with a home folder of its own."""
    command = [sys.executable, __file__, "--way", way, "--posts", str(args.posts)]
    command += ["--model", str(args.deployed if way == "deployed" else args.model), "--data", str(args.data)]
    with tempfile.TemporaryDirectory(prefix="assay-throughput-") as home:
        runtime = (
            "torch" if way in ("plain", "loader", "ray", "ours_torch") else os.environ.get("ASSAY_RUNTIME", "auto")
        )
        env = {**os.environ, "ASSAY_HOME": home, "ASSAY_RUNTIME": runtime, "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(runs: dict[str, list[dict[str, Any]]], posts: int) -> dict[str, Any]:
    """Medians, ratios and how far answers are apart."""
    rate = {way: statistics.median(one["posts_per_s"] for one in found) for way, found in runs.items()}
    said = {way: np.array(found[0]["values"]) for way, found in runs.items() if found[0]["values"]}
    found: dict[str, Any] = {f"{way}_posts_per_s": round(value, 1) for way, value in rate.items()}
    for way in ("ours_bf16", "deployed"):
        if way in rate:
            found[f"ratio_{way}"] = round(rate[way] / rate["plain"], 2)
            found[f"diff_{way}"] = float(np.abs(said[way] - said["plain"]).max())
            found[f"hours_for_1_6_million_{way}"] = round(1.6e6 / rate[way] / 3600, 2)
    return found | {
        "posts": posts,
        "ratio": round(rate["ours"] / rate["plain"], 2),
        "ratio_loader": round(rate["ours"] / rate["loader"], 2),
        "share_of_limit": round(rate["ours"] / rate["limit"], 3),
        "peak_mib": max(one["peak_mib"] for one in runs["ours"]),
        "max_abs_diff": max(float(np.abs(said["ours"] - said[way]).max()) for way in ("plain", "loader")),
        "hours_for_1_6_million": round(1.6e6 / rate["ours"] / 3600, 2),
    }


def measure(way: str, model: Path, data: Path, posts: int) -> dict[str, Any]:
    """Posts a second of one way, the most memory of this process, and what it says of the posts."""
    from assay import text

    files = sorted((data / "data").glob("*.jpg"))[: posts + WARM]
    captions = [text.normalise(text.decode(path.with_suffix(".txt").read_bytes())) for path in files]
    runs = {"plain": plain, "loader": loader, "ray": ray_data, "ours_torch": ours, "ours": ours, "deployed": ours}
    run = partial(ours, precision="bf16") if way == "ours_bf16" else runs.get(way)
    made = run(model, files, captions) if run else limits(way, model, files, captions)
    next(made)  # warm
    start = time.perf_counter()
    values = next(made)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"posts_per_s": posts / took, "peak_mib": round(peak), "values": values}


# ------------------------------------------------------------------------------------------- ways


class Student:
    """The student as anyone would run it in PyTorch: its encoders' networks, their preprocessing, its trained part."""

    def __init__(self, model: Path) -> None:
        import torch

        from assay.encode.image_encoders import ImageEncoder
        from assay.encode.text_encoders import TextEncoder
        from assay.scoring.predict import Predictor

        self.predictor = Predictor.load(model, cached=False)
        image, text = self.predictor.encoders()
        assert isinstance(image, ImageEncoder)
        assert isinstance(text, TextEncoder)
        self.image, self.text = image, text
        self.image.model.to(memory_format=torch.contiguous_format)  # as networks come
        self.size = self.predictor.trained.preprocessing["image_px"]

    def pixels(self, data: bytes) -> Any:
        """[views, 3, side, side] of a picture, which is packed as those were that the student learnt from."""
        import torch

        from assay import images

        packed = images.pack(data, longest=self.size, max_pixels=images.MAX_PIXELS).image
        return torch.stack([self.image.pixels(packed, view) for view in self.image.views])

    def __call__(self, pixels: Any, captions: list[str]) -> list[float]:
        """The answers to n posts, from [n, views, 3, side, side] and their captions."""
        import torch

        from assay.encode.features import Features

        with torch.inference_mode():
            views = [self.image.of_pixels(pixels[:, view]) for view in range(pixels.shape[1])]
            seen = torch.stack(views).mean(0).numpy().astype(np.float16).astype(np.float32)
            read = self.text.vectors(self.text.tokenize(captions)).numpy().astype(np.float16).astype(np.float32)
            has = np.ones(len(captions), bool)
            found = self.predictor.trained.model.predict(Features(seen, read, has, has, captions))
        return [float(one) for one in next(iter(found.values())).reshape(len(captions), -1)[:, 0]]


def plain(model: Path, files: list[Path], captions: list[str]) -> Iterator[list[float]]:
    """One post at a time."""
    student = Student(model)
    found = [
        student(student.pixels(path.read_bytes())[None], [caption])[0]
        for path, caption in zip(files[:WARM], captions, strict=False)
    ]
    yield found
    yield [
        student(student.pixels(path.read_bytes())[None], [caption])[0]
        for path, caption in zip(files[WARM:], captions[WARM:], strict=True)
    ]


def loader(model: Path, files: list[Path], captions: list[str]) -> Iterator[list[float]]:
    """A Dataset, and a DataLoader with a worker a core."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from assay.progress import cores

    student = Student(model)

    class Posts(Dataset):  # type: ignore[type-arg]
        def __init__(self, start: int, stop: int) -> None:
            self.rows = range(start, stop)

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, at: int) -> tuple[Any, str]:
            torch.set_num_threads(1)
            row = self.rows[at]
            return student.pixels(files[row].read_bytes()), captions[row]

    for start, stop in ((0, WARM), (WARM, len(files))):
        batches = DataLoader(Posts(start, stop), batch_size=BATCH, num_workers=cores())
        yield [value for pixels, texts in batches for value in student(pixels, list(texts))]


def ray_data(model: Path, files: list[Path], captions: list[str]) -> Iterator[list[float]]:
    """Ray Data: tasks that decode, and an actor that encodes."""
    import ray

    ray.init(
        num_cpus=max(2, os.cpu_count() or 2), logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Encode:
        def __init__(self) -> None:
            self.student = Student(model)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            import torch

            pixels = torch.stack([self.student.pixels(data) for data in batch["bytes"]])
            return {"row": batch["row"], "value": np.array(self.student(pixels, list(batch["caption"])))}

    for start, stop in ((0, WARM), (WARM, len(files))):
        rows = [{"row": i, "path": str(files[i]), "caption": captions[i]} for i in range(start, stop)]
        read = ray.data.from_items(rows).map(lambda row: row | {"bytes": Path(row["path"]).read_bytes()})
        said = read.map_batches(Encode, batch_size=BATCH, concurrency=1, num_cpus=1).take_all()
        yield [row["value"] for row in sorted(said, key=lambda row: row["row"])]


def ours(
    model: Path, files: list[Path], captions: list[str], precision: Literal["f32", "bf16"] = "f32"
) -> Iterator[list[float]]:
    """What the infer stage does with a shard, to the predictions on disk."""
    import pyarrow as pa

    from assay.posts import write_table
    from assay.scoring.predict import Predictor
    from assay.scoring.shards import Place, Shard, score_shard

    predictor = Predictor.load(model, precision=precision)
    folder = Path(os.environ["ASSAY_HOME"]) / "posts"
    for name, start, stop in (("warm", 0, WARM), ("all", WARM, len(files))):
        rows = {"post_id": [path.stem for path in files[start:stop]], "text": captions[start:stop]}
        rows["images"] = [[path.name] for path in files[start:stop]]  # type: ignore[misc]
        write_table(pa.table(rows), folder / name / "part-00000.parquet")
        place = Place(folder / name, files[0].parent, batch_size=256)
        scored = next(iter(score_shard(predictor, place, Shard(0, 0, stop - start, "")).values()))
        write_table(scored, folder / f"{name}.parquet")
        by_name = scored["probabilities"].to_pylist()
        yield [p[0] if p else v for v, p in zip(scored["value"].to_pylist(), by_name, strict=True)]


# ----------------------------------------------------------------------------------------- limits


def limits(way: str, model: Path, files: list[Path], captions: list[str]) -> Iterator[list[float]]:
    """The same encoders with nothing around them: on inputs that are ready, decoding alone, or both at once."""
    from assay import images
    from assay.encode.image_encoders import ImageEncoder
    from assay.encode.seeding import one_thread
    from assay.progress import cores
    from assay.scoring.predict import Predictor

    predictor = Predictor.load(model, cached=False)
    image, text = predictor.encoders()
    assert isinstance(image, ImageEncoder)
    assert text is not None
    raw = [path.read_bytes() for path in files]
    by_length = sorted(captions[WARM:], key=len)
    ready: list[Any] = [image.squares(images.decode(data, images.MAX_PIXELS)) for data in raw]

    def decode(rows: range) -> None:
        for row in rows:
            picture = images.decode(io.BytesIO(raw[row]).getvalue(), images.MAX_PIXELS)
            image.squares(picture)

    def encode(rows: range) -> None:
        image.of_squares([ready[row] for row in rows])
        text.encode([by_length[row % len(by_length)] for row in rows])

    parts: dict[str, list[Callable[[range], None]]] = {
        "encoders": [encode],
        "decode": [decode],
        "limit": [decode, encode],
    }
    with ThreadPoolExecutor(cores(), initializer=one_thread) as pool:
        for start, stop in ((0, WARM), (WARM, len(files))):
            chunks = [range(at, min(at + BATCH, stop)) for at in range(start, stop, BATCH)]
            list(pool.map(lambda rows: [work(rows) for work in parts[way]], chunks))
            yield []


if __name__ == "__main__":
    main()
