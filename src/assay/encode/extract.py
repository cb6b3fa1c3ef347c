"""Features of posts for one student: what its encoders say of pictures and texts, kept, and several at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL.Image import Image

from assay import images
from assay.config import Student
from assay.durable import file_digest
from assay.encode import encoders
from assay.encode.cache import FeatureCache, vector_bytes
from assay.encode.encoders import Encoder, apply_learnt, default_device
from assay.encode.features import EncoderFacts, Features, save
from assay.encode.graph import Precision, had, has_bf16
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.encode.ocr import Reader, kept_texts
from assay.encode.seeding import one_thread
from assay.encode.text_encoders import TextEncoder, load_text_encoder
from assay.errors import DataError, EncoderError, ImageProblem
from assay.parallel import Clock
from assay.posts import count, stream
from assay.progress import cores, progress

CHUNK = {"cpu": 32, "cuda": 256, "mps": 64}  # items that one thread decodes and encodes at a time
LEAST = 4  # of them where there are few
ROWS = 256  # posts of a sample at a time
GPU_BLOCKS = 8  # of them at once for a GPU, whose chunks of pictures are then decoded by several cores
_loading = threading.RLock()  # of an encoder: whether the hub may be asked is a switch of the whole process

Problem = tuple[str, str]
"""Why an image could not be decoded: code and detail."""


@dataclass
class PostInputs:
    """What an encoder needs of a post: its text and, for each image, content hash and file bytes."""

    text: str
    images: list[tuple[str, bytes]]


class Extractor:
    """Computes the features of posts for one student; encoders are loaded when first needed.

    Threads may share one. Its own threads, one a core, decode and encode chunks of what a call needs; calls that
    overlap keep them busy while others do what Python alone can do.
    """

    def __init__(
        self,
        student: Student,
        *,
        image_px: int,
        max_pixels: int = images.MAX_PIXELS,
        known: dict[str, EncoderFacts] | None = None,
        folder: Path | None = None,
        graphs: dict[str, Path] | None = None,
        cached: bool = True,
        most_cached: int | None = None,
        hub: bool = True,
        precision: Precision = "f32",
    ) -> None:
        """`known`: what a trained student's folder says of its encoders; `folder`: that folder, where they learnt;
        `graphs`: files of their graphs that came with it, None: as this machine makes them, {}: PyTorch alone;
        `most_cached`: bytes that the caches may grow to together; `hub`: whether encoders may be fetched;
        `precision`: in what graphs that this machine makes are computed, where it can.
        """
        known = known or {}
        self.image_px, self.max_pixels = image_px, max_pixels
        self.clock = Clock()
        image, text = student.image, student.text
        tuned = {name: folder / f"{name}.safetensors" for name in student.tuned} if folder else {}
        pool = ThreadPoolExecutor(cores(), thread_name_prefix="encode", initializer=one_thread)

        def branch(name: str, load: Callable[[], Encoder]) -> _Branch:
            most = None if most_cached is None else int(most_cached * _part(known, name))
            graph: Path | Literal[False] | None = None if graphs is None else graphs.get(name, False)
            how = _How(known.get(name), tuned.get(name), graph, cached, most, hub, had(precision))
            return _Branch(load, how, pool, self.clock)

        self._image = branch("image", lambda: load_image_encoder(image)) if image else None
        self._text = branch("text", lambda: load_text_encoder(text)) if text else None
        self._written = _Written(self._packed, pool, self.clock, cached=cached) if text and text.ocr else None

    @property
    def facts(self) -> dict[str, EncoderFacts]:
        """Identity and size of each encoder, as the model folder records them."""
        named = {"image": self._image, "text": self._text}
        return {name: branch.facts for name, branch in named.items() if branch}

    def encoders(self) -> tuple[Encoder | None, Encoder | None]:
        """The image and the text encoder; loads them."""
        return (self._image.encoder if self._image else None, self._text.encoder if self._text else None)

    def parameters(self) -> int:
        """How many parameters the encoders have; loads them."""
        return sum(p.numel() for encoder in self.encoders() if encoder for p in encoder.model.parameters())

    def cached_bytes(self, texts: int, images: int) -> tuple[int, int]:
        """How much of the disk the caches of its encoders take, and about how much so many features do."""
        branches = [(self._image, images), (self._text, texts)]
        there = sum(branch.cached_bytes() for branch, _ in branches if branch)
        return there, sum(count * vector_bytes(branch.dim) for branch, count in branches if branch)

    def __call__(self, posts: Sequence[PostInputs]) -> tuple[Features, list[list[Problem]]]:
        """Features, and for each post the (code, detail) of images that could not be decoded."""
        lost: list[list[Problem]] = [[] for _ in posts]
        if self._written:
            posts, unread = self._written.beside(posts, self._image_key)
            lost = unread if self._image is None else lost
        text, has_text = self._texts(posts)
        image, has_image = self._images(posts, lost)
        words = [post.text if self._text else "" for post in posts]
        return Features(image, text, has_image, has_text, words), lost

    def _texts(self, posts: Sequence[PostInputs]) -> tuple[np.ndarray, np.ndarray]:
        has = np.array([bool(post.text) for post in posts], dtype=bool)
        if self._text is None:
            return np.zeros((len(posts), 0), np.float32), np.zeros(len(posts), bool)
        keys = [hashlib.sha256(post.text.encode()).digest() for post in posts]
        wanted = {key: post.text for key, post in zip(keys, posts, strict=True) if post.text}
        # like lengths in a chunk; the long ones first, so that no core is left alone with them at the end
        by_length = dict(sorted(wanted.items(), key=lambda item: -len(item[1])))
        vectors, _ = self._text.vectors(by_length, self._encode_texts)
        result = np.zeros((len(posts), self._text.dim), np.float32)
        for i in np.flatnonzero(has):
            result[i] = vectors[keys[i]]
        return result, has

    def _encode_texts(self, encoder: Encoder, texts: list[str]) -> tuple[np.ndarray, dict[int, Problem]]:
        return encoder.encode(texts), {}

    def _images(self, posts: Sequence[PostInputs], lost: list[list[Problem]]) -> tuple[np.ndarray, np.ndarray]:
        if self._image is None:
            return np.zeros((len(posts), 0), np.float32), np.zeros(len(posts), bool)
        wanted = {self._image_key(digest): data for post in posts for digest, data in post.images}
        vectors, problems = self._image.vectors(wanted, self._encode_images)
        result = np.zeros((len(posts), self._image.dim), np.float32)
        has = np.zeros(len(posts), bool)
        for i, post in enumerate(posts):
            keys = [self._image_key(digest) for digest, _ in post.images]
            found = [vectors[key] for key in keys if key in vectors]
            lost[i] += [problems[key] for key in keys if key in problems]
            if found:
                result[i] = np.mean(np.stack(found).astype(np.float32), axis=0)
                has[i] = True
        return result, has

    def _image_key(self, digest: str) -> bytes:
        return hashlib.sha256(f"{digest} {self.image_px}".encode()).digest()

    def _packed(self, data: bytes) -> Image:
        """A picture as students see it."""
        return images.pack(data, longest=self.image_px, max_pixels=self.max_pixels).image

    def _encode_images(self, encoder: Encoder, files: list[bytes]) -> tuple[np.ndarray, dict[int, Problem]]:
        """Vectors of the files that can be decoded, packed as the sample is, and the others' problems by position."""
        bad: dict[int, Problem] = {}
        ready: list[Any] = []
        for i, data in enumerate(files):
            try:
                with self.clock.doing("decode"):
                    picture = self._packed(data)
                    ready.append(encoder.squares(picture) if isinstance(encoder, ImageEncoder) else picture)
            except ImageProblem as problem:
                bad[i] = problem.code, problem.detail
        if not ready:
            return np.zeros((0, encoder.dim), np.float32), bad
        return encoder.of_squares(ready) if isinstance(encoder, ImageEncoder) else encoder.encode(ready), bad


