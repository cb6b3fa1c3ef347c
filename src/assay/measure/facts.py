"""What report, data sheet and model card tell of a run beside its findings: where posts and labels came from, what was
left out and why.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from assay.config import Params

HIDDEN = "(not shown)"
PLACES = ("path", "images_root", "brand_file", "brands")
LANGUAGES = 8  # the most frequent ones that are named


def of_posts(posts: pa.Table, problems: Path) -> dict[str, Any]:
    """Of a corpus: how many source rows became posts, why others were dropped, first and last day, languages, authors;
    None where the corpus does not tell.
    """
    rows = pq.read_table(problems, columns=["severity", "code"]).to_pylist()
    dropped = Counter(row["code"] for row in rows if row["severity"] == "dropped")
    other = Counter((row["severity"], row["code"]) for row in rows if row["severity"] != "dropped")
    first, last = pc.min_max(posts["created_at"]).as_py().values()
    counted = [one for one in pc.value_counts(posts["language"]).to_pylist() if one["values"] is not None]
    most = sorted(counted, key=lambda one: (-one["counts"], one["values"]))[:LANGUAGES]
    return {
        "source_rows": posts.num_rows + sum(dropped.values()),
        "posts": posts.num_rows,
        "dropped": dict(dropped.most_common()),
        "remarks": [{"severity": kind, "code": code, "count": n} for (kind, code), n in other.most_common()],
        "first": first and str(first.date()),
        "last": last and str(last.date()),
        "languages": {one["values"]: one["counts"] for one in most},
        "authors": pc.count_distinct(posts["author"]).as_py() or None,
    }


def of_labels(labels: Path) -> dict[str, Any]:
    """Of a labels table: posts that were to be labelled, those that were, why not the others, by whom, cost, rubric."""
    columns = ["status", "reason", "model", "how", "cost_usd", "prompt_tokens", "completion_tokens", "suspicions"]
    table = pq.read_table(labels, columns=columns)
    rows = table.to_pylist()
    ok = [row for row in rows if row["status"] == "ok"]
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    rubric = (table.schema.metadata or {}).get(b"rubric")
    return {
        "asked": len(rows),
        "labelled": len(ok),
        "failed": dict(Counter(str(r["reason"]).split(":")[0] for r in rows if r["status"] != "ok").most_common()),
        "models": dict(Counter(row["model"] for row in ok if row["model"]).most_common()),
        "how": dict(Counter(row["how"] for row in ok if row["how"]).most_common()),
        "cost_usd": round(sum(costs), 4) if costs else None,
        "tokens": sum((row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0) for row in rows),
        "suspected": sum(bool(row["suspicions"]) for row in rows),
        "rubric": rubric.decode() if rubric else None,
    }


def settings_of(name: str, params: Params) -> str:
    """A task's section of params.yaml, its student's and its corpus', with all defaults filled in, as YAML; without
    what is a place, an address or a header of somebody's machine.
    """
    task = params.tasks[name]
    own, student, corpus = (
        one.model_dump(by_alias=True, mode="json")
        for one in (task, params.students[task.student], params.corpora[task.corpus])
    )
    teachers = [own["annotate"].get(who) for who in ("teacher", "second_teacher")]
    for teacher in [one for one in teachers if one]:
        if teacher["base_url"] != "demo":
            teacher["base_url"] = HIDDEN
        teacher |= {key: HIDDEN for key in ("headers", "extra_body") if teacher[key]}
    corpus = {key: value for key, value in corpus.items() if key not in PLACES}
    whole = {"tasks": {name: own}, "students": {task.student: student}, "corpora": {task.corpus: corpus}}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)


def versions() -> dict[str, str]:
    """Of the packages that figures depend on."""
    return {name: version(name) for name in ("assay", "numpy", "scipy", "scikit-learn", "pyarrow")}


def failures(facts: dict[str, Any], predictions: pa.Table) -> list[dict[str, Any]]:
    """What failed in which stage, why, and how often."""
    counts: Counter[tuple[str, str, str]] = Counter()
    counts.update({("ingest", "dropped", code): n for code, n in facts["posts"]["dropped"].items()})
    counts.update({("ingest", one["severity"], one["code"]): one["count"] for one in facts["posts"]["remarks"]})
    counts.update({("annotate", "failed", code): n for code, n in facts["labels"]["failed"].items()})
    for status, reason in zip(predictions["status"].to_pylist(), predictions["reason"].to_pylist(), strict=True):
        if reason:
            counts["infer", status, reason.split(":")[0]] += 1
    return [
        {"stage": stage, "severity": severity, "code": code, "count": n}
        for (stage, severity, code), n in sorted(counts.items())
    ]
