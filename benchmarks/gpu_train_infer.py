"""Posts a second of CLIP ViT-B/32 with gated fusion: training, and inference from memory and end to end from shards.

    python benchmarks/gpu_train_infer.py            # on a machine with a GPU
    python benchmarks/gpu_train_infer.py --quick    # a small one anywhere, to see that it runs

The weights are random, of the real classes and sizes, saved as a local checkpoint first: speed does not
depend on what they say, and no hub is needed. Posts are drawn pictures of 256 pixels as JPEG in sample
shards, with captions of real length. Measured in one run, medians of three rounds after a warm-up:

- `infer_memory`: tensors on the device -> answers (encoders and head), in the precision of params
- `infer_shards`: Parquet shards -> JPEG decode -> encoders -> answers, the whole way, decoded by the processor's cores
- `infer_shards_gpu`: the same, decoded and resized by the GPU (nvJPEG); `decode_shards`, `decode_shards_gpu`: that
  alone; `gpu_pixels_apart`, how far its pixels (0 to 255) are from Pillow's, on average
- `infer_reference`: the same encoders and head in fp32, one batch of 32 after the other, no overlap of decode
  and compute: how a plain loop would do it
- `train_memory`, `train_shards`, `train_shards_gpu`: forward, backward, step of all weights, from tensors and from
  shards

What the stages do on a GPU, `gpu_pipeline.py` measures. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from assay.config import Fusion, Head, ImageBranch, LabelsTarget, Student, TextBranch
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.encode.text_encoders import TextEncoder, load_text_encoder
from assay.errors import run_main
from assay.posts import write_table
from assay.progress import cores
from assay.student.model import Batch, StudentModel

NAMES = ["racist", "sexist", "homophobe", "religion", "otherhate"]
WORDS = [
    "the",
    "a",
    "of",
    "shop",
    "today",
    "never",
    "people",
    "look",
    "at",
    "this",
    "new",
    "picture",
    "why",
    "would",
    "they",
    "go",
    "home",
    "again",
    "friend",
    "and",
    "day",
]


def save_clip(folder: Path, small: bool) -> None:
    """A random CLIP ViT-B/32 (or a tiny one) with its image processor and a word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    vision: dict[str, Any] = {"image_size": 224, "patch_size": 32}
    words: dict[str, Any] = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    if small:
        tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision, words = {**vision, **tiny}, {**words, **tiny}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=words)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    known = {word: i for i, word in enumerate(["[UNK]", "[PAD]", "[EOS]", *WORDS])}
    raw = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


def drawn_pictures(rng: np.random.Generator, wide: int, high: int, *, quality: int) -> list[bytes]:
    """64 JPEG files of noise, smoothed to look like a photograph to the decoder."""
    pictures = []
    for _ in range(64):
        rough = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        image = rough.resize((wide, high), Image.Resampling.BICUBIC)
        grain = np.asarray(image, np.int16) + rng.integers(-12, 12, (high, wide, 3))
        out = io.BytesIO()
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=quality)
        pictures.append(out.getvalue())
    return pictures


def write_shards(folder: Path, posts: int) -> None:
    """Sample shards of drawn posts."""
    rng = np.random.default_rng(0)
    pictures = drawn_pictures(rng, 256, 192, quality=90)
    for number, start in enumerate(range(0, posts, 4096)):
        n = min(4096, posts - start)
        texts = [" ".join(rng.choice(WORDS, int(rng.integers(6, 40)))) for _ in range(n)]
        table = pa.table({"text": texts, "image": [pictures[i % 64] for i in range(n)]})
        write_table(table, folder / f"part-{number:05d}.parquet")