def _part(known: dict[str, EncoderFacts], name: str) -> float:
    """Which part of what is kept is this encoder's."""
    sizes = {one: vector_bytes(facts["dim"]) for one, facts in known.items()}
    return sizes[name] / sum(sizes.values()) if name in sizes else 0.5


class _How(NamedTuple):
    """How an encoder is loaded and its vectors are kept; see Extractor."""

    known: EncoderFacts | None
    learnt: Path | None
    graph: Path | Literal[False] | None  # a file; False: none; None: as this machine makes it
    cached: bool
    most_cached: int | None
    hub: bool
    precision: Precision


class _Branch:
    """An encoder that is loaded only when a vector is not in its cache, and that cache."""

    def __init__(self, load: Callable[[], Encoder], how: _How, pool: ThreadPoolExecutor, clock: Clock) -> None:
        self._load, self._how, self._pool, self._clock = load, how, pool, clock
        self._lock, self._turns = threading.RLock(), threading.Lock()  # others' encoders need not bear threads
        self._encoder: Encoder | None = None
        self._cache: FeatureCache | None = None

    @property
    def encoder(self) -> Encoder:
        with self._lock:
            if self._encoder is None:
                with _loading:
                    self._encoder = self._loaded()
            return self._encoder

    def cached_bytes(self) -> int:
        """How large its cache is."""
        kept = self._kept()
        return kept.size() if kept else 0

    def _loaded(self) -> Encoder:
        how = self._how
        with encoders.hub(how.hub):
            found = self._load()
        if how.learnt:
            apply_learnt(found, how.learnt)
        if how.known and how.known["identity"] != found.identity:
            raise EncoderError(
                "an encoder is not the one that the student learnt with (weights or preprocessing differ); "
                "train again, or restore the encoder"
            )
        if isinstance(found, ImageEncoder | TextEncoder):
            found.clock = self._clock
            if how.graph is None and not how.learnt:
                found.speed_up(precision=how.precision)
            elif how.graph:
                found.speed_up(how.graph)
        return found

    @property
    def facts(self) -> EncoderFacts:
        return self._how.known or {"identity": self.encoder.identity, "dim": self.encoder.dim}

    @property
    def dim(self) -> int:
        return self.facts["dim"]

    def vectors(
        self,
        wanted: dict[bytes, Any],
        encode: Callable[[Encoder, list[Any]], tuple[np.ndarray, dict[int, Problem]]],
    ) -> tuple[dict[bytes, np.ndarray], dict[bytes, Problem]]:
        """Vectors by key, from the cache or computed now, and the problems of those that cannot be."""
        cache = self._kept()
        found = cache.get(list(wanted)) if cache else {}
        missing = [key for key in wanted if key not in found]
        problems: dict[bytes, Problem] = {}
        if not missing:
            return found, problems
        encoder, size = self.encoder, CHUNK[default_device().type]
        if default_device().type == "cpu" and len(missing) <= size:  # a few items, too, are work for all cores
            size = max(LEAST, -(-len(missing) // cores()))
        parts = [missing[start : start + size] for start in range(0, len(missing), size)]

        def work(keys: list[bytes]) -> tuple[np.ndarray, dict[int, Problem]]:
            with nullcontext() if isinstance(encoder, ImageEncoder | TextEncoder) else self._turns:
                return encode(encoder, [wanted[key] for key in keys])

        made = self._pool.map(work, parts)
        fresh: dict[bytes, np.ndarray] = {}
        for keys, (vectors, bad) in zip(parts, made, strict=True):
            problems |= {keys[i]: problem for i, problem in bad.items()}
            good = [key for i, key in enumerate(keys) if i not in bad]
            fresh |= dict(zip(good, vectors.astype(np.float16), strict=True))
        if cache:
            cache.put(fresh)
        return found | fresh, problems

    def _kept(self) -> FeatureCache | None:
        with self._lock:
            if self._cache is None and self._how.cached:
                identity = self.facts["identity"]
                if self._how.graph:  # whose weights may be small ones: its features are its own
                    files = self._how.graph, self._how.graph.with_suffix(".bin")
                    identity = encoders.digest(identity, *map(file_digest, files), *(["bf16"] if has_bf16() else []))
                elif self._how.graph is None and self._how.precision == "bf16":
                    identity = encoders.digest(identity, "bf16")
                self._cache = FeatureCache(identity, self._how.most_cached)
            return self._cache


class _Written:
    """What is written in pictures, put behind the texts of posts; the reader is loaded only when it is needed."""

    def __init__(
        self, packed: Callable[[bytes], Image], pool: ThreadPoolExecutor, clock: Clock, *, cached: bool
    ) -> None:
        self._packed, self._pool, self._clock = packed, pool, clock
        self._kept = kept_texts() if cached else None
        self._reader: Reader | None = None
        self._lock = threading.Lock()

    def beside(
        self, posts: Sequence[PostInputs], key_of: Callable[[str], bytes]
    ) -> tuple[list[PostInputs], list[list[Problem]]]:
        """The posts with what their pictures say, and why pictures of each could not be decoded."""
        wanted = {key_of(digest): data for post in posts for digest, data in post.images}
        found = self._kept.get(list(wanted)) if self._kept else {}
        problems: dict[bytes, Problem] = {}
        missing = [key for key in wanted if key not in found]
        if missing:
            with self._lock:
                self._reader = self._reader or Reader()
            made = dict(zip(missing, self._pool.map(self._read, [wanted[key] for key in missing]), strict=True))
            problems = {key: said for key, said in made.items() if isinstance(said, tuple)}
            fresh = {key: said for key, said in made.items() if isinstance(said, str)}
            if self._kept:
                self._kept.put(fresh)
            found |= fresh
        both, lost = [], []
        for post in posts:
            keys = [key_of(digest) for digest, _ in post.images]
            written = [found.get(key, "") for key in keys]
            both.append(PostInputs("\n".join(filter(None, [post.text, *written])), post.images))
            lost.append([problems[key] for key in keys if key in problems])
        return both, lost

    def _read(self, data: bytes) -> str | Problem:
        assert self._reader is not None
        try:
            with self._clock.doing("decode"):
                picture = self._packed(data)
        except ImageProblem as problem:
            return problem.code, problem.detail
        with self._clock.doing("read pictures"):
            return self._reader.read(picture)


def sample_inputs(row: dict[str, Any]) -> PostInputs:
    """The inputs of a row of the sample table; its packed images stand for the files they came from."""
    return PostInputs(row["text"], list(zip(row["image_hashes"], row["images"], strict=True)))


def embed(sample: Path, out: Path, *, student: Student, image_px: int, max_images: int) -> None:
    """Write the frozen features of the whole sample, in its order."""
    extract = Extractor(student, image_px=image_px)
    ids: list[str] = []
    parts: list[Features] = []
    rows_at_once = ROWS if default_device().type == "cpu" else ROWS * min(cores(), GPU_BLOCKS)
    with progress(what="embed", total=count(sample)) as bar:
        for rows in stream(sample, ["post_id", "text", "images", "image_hashes"], rows_at_once):
            found, _ = extract([sample_inputs(row) for row in rows])  # one after the other: the same bytes every time
            ids += [row["post_id"] for row in rows]
            parts.append(found)
            bar.update(len(rows))
    if not parts:
        raise DataError("the sample is empty; nothing to embed")
    save(out, ids, Features.join(parts), {"encoders": extract.facts, "image_px": image_px, "max_images": max_images})
