"""Populations for simulations: planted ones, and MVSA-single with its own labels as truth."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from assay.corpora.mvsa import Mvsa
from assay.errors import RowError
from assay.targets import KINDS
from assay.text import decode

BANDS = {"min": 0, "max": 10, "bands": [3.5, 6.5], "band_names": ["low", "moderate", "high"]}
SCORE = KINDS["score"].model_validate({"kind": "score", **BANDS})
CLASSES = KINDS["classes"].model_validate({"kind": "classes", "names": ["yes", "no"]})


@dataclass
class World:
    """A population: posts with labels that a teacher would give to all of them."""

    posts: pa.Table
    features: np.ndarray  # what the student sees, [n, d]
    values: list[Any]
    target: Any
    author: np.ndarray  # int [n]
    truths: dict[str, float] = field(default_factory=dict)


def planted(
    rng: np.random.Generator,
    *,
    n: int = 8000,
    kind: str = "score",
    brands: int = 8,
    accounts: int = 0,
    authors: str = "alone",
    rare: float = 0.2,
    equal: bool = False,
    named: float = 0.6,
    signal: float = 1.0,
) -> World:
    """Posts of `brands` brands by authors; `accounts` of the brands post all through one account of their own."""
    features = rng.standard_normal((n, 8))
    brand = np.where(rng.random(n) < named, rng.integers(0, brands, n), -1)
    author = _authors(rng, n, authors)
    for one in range(accounts):
        author[brand == one] = n + one
    effect = np.zeros(brands + 1) if equal else np.append(rng.normal(0, 1, brands), 0.0)
    by_author = rng.standard_normal(author.max() + 1)[author] * (0.0 if authors == "alone" else 1.2)
    sponsored = rng.random(n) < 0.3
    strength = signal * (features[:, :5] @ np.array([1.0, 0.8, -0.6, 0.4, 0.3])) + effect[brand] + by_author
    strength = strength + 0.5 * sponsored + rng.normal(0, 1.2, n)
    columns = {
        "post_id": [f"p{i}" for i in range(n)],
        "brands": [[f"b{one:02d}"] if one >= 0 else [] for one in brand],
        "sponsored": sponsored,
        "author": [f"a{one}" for one in author],
    }
    posts = pa.table(columns)
    seen = np.column_stack([features, sponsored])
    if kind == "score":
        values = np.clip(np.round(2 * (5 + 1.3 * strength)) / 2, 0, 10)
        return World(posts, seen, values.tolist(), SCORE, author)
    cut = np.quantile(strength, 1 - rare)
    return World(posts, seen, ["yes" if one > cut else "no" for one in strength], CLASSES, author)


def _authors(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    if kind == "tens":
        return np.arange(n) // 10
    if kind == "zipf":
        sizes = np.minimum(rng.zipf(1.6, n), 200)
        return np.repeat(np.arange(n), sizes)[:n]
    return np.arange(n)


def truths_of(world: World, estimands: tuple[str, ...]) -> dict[str, float]:
    """What would be found, were every post labelled."""
    y = world.target.observed(world.values, world.target.estimands[0])
    found: dict[str, float] = {}
    flat = [one[0] if one else None for one in world.posts["brands"].to_pylist()]
    brand = np.array(flat, dtype=object)
    sponsored = np.asarray(world.posts["sponsored"])
    if "mean" in estimands:
        found["mean"] = float(y.mean())
    if "brand" in estimands:
        found |= {f"brand {one}": float(y[brand == one].mean()) for one in sorted({b for b in flat if b})}
    if "difference" in estimands:
        found["difference"] = float(y[sponsored].mean() - y[~sponsored].mean())
    if "band" in estimands and world.target.kind == "score":
        found["band"] = float((y >= 6.5).mean())
    if "regression" in estimands:
        found["regression"] = _coefficient(y, sponsored.astype(float), logistic=world.target.kind != "score")
    return found


def _coefficient(y: np.ndarray, x: np.ndarray, *, logistic: bool) -> float:
    """Of a regression of y on one covariate of 0 and 1: a difference of means, or of log odds."""
    one, other = y[x > 0].mean(), y[x == 0].mean()
    return float(np.log(one / (1 - one)) - np.log(other / (1 - other))) if logistic else float(one - other)


def mvsa(_: np.random.Generator, *, folder: Path) -> World:
    """MVSA-single: is a post positive? Its own labels are the truth; groups are its eight most frequent hashtags.

    What a student sees are 60 singular vectors of TF-IDF of the captions. "sponsored" is whether a post is passed on
    (RT), for want of a better column.
    """
    layout = Mvsa(folder)
    raw = [layout.parse(row) for row in layout.rows() if not isinstance(row.data, RowError)]
    kept = [post for post in raw if post.gold["sentiment"] is not None]
    texts = [decode(post.text) if isinstance(post.text, bytes) else "" for post in kept]
    tags = [re.findall(r"#(\w+)", text.lower()) for text in texts]
    common = {name for name, _ in Counter(name for own in tags for name in set(own)).most_common(8)}
    words = TfidfVectorizer(min_df=3, sublinear_tf=True).fit_transform(texts)
    posts = pa.table(
        {
            "post_id": [f"p{i}" for i in range(len(kept))],
            "brands": [[name for name in own if name in common][:1] for own in tags],
            "sponsored": [text.startswith("RT") for text in texts],
            "author": [f"a{i}" for i in range(len(kept))],
        }
    )
    features = TruncatedSVD(60, random_state=0).fit_transform(words)
    values = ["yes" if post.gold["sentiment"] == "positive" else "no" for post in kept]
    return World(posts, features, values, CLASSES, np.arange(len(kept)))
