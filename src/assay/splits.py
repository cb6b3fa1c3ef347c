"""Leakage-safe, stratified splits: posts that share author, image or text never part.

Groups are the connected components of "same author", "near-duplicate image" (pHash within
`image_distance` bits) and "near-duplicate text" (Jaccard similarity of words and word pairs of at
least `text_similarity`).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from assay.config import Split
from assay.errors import DataError
from assay.progress import say
from assay.targets import Target
from assay.text import PERMUTATIONS, shingles, similarity

NAMES = ("train", "val", "calibration", "test")
BITS = 64
_FOLDS = 20  # a split is made of twentieths of the groups
SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("held_out_p", pa.float64()),  # the chance to be in calibration or test; null: the corpus' own split
    ]
)


def groups(posts: Sequence[dict[str, Any]], settings: Split) -> np.ndarray:
    """The leakage group of each post (int64 [n]), named by its first post; posts are rows of the sample table."""
    pairs: list[tuple[int, int]] = []
    if "author" in settings.group_by:
        first: dict[str, int] = {}
        pairs += [(first.setdefault(post["author"], i), i) for i, post in enumerate(posts) if post["author"]]
    if "image" in settings.group_by:
        pairs += near_images([post["image_sig"] for post in posts], settings.image_distance)
    if "text" in settings.group_by:
        pairs += near_texts(posts, settings.text_similarity)
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(posts), len(posts)))
    component = connected_components(links, directed=False)[1]
    return np.asarray(np.unique(component, return_index=True)[1][component], dtype=np.int64)


def near_images(signatures: Sequence[Sequence[str]], distance: int) -> Iterator[tuple[int, int]]:
    """Pairs of posts with images whose signatures differ in at most `distance` bits.

    Exact by the pigeonhole principle: cut into distance + 1 bands, two such signatures agree in one.
    Equal signatures are chained first, so that a picture which everybody posts costs nothing more.
    """
    owners: dict[int, list[int]] = defaultdict(list)
    for i, sigs in enumerate(signatures):
        for digits in sigs:
            owners[int(digits, 16)].append(i)
    for posts in owners.values():
        yield from pairwise(posts)
    bands = np.array_split(np.arange(BITS), distance + 1)
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for sig in owners:
        for number, band in enumerate(bands):
            part = (sig >> int(band[0])) & ((1 << len(band)) - 1)
            buckets[number, part].append(sig)
    for members in buckets.values():
        for a, b in combinations(members, 2):
            if (a ^ b).bit_count() <= distance:
                yield owners[a][0], owners[b][0]


def near_texts(posts: Sequence[dict[str, Any]], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of posts whose texts are at least `threshold` similar; candidates share two MinHash minima."""
    first: dict[str, int] = {}
    words: dict[int, set[str]] = {}  # of texts that are unlike all before them
    for i, post in enumerate(posts):
        if post["text_sig"] is not None:
            mine = shingles(post["text"])
            key = " ".join(sorted(mine))
            if key in first:
                yield first[key], i
            else:
                first[key] = i
                words[i] = mine
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i in first.values():
        sig = posts[i]["text_sig"]
        for band in range(PERMUTATIONS // 2):
            buckets[band, sig[8 * band : 8 * band + 8]].append(i)
    seen: set[tuple[int, int]] = set()
    for members in buckets.values():
        for a, b in combinations(members, 2):
            if (a, b) not in seen:
                seen.add((a, b))
                if similarity(words[a], words[b]) >= threshold:
                    yield a, b


def assign(strata: np.ndarray, group: np.ndarray, settings: Split) -> np.ndarray:
    """The split of each post, names [n], as `assign_with_chance` deals them."""
    return assign_with_chance(strata, group, settings)[0]


def assign_with_chance(strata: np.ndarray, group: np.ndarray, settings: Split) -> tuple[np.ndarray, float]:
    """The split of each post (names [n]), and the chance of each to be held out (in calibration or test).

    No group crosses a split, strata are spread evenly. Groups are dealt into parts, and the parts to the splits by
    lot: the chance to be held out is the same for all, whatever the size of a group. (Large groups given to train
    first leave a held-out part that is not like the rest.) With `folds`, test is fold number `fold` of a grouped
    k-fold, and train, val and calibration share the rest in their proportions.
    """
    n, count = len(strata), len(np.unique(group))
    if count < 4:
        raise DataError(
            f"only {count} leakage groups among {n} labelled posts, at least 4 are needed; "
            "label more posts or drop a rule from split.group_by"
        )
    result = np.full(n, "", dtype=object)
    names = [name for name in NAMES if getattr(settings, name) > 0]
    rest, outside = np.arange(n), 0.0
    if settings.folds:
        folds = grouped_folds(strata, group, settings.folds, settings.seed)
        result[folds == settings.fold] = "test"
        rest, outside = np.flatnonzero(folds != settings.fold), 1 / settings.folds
        names.remove("test")
    parts = min(_FOLDS, len(np.unique(group[rest])))
    if parts < len(names):
        raise DataError(f"{count} leakage groups cannot make {len(names)} splits; label more posts")
    where = grouped_folds(strata[rest], group[rest], parts, settings.seed + 1)
    counts = _parts(np.array([getattr(settings, name) for name in names]), parts)
    owner = np.random.default_rng(settings.seed + 2).permutation(np.repeat(names, counts))
    result[rest] = owner[where]
    if missing := [name for name in (*names, "test") if not (result == name).any()]:
        raise DataError(
            f"the split {missing} is empty: {count} leakage groups are too few; "
            "label more posts or change the shares in split"
        )
    held = sum(int(c) for name, c in zip(names, counts, strict=True) if name in ("calibration", "test"))
    return result, outside + (1 - outside) * held / parts


def _parts(shares: np.ndarray, parts: int) -> np.ndarray:
    """How many of `parts` each share gets, at least one, by largest remainders."""
    wanted = shares / shares.sum() * parts
    counts: np.ndarray = np.maximum(np.floor(wanted + 1e-9).astype(int), 1)
    while counts.sum() != parts:
        step = 1 if counts.sum() < parts else -1
        room = wanted - counts if step > 0 else np.where(counts > 1, counts - wanted, -np.inf)
        counts[int(np.argmax(room))] += step
    return counts


def grouped_folds(strata: np.ndarray, group: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each post, int64 [n]: whole groups, strata spread as evenly as they go; every group has the same
    chance to be in a fold.
    """
    result = np.zeros(len(strata), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class rarer than the folds: it is spread as far as it goes
        if len(np.unique(group)) < max(folds, 2):
            raise DataError(f"{len(np.unique(group))} leakage groups cannot make {folds} folds; label more posts")
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        try:
            for number, (_, test) in enumerate(splitter.split(strata, strata, group)):
                result[test] = number
        except ValueError:  # every class rarer than the folds: stratification is impossible
            order = np.random.default_rng(seed).permutation(np.unique(group))
            place = {g: i % folds for i, g in enumerate(order)}
            result = np.array([place[g] for g in group])
    return np.asarray(np.random.default_rng(seed).permutation(folds)[result])  # the first gets the largest group


def official(posts: Sequence[dict[str, Any]], settings: Split) -> np.ndarray | None:
    """The split of each post by the corpus' own (empty where params leave its name out); None where it has none."""
    if settings.official is None or not any(post["split"] for post in posts):
        return None
    of = {name: ours for ours, names in settings.official.items() for name in names}
    return np.array([of.get(post["split"] or "", "") for post in posts], dtype=object)


def complete(names: np.ndarray, strata: np.ndarray, group: np.ndarray, settings: Split) -> np.ndarray:
    """Official splits with a val split cut from train where the corpus has none.

    Whole groups are cut; a group that reaches into the official test stays in train. A calibration split
    is not cut: without one, students are calibrated on val (or on inner folds).
    """
    train = np.flatnonzero(names == "train")
    if (names == "val").any() or not len(train):
        return names
    names = names.copy()
    outside = set(group[names != "train"])
    free = np.array([i for i in train if group[i] not in outside], dtype=int)
    parts = min(_FOLDS, len(np.unique(group[free])))
    if parts < 2:
        raise DataError("no val split can be cut from the official train split; label more posts")
    folds = grouped_folds(strata[free], group[free], parts, settings.seed)
    count = max(1, round(parts * settings.val / (settings.train + settings.val)))
    names[free[folds < count]] = "val"
    return names


def split(
    sample: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]], settings: Split, target: Target
) -> pa.Table:
    """The split table of all labelled posts, in the order of the sample."""
    value = {label["post_id"]: label["value"] for label in labels if label["status"] == "ok"}
    posts = [post for post in sample if post["post_id"] in value]
    if not posts:
        raise DataError("no labelled posts to split; see the reasons in the labels table")
    return split_by(posts, target.strata(target.numbers([value[post["post_id"]] for post in posts])), settings)


