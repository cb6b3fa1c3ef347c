"""Frozen encoders by PyTorch and by OpenVINO, turn by turn, end to end from files: posts a second, and how alike.

    python benchmarks/encoding_runtimes.py --data /data/mvsa_single [--posts 400] [--rounds 3] [--quick]

The encoders of student `packaged` (EfficientNet-Lite0 on two views, MiniLM); pictures and captions of MVSA-single as
the sample stage packs them; decoding and preprocessing included, nothing kept. The last line is one JSON object of
medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from assay import config, images
from assay.encode.extract import Extractor, PostInputs
from assay.text import decode

ROOT = Path(__file__).resolve().parent.parent


def posts_of(folder: Path, count: int) -> list[PostInputs]:
    """Captions and packed pictures."""
    found: list[PostInputs] = []
    for path in sorted((folder / "data").glob("*.jpg")):
        if len(found) == count:
            break
        raw = path.read_bytes()
        packed = images.pack(raw, longest=256, max_pixels=images.MAX_PIXELS).data
        found.append(PostInputs(decode(path.with_suffix(".txt").read_bytes()), [(images.content_hash(raw), packed)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--posts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 posts, one round")
    args = parser.parse_args()
    posts = posts_of(args.data, 64 if args.quick else args.posts)
    student = config.load(ROOT / "params.yaml").students["packaged"]
    rates: dict[str, list[float]] = {"torch": [], "openvino": []}
    vectors: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with tempfile.TemporaryDirectory(prefix="assay-runtimes-") as home:
        os.environ["ASSAY_HOME"] = home
        extractors = {}
        for name in rates:
            os.environ["ASSAY_RUNTIME"] = name
            extractors[name] = Extractor(student, image_px=256, cached=False)
            extractors[name](posts[:8])  # loads the encoders, makes the graph
        for _ in range(1 if args.quick else args.rounds):
            for name, extractor in extractors.items():
                start = time.perf_counter()
                found, _lost = extractor(posts)
                rates[name].append(len(posts) / (time.perf_counter() - start))
                vectors[name] = found.image, found.text
    off = [
        float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(vectors["torch"], vectors["openvino"], strict=True)
    ]
    medians = {f"{name}_posts_per_s": round(statistics.median(values), 1) for name, values in rates.items()}
    ratio = medians["openvino_posts_per_s"] / medians["torch_posts_per_s"]
    print(
        json.dumps(medians | {"ratio": round(ratio, 2), "off_image": off[0], "off_text": off[1], "posts": len(posts)})
    )


if __name__ == "__main__":
    main()
