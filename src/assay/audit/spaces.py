"""Images and prompts -> spaces: for each encoder, how like each other all images of an activity are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay import images
from assay.config import Audit, AuditEncoder, Student
from assay.encode.extract import Extractor, PostInputs
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.errors import DataError, EncoderError
from assay.posts import count, stream
from assay.progress import progress, say

ROWS_AT_ONCE = 256
Kind = Literal["images", "prompts", "patches"]


@dataclass
class Grid:
    """The images of an audit in order: A activities x G groups x R replicates (a template with the rank of a seed).

    An activity stands here when every replicate that one of its groups has is there for all groups: only then
    can groups be compared on the same scenes. The others are in `incomplete`.
    """

    activities: list[str]
    categories: list[str]
    words: list[str]
    groups: list[str]
    replicates: list[tuple[str, int]]
    there: np.ndarray  # bool [A, R]
    rows: dict[str, tuple[int, int, int]]  # image_id -> its place
    incomplete: list[str]
    failed: dict[str, int]  # images without a picture, by reason
    prompts: dict[tuple[int, int, str], str] = field(default_factory=dict)  # (activity, group, template) -> prompt
    seeds: dict[str, int] = field(default_factory=dict)  # image_id -> the seed itself

    @property
    def templates(self) -> list[str]:
        """The template of each replicate."""
        return [template for template, _ in self.replicates]


@dataclass
class Space:
    """What one encoder sees: the likeness of any two images of an activity, cosine or split-product."""

    name: str
    kind: Kind
    control: bool
    templates: list[str]  # of each replicate
    there: np.ndarray  # bool [A, R]
    likeness: np.ndarray  # float32 [A, G, R, G, R]; NaN where a replicate is not there
    vectors: np.ndarray | None  # float32 [A, G, R, d], of length 1, zeros where not there; None for patches


def read_grid(folder: Path, groups: list[str]) -> Grid:
    """The grid of the image shards; DataError when no activity is whole."""
    columns = ["image_id", "activity", "category", "words", "group", "template", "seed", "status", "reason", "prompt"]
    rows = [row for batch in stream(folder, columns) for row in batch]
    order = {name: i for i, name in enumerate(groups)}
    asked: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        asked.setdefault(row["activity"], []).append(row)
    for own in asked.values():  # seeds may differ by activity: what counts is which of a prompt's images it is
        ranks = {one: i for i, one in enumerate(sorted({(row["template"], row["seed"]) for row in own}))}
        lowest = {template: min(i for (t, _), i in ranks.items() if t == template) for template, _ in ranks}
        for row in own:
            row["rank"] = ranks[row["template"], row["seed"]] - lowest[row["template"]]
    replicates = sorted({(row["template"], row["rank"]) for row in rows})
    at = {one: i for i, one in enumerate(replicates)}
    whole: list[str] = []
    incomplete: list[str] = []
    failed: dict[str, int] = {}
    for activity, own in asked.items():
        places = {(row["template"], row["rank"], row["group"]) for row in own if row["status"] == "ok"}
        wanted = {(row["template"], row["rank"]) for row in own}
        complete = all((*one, group) in places for one in wanted for group in groups)
        (whole if complete else incomplete).append(activity)
        for row in own:
            if row["status"] != "ok":
                code = str(row["reason"]).split(":")[0]
                failed[code] = failed.get(code, 0) + 1
    if not whole:
        raise DataError(
            f"no activity has an image of every group ({', '.join(groups)}); {sum(failed.values())} images failed"
        )
    index = {activity: i for i, activity in enumerate(whole)}
    there = np.zeros((len(whole), len(replicates)), dtype=np.bool_)
    found: dict[str, tuple[int, int, int]] = {}
    prompts: dict[tuple[int, int, str], str] = {}
    seeds: dict[str, int] = {}
    for activity in whole:
        for row in asked[activity]:
            place = (index[activity], order[row["group"]], at[row["template"], row["rank"]])
            there[place[0], place[2]] = True
            found[row["image_id"]] = place
            if row["prompt"]:
                prompts[place[0], place[1], row["template"]] = row["prompt"]
            seeds[row["image_id"]] = row["seed"]
    first = [asked[activity][0] for activity in whole]
    return Grid(
        activities=whole,
        categories=[row["category"] for row in first],
        words=[row["words"] for row in first],
        groups=groups,
        replicates=replicates,
        there=there,
        rows=found,
        incomplete=incomplete,
        failed=dict(sorted(failed.items())),
        prompts=prompts,
        seeds=seeds,
    )


@dataclass
class Built:
    """The spaces of all encoders, and why those are missing that cannot be had."""

    spaces: list[Space] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)
    across: dict[str, np.ndarray] = field(default_factory=dict)
    """By encoder that puts images and prompts into one space, their mean cosine in each activity: float [A, G of the
    images, G of the prompts], of the same template, nothing centred."""


def build(audit: Audit, folder: Path, grid: Grid) -> Built:
    """What all encoders see; EncoderError when none can be had."""
    built = Built()
    for name, settings in audit.encoders.items():
        try:
            _build_one(built, name, settings, audit, folder, grid)  # what came before a fault stays
        except EncoderError as error:
            say(f"audit: encoder {name} is left out: {error}")
            built.lacking[name] = str(error)
    if not built.spaces:
        raise EncoderError(f"no encoder could be had; the first: {next(iter(built.lacking.values()))}")
    return built


def _build_one(built: Built, name: str, settings: AuditEncoder, audit: Audit, folder: Path, grid: Grid) -> None:
    extract = Extractor(
        Student(image=settings.image, text=settings.text), image_px=audit.image_px, max_pixels=audit.images.max_pixels
    )
    if settings.image:
        seen = _of_images(extract, folder, grid, name)
        built.spaces.append(_space(name, "images", settings, grid.templates, seen, grid.there))
        if settings.split_product:
            built.spaces.append(_patches(name, settings, audit, folder, grid))
    if settings.text:
        vectors, templates, there = _of_prompts(extract, grid)
        if not there.any(axis=1).all():
            raise EncoderError(f"{name}: not every activity has a prompt for every group, so that prompts say nothing")
        built.spaces.append(_space(f"{name}_prompts", "prompts", settings, templates, vectors, there))
        if settings.is_shared:
            built.across[name] = _across(seen, vectors, templates, there, grid)


def _space(
    name: str, kind: Kind, settings: AuditEncoder, templates: list[str], vectors: np.ndarray, there: np.ndarray
) -> Space:
    """A space of vectors [A, G, R, d]: centred if wished, of length 1, and the cosines within each activity.

    The centre is the mean over all groups alike, so that it does not change when groups are permuted within
    an activity.
    """
    mask = there[:, None, :, None]
    if settings.center:
        vectors = vectors - vectors.sum((0, 1, 2)) / (there.sum() * vectors.shape[1])
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = np.where(mask & (length > 0), vectors / np.maximum(length, 1e-12), 0).astype(np.float32)
    likeness = np.einsum("agrd,ahsd->agrhs", vectors, vectors, optimize=True)
    both = there[:, None, :, None, None] & there[:, None, None, None, :]
    return Space(name, kind, settings.control, templates, there, np.where(both, likeness, np.nan), vectors)


def _across(images: np.ndarray, prompts: np.ndarray, templates: list[str], said: np.ndarray, grid: Grid) -> np.ndarray:
    """[A, G, G] the mean cosine of images [A, G, R, d] of a group with the prompts [A, G, T, d] of each group."""
    at = [templates.index(template) for template in grid.templates]
    one, other = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12) for v in (images, prompts))
    counts = grid.there & said[:, at]  # [A, R]
    total = np.einsum("agrd,ahrd,ar->agh", one, other[:, :, at], counts.astype(np.float32), optimize=True)
    return np.asarray(total / counts.sum(1)[:, None, None])


def _of_prompts(extract: Extractor, grid: Grid) -> tuple[np.ndarray, list[str], np.ndarray]:
    """[A, G, templates, d] of the prompts, the templates, and [A, templates] where all groups have a prompt."""
    templates = list(dict.fromkeys(grid.templates))
    places = [(place, text) for place, text in grid.prompts.items()]
    found, _ = extract([PostInputs(text, []) for _, text in places])
    shape = (len(grid.activities), len(grid.groups), len(templates))
    vectors = np.zeros((*shape, found.text.shape[1]), np.float32)
    said = np.zeros(shape, bool)
    for ((a, g, template), _), vector in zip(places, found.text, strict=True):
        vectors[a, g, templates.index(template)] = vector
        said[a, g, templates.index(template)] = True
    there = np.asarray(said.all(axis=1))
    return vectors * there[:, None, :, None], templates, there


def _of_images(extract: Extractor, folder: Path, grid: Grid, name: str) -> np.ndarray:
    vectors: np.ndarray | None = None
    with progress(what=f"embed {name}", total=count(folder), unit="image") as bar:
        for rows in stream(folder, ["image_id", "image", "image_hash"], ROWS_AT_ONCE):
            wanted = [row for row in rows if row["image_id"] in grid.rows]
            if wanted:
                found, _ = extract([PostInputs("", [(row["image_hash"], row["image"])]) for row in wanted])
                if vectors is None:
                    shape = (*grid.there.shape[:1], len(grid.groups), len(grid.replicates), found.image.shape[1])
                    vectors = np.zeros(shape, np.float32)
                for row, vector in zip(wanted, found.image, strict=True):
                    vectors[grid.rows[row["image_id"]]] = vector
            bar.update(len(rows))
    assert vectors is not None  # a grid has images
    return vectors


def _patches(name: str, settings: AuditEncoder, audit: Audit, folder: Path, grid: Grid) -> Space:
    """The split-product of all images of each activity: the highest cosine of two patches at the same place.

    Source: Somepalli et al., "Diffusion art or digital forgery?", 2023, with patches of length 1.
    """
    assert settings.image is not None
    encoder = load_image_encoder(settings.image)
    (a, r), g = grid.there.shape, len(grid.groups)
    likeness = np.full((a, g, r, g, r), np.nan, np.float32)
    with progress(what=f"patches {name}", total=a, unit="activity") as bar:
        for place, rows in _by_activity(folder, grid):
            tokens = _tokens(encoder, [row["image"] for row in rows], audit)
            places = [grid.rows[row["image_id"]] for row in rows]
            for i, (_, gi, ri) in enumerate(places):
                best = np.einsum("pw,npw->np", tokens[i], tokens, optimize=True).max(axis=1)
                for j, (_, gj, rj) in enumerate(places):
                    likeness[place, gi, ri, gj, rj] = best[j]
            bar.update(1)
    return Space(f"{name}_split", "patches", settings.control, grid.templates, grid.there, likeness, None)


def _tokens(encoder: ImageEncoder, files: list[bytes], audit: Audit) -> np.ndarray:
    parts = []
    for start in range(0, len(files), 32):
        some = files[start : start + 32]
        packed = [images.pack(data, longest=audit.image_px, max_pixels=audit.images.max_pixels).image for data in some]
        parts.append(encoder.patches(packed))
    return np.concatenate(parts)


def _by_activity(folder: Path, grid: Grid) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(activity, its rows) of each whole activity; the shards hold the images of an activity one after another."""
    held: list[dict[str, Any]] = []
    for rows in stream(folder, ["image_id", "image"], 64):
        for row in rows:
            if row["image_id"] not in grid.rows:
                continue
            if held and grid.rows[held[0]["image_id"]][0] != grid.rows[row["image_id"]][0]:
                yield grid.rows[held[0]["image_id"]][0], held
                held = []
            held.append(row)
    if held:
        yield grid.rows[held[0]["image_id"]][0], held
