"""A corpus, a task and a rubric of one's own as text, from a table and a question."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from assay.corpora.guess import TOLD, Guess
from assay.errors import CorpusError, SettingsError

UNSEEN = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff]")  # which YAML takes no more than JSON does, or breaks lines at
POSTS = 900  # labelled, where there are so many
ONE_SIDED = {  # students of posts that have texts alone, or pictures alone
    "text": """  one_sided:                   # the posts have no pictures
    text: {encoder: packaged/minilm-l6, layers: [3, 4, 5, 6]}
    lexical: {buckets: 65536}
    head: {hidden: [128], input_dropout: 0.5}
""",
    "image": """  one_sided:                   # the posts have no texts
    image: {encoder: packaged/efficientnet-lite0, views: [crop, whole], layers: [5, 6, 7]}
    head: {hidden: [128], input_dropout: 0.5}
""",
}
BANDS = ("low", "moderate", "high")


@dataclass(frozen=True)
class Question:
    """What is asked of posts, and of whom, as it was said on the command line."""

    csv: Path | None
    task: str
    question: str
    scale: str | None  # "0-10"
    classes: list[str]
    labels: list[str]
    corpus: str
    teacher: str  # the address of its server
    model: str
    api_key_env: str | None


def target_of(asked: Question) -> dict[str, Any]:
    """The target of --scale, --classes or --labels; SettingsError where none or several are given."""
    given = {name: told for name in ("scale", "classes", "labels") if (told := getattr(asked, name))}
    if len(given) != 1:
        raise SettingsError(
            "--csv: say what an answer is: --scale 0-10, --classes A,B,C (one of them), or --labels A,B"
        )
    kind, told = next(iter(given.items()))
    if kind != "scale":
        return {"kind": kind, "names": told}
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)", told)
    low, high = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if low >= high:
        raise SettingsError(f"--scale {told}: two numbers, the smaller first, such as 0-10")
    bands = [float(f"{low + (high - low) * share:.6g}") for share in (0.35, 0.65)]
    return {"kind": "score", "min": low, "max": high, "bands": bands, "band_names": list(BANDS)}


def settings_text(template: str, asked: Question, found: Guess, rows: int) -> str:
    """params.yaml of a project: the shipped one with this corpus and this task in it."""
    assert asked.csv is not None
    table = asked.csv.resolve()
    corpus: dict[str, Any] = {"kind": "table", "path": str(table)}
    if found.images_root is not None:
        corpus["images_root"] = str(found.images_root.resolve())
    corpus["columns"] = found.as_columns()
    target, name = target_of(asked), asked.corpus
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "demo":
        raise SettingsError(f"--corpus {name}: a name of letters, digits, _ and -, and not demo")
    teacher: dict[str, Any] = {"base_url": asked.teacher, "model": asked.model, "api_key_env": asked.api_key_env}
    student = "packaged" if {"text", "image"} <= found.columns.keys() else "one_sided"
    text = _put(template, "scan: []", f"scan: [{_flow(name)}]")
    text = _put(
        text, "  demo: {kind: demo, path: data/raw/demo, check_images: full}", f"  {_flow(name)}: {_flow(corpus)}"
    )
    text = _put(text, "    corpus: demo", f"    corpus: {_flow(name)}")
    text = _put(text, "    student: packaged", f"    student: {student}")
    text = re.sub(r"    target: .*", lambda _: f"    target: {_flow(target)}", text, count=1)
    text = _put(text, "design: random, posts: 900", f"design: random, posts: {min(POSTS, rows)}")
    text = re.sub(r"teacher: \{base_url: demo.*", lambda _: f"teacher: {_flow(teacher)}", text, count=1)
    if target["kind"] != "score":
        text = _put(text, "metric: mae", "metric: loss")
    if student == "one_sided":
        text = _put(text, "students:\n", f"students:\n{ONE_SIDED['text' if 'text' in found.columns else 'image']}")
    return text


def rubric_text(question: str, target: dict[str, Any]) -> str:
    """A rubric to fill in: the question, and a heading for each band, class or label."""
    question = " ".join(question.split())
    names = target.get("names") or target["band_names"]
    lines = [
        f"# {question}",
        "",
        "Rate what the post says and shows to an ordinary reader, its caption and its pictures together.",
        f"The question: {question}",
        "",
        "## What counts",
        "",
        "- Say what speaks for it, a line each, with an example.",
        "",
        "## What does not count",
        "",
        "- Say what looks like it and is not, a line each.",
    ]
    for place, name in enumerate(names):
        span = ""
        if target["kind"] == "score":
            edges = [target["min"], *target["bands"], target["max"]]
            span = f" ({edges[place]:g} to {edges[place + 1]:g})"
        lines += ["", f"## {name[:1].upper()}{name[1:]}{span}", "", f"- Anchor: an example of a post that is {name}."]
    return "\n".join(lines) + "\n"


def shown(found: Guess) -> list[str]:
    """What was found in a table, a line each, to be confirmed."""
    lines = [f"read as {found.said}; by its first {found.rows:,} rows:"]
    for role in dict.fromkeys([*TOLD, *found.columns]):
        column = found.columns.get(role)
        how = f", written as {found.date_form}" if role == "created_at" and found.date_form else ""
        lines.append(f"  {role:<11} {column}{how} ({found.why[role]})" if column else f"  {role:<11} none")
    if found.either:
        lines.append(f"  these dates could as well be {found.either}: if so, change columns.created_at in params.yaml")
    if found.pictures[1]:
        where = found.images_root or "beside the table"
        lines.append(f"  {found.pictures[0]:,} of {found.pictures[1]:,} pictures are there ({where})")
    return lines


def count_rows(path: Path) -> int:
    """How many rows a table has; CorpusError where it ends in the middle."""
    from assay.corpora.sheets import kind_of, open_sheet

    if kind_of(path) == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    try:
        return sum(1 for _ in open_sheet(path, []).rows)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _put(text: str, old: str, new: str) -> str:
    if old not in text:
        raise SettingsError(f"the shipped params.yaml has no line {old.strip()!r}; this installation is not whole")
    return text.replace(old, new, 1)


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(value, ensure_ascii=False))
