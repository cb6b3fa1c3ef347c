"""Frozen features of posts: computed once, kept by encoder and content, shared by all tasks.

The cache is one SQLite file an encoder in places.home(). A key is the content hash of the image
file (with the size it was packed to) or of the text; a value is the vector in half precision.
Vectors always pass through half precision, so that a cached run equals a fresh one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from assay import images
from assay.code import code_digest
from assay.config import Student
from assay.encode import encoders, graph, image_encoders, text_encoders
from assay.encode.encoders import Encoder, apply_learnt, default_device
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.encode.text_encoders import TextEncoder, load_text_encoder
from assay.errors import DataError, EncoderError, ImageProblem
from assay.places import home
from assay.posts import count, stream, write_table
from assay.progress import cores, progress

ENCODE_BATCH = {"cpu": 32, "cuda": 1024}  # items that are decoded and encoded at a time


class EncoderFacts(TypedDict):
    """What tells one encoder from another, and the length of its vectors."""

    identity: str
    dim: int


class Recipe(TypedDict):
    """How features were made: by which encoders, from images packed to which size, at most how many."""

    encoders: dict[str, EncoderFacts]
    image_px: int
    max_images: int


@dataclass
class Features:
    """Features of n posts; a row of zeros and False where a post lacks the modality."""

    image: np.ndarray  # float32 [n, image dim]; the mean over a post's images
    text: np.ndarray  # float32 [n, text dim]
    has_image: np.ndarray  # bool [n]
    has_text: np.ndarray  # bool [n]
    words: list[str]  # the texts themselves, for n-grams

    def __len__(self) -> int:
        return len(self.has_text)

    def take(self, rows: np.ndarray) -> Features:
        """The features of some rows."""
        words = [self.words[i] for i in rows]
        return Features(self.image[rows], self.text[rows], self.has_image[rows], self.has_text[rows], words)

    def by_modality(self) -> dict[str, np.ndarray]:
        """The features of the posts that have a modality, by modality, [n, d]."""
        found = {"image": self.image[self.has_image], "text": self.text[self.has_text]}
        return {name: rows for name, rows in found.items() if rows.shape[1]}

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """The features of all rows of several parts."""
        names = ("image", "text", "has_image", "has_text")
        image, text, has_image, has_text = (np.concatenate([getattr(p, name) for p in parts]) for name in names)
        return cls(image, text, has_image, has_text, [text for part in parts for text in part.words])


@dataclass
class PostInputs:
    """What an encoder needs of a post: its text and, for each image, content hash and file bytes."""

    text: str
    images: list[tuple[str, bytes]]


# The code that turns posts into vectors: values that older code computed are not mixed with new ones.
CODE = (*(str(module.__file__) for module in (images, encoders, graph, image_encoders, text_encoders)), __file__)


class FeatureCache:
    """Vectors of one encoder by content."""

    def __init__(self, identity: str) -> None:
        folder = home() / "features"
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{identity[:32]}-{code_digest(*CODE)}.sqlite"
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
            db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "CREATE TABLE IF NOT EXISTS vectors(key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;"
            )
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return db

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there (float16)."""
        found: dict[bytes, np.ndarray] = {}
        unique = list(dict.fromkeys(keys))
        for start in range(0, len(unique), 500):
            part = unique[start : start + 500]
            marks = ",".join("?" * len(part))
            try:
                rows = self._db.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part).fetchall()
            except sqlite3.Error as error:
                raise self._broken(error) from error
            found |= {key: np.frombuffer(vector, dtype=np.float16) for key, vector in rows}
        return found

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep vectors; DataError when the disk is full."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO vectors VALUES (?, ?)", [(k, v.tobytes()) for k, v in vectors.items()]
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> DataError:
        return DataError(
            f"feature cache {self.path}: {error}; free some disk, or delete it (features are computed again)"
        )

    def close(self) -> None:
        self._db.close()


class Extractor:
    """Computes the features of posts for one student; encoders are loaded when first needed."""

    def __init__(
        self,
        student: Student,
        *,
        image_px: int,
        max_pixels: int = images.MAX_PIXELS,
        known: dict[str, EncoderFacts] | None = None,
        folder: Path | None = None,
        cached: bool = True,
        hub: bool = True,
    ) -> None:
        """`known`: what a trained student's folder says of its encoders; `folder`: that folder, where they learnt;
        `hub`: whether encoders may be fetched.
        """
        known = known or {}
        self.image_px, self.max_pixels = image_px, max_pixels
        image, text = student.image, student.text
        self._decoders = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        tuned = {name: folder / f"{name}.safetensors" for name in student.tuned} if folder else {}
        self._image = _Branch(lambda: load_image_encoder(image), known, "image", tuned, cached, hub) if image else None
        self._text = _Branch(lambda: load_text_encoder(text), known, "text", tuned, cached, hub) if text else None

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

    def __call__(self, posts: Sequence[PostInputs]) -> tuple[Features, list[list[tuple[str, str]]]]:
        """Features, and for each post the (code, detail) of images that could not be decoded."""
        lost: list[list[tuple[str, str]]] = [[] for _ in posts]
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
        vectors, _ = self._text.vectors(wanted, lambda texts: (texts, {}))
        result = np.zeros((len(posts), self._text.dim), np.float32)
        for i in np.flatnonzero(has):
            result[i] = vectors[keys[i]]
        return result, has

    def _images(self, posts: Sequence[PostInputs], lost: list[list[tuple[str, str]]]) -> tuple[np.ndarray, np.ndarray]:
        if self._image is None:
            return np.zeros((len(posts), 0), np.float32), np.zeros(len(posts), bool)
        wanted = {self._image_key(digest): data for post in posts for digest, data in post.images}
        vectors, problems = self._image.vectors(wanted, self._decode)
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

    def _decode(self, files: list[bytes]) -> tuple[list[Any], dict[int, tuple[str, str]]]:
        """RGB images of files, packed as the sample is; and what could not be decoded, by position."""

        def one(data: bytes) -> Any:
            try:
                return images.pack(data, longest=self.image_px, max_pixels=self.max_pixels).image
            except ImageProblem as problem:
                return problem

        decoded = list(self._decoders.map(one, files))
        bad = {i: (d.code, d.detail) for i, d in enumerate(decoded) if isinstance(d, ImageProblem)}
        return decoded, bad


