"""How fast frozen images are encoded on a CPU: batches of 32 and glibc's own ways, against what the encoder does now.

    python benchmarks/cpu_encoding.py [--images 256] [--rounds 3] [--quick]

Each way runs in a process of its own, by turns, on the same drawn images with the packaged EfficientNet-Lite0. Prints
one JSON object as its last line: median images a second of each way, their ratio, and the share of time in the kernel.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

WAYS = ("before", "small_batches", "now")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 images, one round")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds = 64, 1
    if args.way:
        print(json.dumps(measure(args.way, args.images)))
        return
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--images", str(args.images)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    speed = {way: statistics.median(one["images_per_s"] for one in runs) for way, runs in found.items()}
    kernel = {way: statistics.median(one["kernel_share"] for one in runs) for way, runs in found.items()}
    print(
        json.dumps(
            {
                "images_per_s": {way: round(value, 1) for way, value in speed.items()},
                "ratio": round(speed["now"] / speed["before"], 2),
                "ratio_small_batches_alone": round(speed["small_batches"] / speed["before"], 2),
                "kernel_share": {way: round(value, 3) for way, value in kernel.items()},
            }
        )
    )


def measure(way: str, count: int) -> dict[str, float]:
    """Images a second of one way, and the kernel's share of the processor time."""
    import io

    from PIL import Image

    from assay.config import ImageBranch
    from assay.corpora.demo.figure import draw_figure, seeded
    from assay.encode import image_encoders
    from assay.encode.seeding import seed_everything

    seed_everything(1)
    if way != "now":
        image_encoders.keep_freed_memory = lambda: None  # type: ignore[attr-defined, assignment]
    if way == "before":
        image_encoders.CPU_BATCH = 32
    encoder = image_encoders.load_image_encoder(ImageBranch(encoder=image_encoders.EFFICIENTNET))
    pictures = [Image.open(io.BytesIO(draw_figure(seeded(i), i / count, 256))).convert("RGB") for i in range(count)]
    encoder.encode(pictures[:32])
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for start in range(0, count, 32):
        encoder.encode(pictures[start : start + 32])
    took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    kernel, own = after.ru_stime - used.ru_stime, after.ru_utime - used.ru_utime
    return {"images_per_s": count / took, "kernel_share": kernel / (kernel + own)}


if __name__ == "__main__":
    main()
