"""Frozen features of posts: one row of vectors a post, as tables on disk hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from assay.posts import write_table


class EncoderFacts(TypedDict):
    """What tells one encoder from another, and the length of its vectors."""

    identity: str
    dim: int


def dims_of(encoders: Mapping[str, EncoderFacts]) -> tuple[int, int]:
    """Lengths of the image and the text vectors, 0 for what a student does not see."""
    image, text = (encoders[name]["dim"] if name in encoders else 0 for name in ("image", "text"))
    return image, text


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
