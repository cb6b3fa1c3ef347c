"""Frozen encoders by every runtime and precision that a CPU has: posts a second, how alike, and what a student loses.

    python benchmarks/encoding_runtimes.py --data /data/mvsa_single [--posts 800] [--rounds 3] [--quick]

The encoders of student `packaged` (EfficientNet-Lite0 on two views, MiniLM) on posts of MVSA-single, ways by turns, end
to end from packed pictures and captions, decoding and preprocessing included, nothing kept: PyTorch; OpenVINO in single
precision, in bf16 (where the processor has it), with small weights (`assay export --graph`: pictures in half precision,
texts in eight bits, computed in single precision), and in eight bits (NNCF, calibrated on 300 other posts; `_text`: the
texts alone); ONNX Runtime in single precision and in eight bits (static, calibrated alike). `image_per_s` and
`text_per_s`: the encoders alone. `cosine`: the mean with PyTorch's vectors. `probe`: accuracy of a logistic regression
on PyTorch's features (five folds of the posts), asked with those of the way, and its paired difference. The last line
is one JSON object of medians.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay import config, images
from assay import text as words
from assay.config.corpora import AnyCorpus
from assay.corpora.layouts import open_corpus
from assay.encode import graph
from assay.encode.extract import Extractor, PostInputs
from assay.encode.features import Features
from assay.encode.image_encoders import ImageEncoder
from assay.encode.seeding import one_thread
from assay.encode.text_encoders import TextEncoder
from assay.errors import ImageProblem, RowError
from assay.progress import cores

ROOT = Path(__file__).resolve().parent.parent
CALIBRATE = 300  # posts
Call = Callable[[dict[str, np.ndarray]], np.ndarray | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="MVSA-single")
    parser.add_argument("--posts", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 posts, one round")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    args = parser.parse_args()
    if args.quick:
        args.posts, args.rounds = 64, 1
    posts, gold = posts_of(args.data, args.posts + CALIBRATE)
    posts, others, gold = posts[: args.posts], posts[args.posts :], gold[: args.posts]
    student = config.load(ROOT / "params.yaml").students["packaged"]
    with tempfile.TemporaryDirectory(prefix="assay-runtimes-") as home:
        os.environ |= {"ASSAY_HOME": home, "ASSAY_RUNTIME": "torch", "NNCF_CI": "1"}
        extractors: dict[str, Extractor] = {}
        for way in args.ways:
            if way == "openvino_bf16" and not graph.has_bf16():
                print("openvino_bf16: this processor has no bf16", file=sys.stderr)
                continue
            extractor = Extractor(student, image_px=256, cached=False)
            image, text = extractor.encoders()
            assert isinstance(image, ImageEncoder)
            assert isinstance(text, TextEncoder)
            for encoder, call in zip((image, text), WAYS[way](image, text, Path(home), others), strict=True):
                encoder._graph = call  # type: ignore[assignment]
            extractor(posts[:8])
            extractors[way] = extractor
            print(f"{way}: ready", file=sys.stderr)
        rates: dict[str, list[tuple[float, float, float]]] = {way: [] for way in extractors}
        said: dict[str, Features] = {}
        for _ in range(args.rounds):
            for way, extractor in extractors.items():
                start = time.perf_counter()
                said[way], _lost = extractor(posts)
                rate = len(posts) / (time.perf_counter() - start)
                rates[way].append((rate, *alone(extractor, posts)))
                print(f"{way}: {rate:.1f} posts a second", file=sys.stderr)
    found = {way: told(rates[way], said["torch"], said[way], gold) for way in extractors}
    plain = found["torch"]["posts_per_s"]
    for way in found.values():
        way["ratio"] = round(way["posts_per_s"] / plain, 2)
    print(json.dumps({"posts": len(posts), "processor": processor(), **found}))


def posts_of(folder: Path, count: int) -> tuple[list[PostInputs], list[str]]:
    """Captions and packed pictures, and what the data set says of them."""
    from pydantic import TypeAdapter

    told = {"kind": "mvsa", "path": str(folder), "check_images": "header"}
    layout = open_corpus(TypeAdapter(AnyCorpus).validate_python(told), config.load(ROOT / "params.yaml").demo)
    found: list[PostInputs] = []
    gold: list[str] = []
    for row in layout.rows():
        if len(found) == count:
            break
        with contextlib.suppress(RowError, ImageProblem):
            post = layout.parse(row)
            caption = words.decode(post.text) if isinstance(post.text, bytes) else post.text or ""
            raw = (folder / post.images[0]).read_bytes()
            packed = images.pack(raw, longest=256, max_pixels=images.MAX_PIXELS).data
            found.append(PostInputs(words.normalise(caption), [(images.content_hash(raw), packed)]))
            gold.append(str(post.gold["sentiment"]))
    return found, gold


def processor() -> dict[str, Any]:
    """The processor's name and what it can do."""
    with contextlib.suppress(OSError):
        lines = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if line.count(":") == 1
        )
        known = {name.strip(): value.strip() for name, value in lines.items()}
        flags = known.get("flags", "").split()
        useful = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
        return {"name": known.get("model name"), "has": useful}
    return {}


# ---------------------------------------------------------------------------------------------- ways