def split_by(posts: list[dict[str, Any]], strata: np.ndarray, settings: Split) -> pa.Table:
    """The split table of posts, spread evenly over their strata [n]."""
    group = groups(posts, settings)
    given = official(posts, settings)
    chance: float | None
    if given is None:
        names, chance = assign_with_chance(strata, group, settings)
        leaks = find_leaks(names, group)
        if leaks:
            raise DataError(f"{len(leaks)} leakage groups cross the split; please report this")
    else:
        names = complete(given, strata, group, settings)
        _check_official(posts, names)
        kept = np.flatnonzero(names != "")
        posts, names, group, chance = [posts[i] for i in kept], names[kept], group[kept], None
    columns: dict[str, Any] = {"post_id": [post["post_id"] for post in posts], "split": list(names), "group": group}
    columns["held_out_p"] = [chance] * len(posts)
    table = pa.table(columns, schema=SCHEMA)
    if given is not None:
        _say_leaks(leak_figures(table))
    return table


def _check_official(posts: Sequence[dict[str, Any]], names: np.ndarray) -> None:
    """One line about posts that official splits leave out; DataError where train, val or test is empty."""
    missing = [name for name in ("train", "val", "test") if not (names == name).any()]
    if missing:
        there = ", ".join(sorted({str(post["split"]) for post in posts}))
        raise DataError(
            f"no labelled post is in the official {' and '.join(missing)} split (the corpus has: {there}); map its "
            "names under split.official, or set it to null to split anew"
        )
    left = int((names == "").sum())
    if left:
        say(f"split: {left} labelled posts are in no official split that split.official names; they are left out")


