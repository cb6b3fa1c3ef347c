"""Maps of a space in two dimensions: t-SNE and UMAP of the same images, or of their prompts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from assay.audit.spaces import Grid, Space
from assay.config import Pictures
from assay.places import with_extra
from assay.progress import cores, progress, say

COMPONENTS = 50
FEWEST = 4  # points of a map
_Placed = tuple[str, tuple[int, int, int]]
"""An image and its place: activity, group, replicate."""


def maps(grid: Grid, spaces: list[Space], settings: Pictures, seed: int) -> list[dict[str, Any]]:
    """A row an image and map: space, map, x, y and what the image is of. Whole activities, at most `map_images` images.

    A map of prompts has a point for each prompt, with the first image that was made of it. Controls have no maps. A map
    that needs a package which is not there is left out, and a line says so.
    """
    every = _chosen(grid, settings.map_images, seed)
    rows: list[dict[str, Any]] = []
    shown = [space for space in spaces if space.vectors is not None and not space.control]
    wanted = [(space, kind) for space in shown for kind in settings.maps]
    for space, kind in progress(wanted, what="maps", unit="map"):
        chosen = _one_a_prompt(every, grid) if space.kind == "prompts" else every
        vectors = _vectors(space, chosen, grid)
        if len(vectors) < FEWEST or float(np.ptp(vectors, axis=0).max()) < 1e-6:  # t-SNE's tree would not survive that
            why = "all that it sees is alike" if len(vectors) >= FEWEST else f"{len(vectors)} points are too few"
            say(f"audit: no {kind} map of {space.name}: {why}")
            continue
        points = _project(vectors, kind, settings, seed)
        if points is None:
            continue
        for (image_id, (a, g, r)), (x, y) in zip(chosen, points, strict=True):
            rows.append(
                {
                    "space": space.name,
                    "map": kind,
                    "image_id": image_id,
                    "x": round(float(x), 3),
                    "y": round(float(y), 3),
                    "group": grid.groups[g],
                    "activity": grid.activities[a],
                    "words": grid.words[a],
                    "category": grid.categories[a],
                    "prompt": grid.prompts.get((a, g, grid.templates[r]), ""),
                    "seed": grid.seeds[image_id],
                }
            )
    return rows


def _one_a_prompt(chosen: list[_Placed], grid: Grid) -> list[_Placed]:
    """Of each prompt its first image."""
    first: dict[tuple[int, int, str], _Placed] = {}
    for one in sorted(chosen, key=lambda one: one[1]):
        a, g, r = one[1]
        first.setdefault((a, g, grid.templates[r]), one)
    return list(first.values())


def _vectors(space: Space, chosen: list[_Placed], grid: Grid) -> np.ndarray:
    assert space.vectors is not None
    if space.kind != "prompts":
        return np.stack([space.vectors[place] for _, place in chosen])
    return np.stack([space.vectors[a, g, space.templates.index(grid.templates[r])] for _, (a, g, r) in chosen])


def _chosen(grid: Grid, most: int, seed: int) -> list[_Placed]:
    by_activity: dict[int, list[_Placed]] = {}
    for image_id, place in grid.rows.items():
        by_activity.setdefault(place[0], []).append((image_id, place))
    found: list[_Placed] = []
    for at in np.random.default_rng([seed, 21]).permutation(len(grid.activities)):
        if found and len(found) + len(by_activity[int(at)]) > most:
            break
        found += by_activity[int(at)]
    return found


def _project(vectors: np.ndarray, kind: str, settings: Pictures, seed: int) -> np.ndarray | None:
    reduced = PCA(min(COMPONENTS, *vectors.shape), random_state=0).fit_transform(vectors)
    if kind == "tsne":
        perplexity = min(settings.perplexity, (len(vectors) - 1) / 3)
        return np.asarray(
            TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=cores()).fit_transform(reduced)
        )
    try:
        import umap
    except ImportError:
        say(f"audit: no UMAP map: it needs {with_extra('audit')}")
        return None
    with warnings.catch_warnings():  # that a seed makes it use one core
        warnings.simplefilter("ignore")
        neighbours = min(settings.neighbours, len(vectors) - 1)
        return np.asarray(umap.UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(reduced))