class Whole(nn.Module):
    """Encoders and trained part in one, from pixels and tokens to raw outputs."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        image = ImageBranch(encoder=str(folder), frozen=False)
        text = TextBranch(encoder=str(folder), frozen=False, max_tokens=40, pooling="pooler")
        settings = Student(
            image=image, text=text, fusion=Fusion(kind="gated", dim=512), head=Head(hidden=[512], dropout=0.2)
        )
        self.see: ImageEncoder = load_image_encoder(image)
        self.read: TextEncoder = load_text_encoder(text)
        target = LabelsTarget(kind="labels", names=NAMES)
        self.trunk = StudentModel(settings, {"t": target}, self.see.dim, self.read.dim).to(self.see.device)
        self.models = nn.ModuleList([self.see.model, self.read.model])

    def forward(self, pixels: Tensor, tokens: dict[str, Tensor]) -> Tensor:
        there = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
        raw: Tensor = self.trunk(Batch(self.see.vectors(pixels), self.read.vectors(tokens), there, there)).mean(0)
        return raw

    def prepare(self, image: bytes) -> Tensor:
        """uint8 pixels [3, side, side] of a picture; normalised on the device."""
        with Image.open(io.BytesIO(image)) as opened:
            square = np.array(self.see.square(opened.convert("RGB")))
        return torch.from_numpy(square).permute(2, 0, 1)

    def prepare_on_gpu(self, pictures: list[bytes]) -> Tensor:
        """uint8 pixels [n, 3, side, side] of pictures, decoded and resized on the GPU."""
        from torchvision.io import ImageReadMode, decode_jpeg
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as change

        data = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in pictures]
        decoded: Any = decode_jpeg(data, mode=ImageReadMode.RGB, device=str(self.see.device))
        by_shape: dict[torch.Size, list[int]] = {}
        for i, one in enumerate(decoded):
            by_shape.setdefault(one.shape, []).append(i)
        found = torch.empty(len(data), 3, self.see.size, self.see.size, dtype=torch.uint8, device=self.see.device)
        for rows in by_shape.values():
            alike = torch.stack([decoded[i] for i in rows])
            sized = change.resize(alike, [self.see.resize], interpolation=InterpolationMode.BICUBIC, antialias=True)
            found[rows] = change.center_crop(sized, [self.see.size, self.see.size])
        return found

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 -> float on the device."""
        mean, std = self.see.mean.to(pixels.device), self.see.std.to(pixels.device)
        return (pixels.float() / 255 - mean) / std