class _Branch:
    """An encoder that is loaded only when a vector is not in its cache, and that cache."""

    def __init__(
        self,
        load: Callable[[], Encoder],
        known: dict[str, EncoderFacts],
        name: str,
        tuned: dict[str, Path],
        cached: bool,
        hub: bool,
    ) -> None:
        self._load, self._known, self._learnt = load, known.get(name), tuned.get(name)
        self._cached, self._hub = cached, hub
        self._encoder: Encoder | None = None
        self._cache: FeatureCache | None = None

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            with encoders.hub(self._hub):
                self._encoder = self._load()
            if self._learnt:
                apply_learnt(self._encoder, self._learnt)
            if self._known and self._known["identity"] != self._encoder.identity:
                raise EncoderError(
                    "an encoder is not the one that the student learnt with (weights or preprocessing differ); "
                    "train again, or restore the encoder"
                )
            if isinstance(self._encoder, ImageEncoder | TextEncoder) and not self._learnt:
                self._encoder.speed_up()
        return self._encoder

    @property
    def facts(self) -> EncoderFacts:
        return self._known or {"identity": self.encoder.identity, "dim": self.encoder.dim}

    @property
    def dim(self) -> int:
        return self.facts["dim"]

    def vectors(
        self, wanted: dict[bytes, Any], prepare: Callable[[list[Any]], tuple[list[Any], dict[int, tuple[str, str]]]]
    ) -> tuple[dict[bytes, np.ndarray], dict[bytes, tuple[str, str]]]:
        """Vectors by key, from the cache or computed now, and the problems of those that cannot be."""
        if self._cache is None and self._cached:
            self._cache = FeatureCache(self.facts["identity"])
        found = self._cache.get(list(wanted)) if self._cache else {}
        missing = [key for key in wanted if key not in found]
        problems: dict[bytes, tuple[str, str]] = {}
        size = ENCODE_BATCH[default_device().type]
        for start in range(0, len(missing), size):
            keys = missing[start : start + size]
            items, bad = prepare([wanted[key] for key in keys])
            problems |= {keys[i]: problem for i, problem in bad.items()}
            good = [i for i in range(len(keys)) if i not in bad]
            if good:
                vectors = self.encoder.encode([items[i] for i in good]).astype(np.float16)
                fresh = {keys[i]: vector for i, vector in zip(good, vectors, strict=True)}
                if self._cache:
                    self._cache.put(fresh)
                found |= fresh
        return found, problems


def sample_inputs(row: dict[str, Any]) -> PostInputs:
    """The inputs of a row of the sample table; its packed images stand for the files they came from."""
    return PostInputs(row["text"], list(zip(row["image_hashes"], row["images"], strict=True)))


def save(folder: Path, post_ids: list[str], features: Features, made: Recipe) -> None:
    """Write features as safetensors, with the ids in the same order and how they were made beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "image": features.image.astype(np.float16),
        "text": features.text.astype(np.float16),
        "has_image": features.has_image,
        "has_text": features.has_text,
    }
    save_file(arrays, folder / "features.safetensors")
    ids = {"post_id": pa.array(post_ids, pa.string()), "text": pa.array(features.words, pa.string())}
    write_table(pa.table(ids), folder / "posts.parquet")
    (folder / "made.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> tuple[list[str], Features, Recipe]:
    """Read what `save` wrote."""
    arrays = load_file(folder / "features.safetensors")
    posts = pq.read_table(folder / "posts.parquet")
    features = Features(
        arrays["image"].astype(np.float32),
        arrays["text"].astype(np.float32),
        arrays["has_image"],
        arrays["has_text"],
        posts["text"].to_pylist(),
    )
    return posts["post_id"].to_pylist(), features, json.loads((folder / "made.json").read_text())


def embed(sample: Path, out: Path, *, student: Student, image_px: int, max_images: int) -> None:
    """Write the frozen features of the whole sample, in its order."""
    extract = Extractor(student, image_px=image_px)
    ids: list[str] = []
    parts: list[Features] = []
    with progress(what="embed", total=count(sample)) as bar:
        for rows in stream(sample, ["post_id", "text", "images", "image_hashes"], 128):
            found, _ = extract([sample_inputs(row) for row in rows])
            ids += [row["post_id"] for row in rows]
            parts.append(found)
            bar.update(len(rows))
    if not parts:
        raise DataError("the sample is empty; nothing to embed")
    save(out, ids, Features.join(parts), {"encoders": extract.facts, "image_px": image_px, "max_images": max_images})