def by_torch(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[None, None]:
    return None, None


def openvino(precision: graph.Precision) -> Callable[..., tuple[Call, Call]]:
    def way(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
        made = [graph.compiled(graph.converted(one.traced()), precision) for one in (image, text)]
        return made[0], made[1]

    return way


def small(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
    quiet("nncf")
    graph.write(image.traced(), work / "small-image.xml", weights="fp16")
    graph.write(text.traced(), work / "small-text.xml", weights="int8")
    return graph._read(work / "small-image.xml"), graph._read(work / "small-text.xml")


def eight_bits(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
    import nncf

    quiet("nncf")
    found = []
    for encoder in (image, text):
        told = {"model_type": nncf.ModelType.TRANSFORMER} if encoder is text else {}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            known = nncf.Dataset(list(inputs(encoder, others)))
            found.append(nncf.quantize(graph.converted(encoder.traced()), known, subset_size=CALIBRATE, **told))
    return graph.compiled(found[0]), graph.compiled(found[1])


def eight_bits_text(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
    return graph.compiled(graph.converted(image.traced())), eight_bits(image, text, work, others)[1]


def onnx(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
    return session(exported(image, work / "image.onnx")), session(exported(text, work / "text.onnx"))


def onnx_eight_bits(image: ImageEncoder, text: TextEncoder, work: Path, others: list[PostInputs]) -> tuple[Call, Call]:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, encoder: ImageEncoder | TextEncoder) -> None:
            self.left = inputs(encoder, others)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    quiet("root")
    found = []
    for name, encoder in (("image", image), ("text", text)):
        plain, ready, small_file = (
            exported(encoder, work / f"q-{name}.onnx"),
            work / f"r-{name}.onnx",
            work / f"s-{name}.onnx",
        )
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(str(ready), str(small_file), Reader(encoder), quant_format=QuantFormat.QDQ, per_channel=True)
        found.append(session(small_file))
    return found[0], found[1]


WAYS: dict[str, Callable[..., tuple[Call | None, Call | None]]] = {
    "torch": by_torch,
    "openvino": openvino("f32"),
    "openvino_bf16": openvino("bf16"),
    "openvino_small": small,
    "openvino_int8": eight_bits,
    "openvino_int8_text": eight_bits_text,
    "onnxruntime": onnx,
    "onnxruntime_int8": onnx_eight_bits,
}


def exported(encoder: ImageEncoder | TextEncoder, path: Path) -> Path:
    made = encoder.traced()
    first = made.examples[0]
    free = {name: {0: "n"} | ({1: "tokens"} if one.dtype == torch.int64 else {}) for name, one in first.items()}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.named(made),
            tuple(first.values()),
            str(path),
            input_names=list(first),
            output_names=["vectors"],
            dynamic_axes=free,
            dynamo=False,
        )
    return path


def session(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3  # threads are ours, one a core
    opened = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in opened.get_inputs()}

    def call(given: dict[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = opened.run(None, {name: one for name, one in given.items() if name in wanted})[0]
        return found

    return call


def inputs(encoder: ImageEncoder | TextEncoder, posts: list[PostInputs]) -> Iterator[dict[str, np.ndarray]]:
    """What a graph sees of posts, one at a time."""
    for post in posts:
        if isinstance(encoder, TextEncoder):
            yield {name: one.numpy() for name, one in encoder.tokenize([post.text or "."]).items()}
        else:
            yield {"squares": encoder.squares(images.decode(post.images[0][1], images.MAX_PIXELS))[:1]}


def quiet(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)


# ------------------------------------------------------------------------------------------- figures


def alone(extractor: Extractor, posts: list[PostInputs]) -> tuple[float, float]:
    """Pictures (one view) and texts a second of the encoders alone, on inputs that are ready, all cores."""
    image, text = extractor.encoders()
    assert isinstance(image, ImageEncoder)
    assert text is not None
    squares = [image.squares(images.decode(post.images[0][1], images.MAX_PIXELS)) for post in posts[:128]]
    texts = sorted((post.text or "." for post in posts), key=len)
    views = len(image.views)
    rates = []
    with ThreadPoolExecutor(cores(), initializer=one_thread) as pool:
        for items, work, times in ((squares, image.of_squares, views), (texts, text.encode, 1)):
            parts: list[Any] = [items[at : at + 32] for at in range(0, len(items), 32)]
            start = time.perf_counter()
            list(pool.map(work, parts))
            rates.append(len(items) * times / (time.perf_counter() - start))
    return rates[0], rates[1]


def told(rates: list[tuple[float, float, float]], exact: Features, said: Features, gold: list[str]) -> dict[str, Any]:
    """Rates, likeness and the probe of one way."""
    medians = [round(statistics.median(values), 1) for values in zip(*rates, strict=True)]
    found: dict[str, Any] = dict(zip(("posts_per_s", "image_per_s", "text_per_s"), medians, strict=True))
    for name in ("image", "text"):
        a, b = (getattr(one, name).astype(float) for one in (exact, said))
        size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[f"cosine_{name}"] = round(float(np.mean((a * b).sum(1)[size > 0] / size[size > 0])), 5)
    return found | {"probe": probe(exact, said, gold)}


def probe(exact: Features, said: Features, gold: list[str]) -> dict[str, float]:
    """Accuracy of a logistic regression that learnt from exact features, asked with the others, by five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y = np.asarray(gold)
    a, b = (np.hstack([one.image, one.text]).astype(float) for one in (exact, said))
    right = np.zeros((2, len(y)), bool)
    for learn, test in StratifiedKFold(5, shuffle=True, random_state=1).split(a, y):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500)).fit(a[learn], y[learn])
        right[:, test] = [model.predict(one[test]) == y[test] for one in (a, b)]
    apart = right[1].astype(float) - right[0]
    error = 1.96 * apart.std() / np.sqrt(len(y))
    figures = {
        "accuracy": right[1].mean(),
        "difference": apart.mean(),
        "low": apart.mean() - error,
        "high": apart.mean() + error,
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