def batches(
    folder: Path, size: int, model: Whole, workers: int, *, on_gpu: bool = False
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Decoded batches in order: `workers` threads, or the GPU, decode while the device computes."""
    ahead: queue.Queue[Any] = queue.Queue(maxsize=4)

    def pixels_of(pictures: list[bytes], pool: ThreadPoolExecutor) -> Tensor:
        if on_gpu:
            return model.prepare_on_gpu(pictures)
        return torch.stack(list(pool.map(model.prepare, pictures, chunksize=8)))

    def read(pool: ThreadPoolExecutor) -> None:
        for path in sorted(folder.glob("*.parquet")):
            for part in pq.ParquetFile(path).iter_batches(batch_size=size):
                pixels = pixels_of(part["image"].to_pylist(), pool)
                ahead.put((pixels, model.read.tokenize(part["text"].to_pylist())))
        ahead.put(None)

    with ThreadPoolExecutor(workers) as pool:
        threading.Thread(target=read, args=(pool,), daemon=True).start()
        while (item := ahead.get()) is not None:
            yield item


def rate(run: Callable[[], int], device: torch.device, rounds: int) -> float:
    """Median posts a second over rounds, after one that warms up; also told as soon as it is known."""
    found = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        posts = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number:
            found.append(posts / (time.perf_counter() - start))
    print(f"{median(found):.1f} posts a second", file=sys.stderr, flush=True)
    return round(median(found), 1)


def on_gpu(shards: Path, size: int, model: Whole, device: torch.device, rounds: int) -> dict[str, Any]:
    """Posts a second of decoding alone by cores and by the GPU, and how far the pixels of the two are apart."""

    def decoded(*, on_gpu: bool) -> int:
        return sum(len(pixels) for pixels, _ in batches(shards, size, model, cores(), on_gpu=on_gpu))

    first = pq.ParquetFile(next(iter(sorted(shards.glob("*.parquet"))))).read_row_group(0)["image"].to_pylist()[:64]
    ours = torch.stack([model.prepare(one) for one in first]).float()
    apart = (model.prepare_on_gpu(first).cpu().float() - ours).abs()
    return {
        "decode_shards": rate(lambda: decoded(on_gpu=False), device, rounds),
        "decode_shards_gpu": rate(lambda: decoded(on_gpu=True), device, rounds),
        "gpu_pixels_apart": round(float(apart.mean()), 3),
        "gpu_pixels_most_apart": round(float(apart.max()), 1),
    }


def measure(
    work: Path, posts: int, size: int, train_size: int, rounds: int, *, small: bool, compile_it: bool
) -> dict[str, Any]:
    """All rates on this machine."""
    save_clip(work / "clip", small)
    write_shards(work / "shards", posts)
    model = Whole(work / "clip")
    device = model.see.device
    cuda = device.type == "cuda"
    half = torch.bfloat16 if cuda else torch.float32
    held = list(batches(work / "shards", size, model, cores()))[: max(1, 16_384 // size)]
    moved = [(p.to(device), {k: t.to(device) for k, t in tokens.items()}) for p, tokens in held]
    compiled: Any = torch.compile(model) if compile_it else model

    def infer(source: Iterator[tuple[Tensor, dict[str, Tensor]]] | list[Any], run: Any, dtype: torch.dtype) -> int:
        count = 0
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            for pixels, tokens in source:
                pixels = pixels.to(device, non_blocking=True)
                tokens = {name: t.to(device, non_blocking=True) for name, t in tokens.items()}
                torch.sigmoid(run(model.normalise(pixels), tokens).float()).cpu()
                count += len(pixels)
        return count

    def plain() -> int:
        """No overlap, fp32, batches of 32, Pillow in the main thread."""
        count = 0
        for path in sorted((work / "shards").glob("*.parquet"))[:1]:
            for part in pq.ParquetFile(path).iter_batches(batch_size=32):
                pixels = torch.stack([model.prepare(data) for data in part["image"].to_pylist()])
                count += infer([(pixels, model.read.tokenize(part["text"].to_pylist()))], model, torch.float32)
        return count

    model.eval()
    found: dict[str, Any] = {"infer_memory": rate(lambda: infer(moved, compiled, half), device, rounds)}
    found["infer_shards"] = rate(
        lambda: infer(batches(work / "shards", size, model, cores()), compiled, half), device, rounds
    )
    if cuda:
        found |= on_gpu(work / "shards", size, model, device, rounds)
        found["infer_shards_gpu"] = rate(
            lambda: infer(batches(work / "shards", size, model, cores(), on_gpu=True), compiled, half), device, rounds
        )
    found["infer_reference"] = rate(plain, device, rounds)
    model.models.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def train(source: Iterator[tuple[Tensor, dict[str, Tensor]]] | list[Any]) -> int:
        count = 0
        model.train()
        for pixels, tokens in source:
            with torch.autocast(device.type, half, enabled=cuda):
                raw = model(
                    model.normalise(pixels.to(device, non_blocking=True)),
                    {name: t.to(device, non_blocking=True) for name, t in tokens.items()},
                )
            loss = nn.functional.binary_cross_entropy_with_logits(raw.float(), torch.zeros_like(raw, dtype=torch.float))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            count += len(pixels)
        return count

    small_batches = [
        (p[i : i + train_size], {k: t[i : i + train_size] for k, t in tokens.items()})
        for p, tokens in moved
        for i in range(0, len(p), train_size)
    ]
    found["train_memory"] = rate(lambda: train(small_batches), device, rounds)
    found["train_shards"] = rate(lambda: train(batches(work / "shards", train_size, model, cores())), device, rounds)
    if cuda:
        found["train_shards_gpu"] = rate(
            lambda: train(batches(work / "shards", train_size, model, cores(), on_gpu=True)), device, rounds
        )
    found |= {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "precision": str(half).removeprefix("torch."),
        "cores": cores(),
        "posts": posts,
        "batch": size,
        "train_batch": train_size,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--train-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--compile", action="store_true", help="inference by torch.compile, which takes minutes to begin"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model and 512 posts, to see that it runs")
    args = parser.parse_args()
    posts, size, train_size = (512, 128, 64) if args.quick else (args.posts, args.batch, args.train_batch)
    with tempfile.TemporaryDirectory(prefix="assay-gpu-") as work:
        found = measure(Path(work), posts, size, train_size, args.rounds, small=args.quick, compile_it=args.compile)
    found["infer_over_reference"] = round(found["infer_shards"] / found["infer_reference"], 2)
    print(json.dumps(found))


if __name__ == "__main__":
    run_main(main)
