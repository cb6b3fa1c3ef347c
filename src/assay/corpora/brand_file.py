"""Brands as a table instead of YAML: name, words, hashtags, handles, several in a cell separated by | or ;."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from assay.config import AnyCorpus, Brand
from assay.corpora.encodings import find, lines_of
from assay.errors import CorpusError
from assay.places import corpus_root
from assay.text import BrandIndex

COLUMNS = ("name", "words", "hashtags", "handles")
Rules = dict[str, tuple[list[str], list[str], list[str]]]  # hashtags, handles, words


def brand_rules(named: Mapping[str, Brand], file: Path | None) -> Rules:
    """The brands of the settings and those of a file; CorpusError where the file is none."""
    found: Rules = {name: (one.hashtags, one.handles, one.words) for name, one in named.items()}
    for name, rules in (_read(file) if file else {}).items():
        known = found.get(name, ([], [], []))
        found[name] = (known[0] + rules[0], known[1] + rules[1], known[2] + rules[2])
    return found


def brand_index(corpus: AnyCorpus) -> BrandIndex:
    """What finds the brands of a corpus in hashtags, handles and words."""
    return BrandIndex.build(brand_rules(corpus.brands, corpus_root(corpus.brand_file) if corpus.brand_file else None))


def _read(path: Path) -> Rules:
    if not path.is_file():
        raise CorpusError(f"{path}: not there; set brand_file of the corpus to a CSV with {', '.join(COLUMNS)}")
    lines = list(lines_of(path, find(path)))
    delimiter = max(",\t;", key=lines[0].count) if lines else ","
    rows = csv.DictReader(lines, delimiter=delimiter)
    names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = names
    unknown = sorted(set(names) - set(COLUMNS))
    if "name" not in names or unknown:
        raise CorpusError(f"{path}: columns must be {', '.join(COLUMNS)}; it has {', '.join(names) or 'none'}")
    found: Rules = {}
    for row in rows:
        name = (row.get("name") or "").strip()
        if not name:
            raise CorpusError(f"{path}, line {rows.line_num}: a brand without a name")
        tags, handles, words = (_several(row.get(column)) for column in ("hashtags", "handles", "words"))
        known = found.setdefault(name, ([], [], []))
        for mine, more in zip(known, (tags, handles, words), strict=True):
            mine.extend(more)
    return found


def _several(cell: object) -> list[str]:
    return [part.strip() for part in re.split(r"[|;]", cell) if part.strip()] if isinstance(cell, str) else []
