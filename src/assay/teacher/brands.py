"""Brands that a teacher names in its answers, beside those that the dictionary finds in the same posts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from assay.config import LabelsTarget
from assay.measure.agreement import agreement
from assay.text import BrandIndex

SHOWN = 30  # names that the dictionary does not have, the most frequent ones


def in_dictionary(name: str, dictionary: BrandIndex) -> list[str]:
    """The brands of the dictionary that a free name stands for: by their own name, words, hashtags or handles."""
    squeezed = re.sub(r"\W", "", name).lower()
    own = [brand for brand in _brands(dictionary) if brand.casefold() == name.casefold()]
    return own or dictionary.find([squeezed], [squeezed], name)


def brand_figures(found: Sequence[tuple[list[str], list[str]]], dictionary: BrandIndex) -> dict[str, Any]:
    """What annotate.json says of brands; `found`: for each post the teacher's names and the dictionary's brands.

    Agreement is over the brands of the dictionary alone (Krippendorff's alpha, nominal, averaged over the brands that
    occur; share of posts with equal sets; 95 % intervals over posts). `new` are names that the dictionary lacks.
    """
    matched = [
        ({brand for name in named for brand in in_dictionary(name, dictionary)}, set(known)) for named, known in found
    ]
    new: Counter[str] = Counter()
    spelt: dict[str, str] = {}
    for named, _ in found:
        for name in named:
            if not in_dictionary(name, dictionary):
                new[name.casefold()] += 1
                spelt.setdefault(name.casefold(), name)
    names = sorted(set(_brands(dictionary)) | {brand for _, known in found for brand in known})
    figures: dict[str, Any] = {
        "posts": len(found),
        "with_brands": {
            "teacher": sum(bool(named) for named, _ in found),
            "dictionary": sum(bool(known) for _, known in found),
        },
        "pairs": {
            "both": sum(len(a & b) for a, b in matched),
            "teacher_only": sum(len(a - b) for a, b in matched),
            "dictionary_only": sum(len(b - a) for a, b in matched),
        },
        "new": {spelt[name]: n for name, n in sorted(new.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]},
        "new_names": len(new),
    }
    if names and found:
        target = LabelsTarget(kind="labels", names=names)
        figures["agreement"] = agreement([sorted(b) for _, b in matched], [sorted(a) for a, _ in matched], target)
    return figures


def _brands(dictionary: BrandIndex) -> set[str]:
    return {*dictionary.by_tag.values(), *dictionary.by_handle.values(), *dictionary.by_words.values()}