def _say_leaks(found: dict[str, Any]) -> None:
    """One line about what leaks across official splits."""
    if found["leaking_groups"]:
        say(
            f"split: the official splits leak: {found['leaking_groups']} groups of posts that share an author or a "
            f"near-duplicate image or text stand in more than one, {found['leaking_test_posts']} of "
            f"{found['posts']['test']} test posts are in them"
        )


def leak_figures(table: pa.Table) -> dict[str, Any]:
    """How many posts each split has, and how many leakage groups and test posts cross splits."""
    names = np.array(table["split"].to_pylist(), dtype=object)
    group = np.array(table["group"].to_pylist())
    leaks = find_leaks(names, group)
    return {
        "posts": {name: int((names == name).sum()) for name in NAMES},
        "groups": len(np.unique(group)),
        "leaking_groups": len(leaks),
        "leaking_test_posts": int(np.isin(group, leaks)[names == "test"].sum()) if len(names) else 0,
    }


def find_leaks(names: np.ndarray, group: np.ndarray) -> list[int]:
    """The groups whose posts stand in more than one split."""
    splits: dict[int, set[str]] = defaultdict(set)
    for name, g in zip(names, group, strict=True):
        splits[int(g)].add(str(name))
    return sorted(g for g, found in splits.items() if len(found) > 1)
