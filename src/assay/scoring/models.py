"""The trained students of a repository, each with what its files say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.errors import AssayError, ModelError
from assay.machine import read_figures
from assay.scoring.publish import evaluated, figure_files
from assay.student.folder import Config, read_config
from assay.student.trained import model_digest


def trained_models(root: Path) -> list[dict[str, Any]]:
    """A row a task of every model folder below `root`/models, in order of their names.

    `task`, `model` (its folder), `target`, `made_of` (encoders, fusion, head, in words), `metric` and `figure` (value,
    low, high), `gap_probe` (to the best linear probe), `posts` (judged by), `mib` (of the folder's weights),
    `posts_per_s` (end to end, on the machine that evaluated it), `digest`, `note` (null, or why figures are not shown).
    """
    rows = []
    for folder in sorted(path.parent for path in (root / "models").glob("*/config.json")):
        try:
            config = read_config(folder)
        except ModelError as error:
            rows.append(_row(folder, folder.name) | {"note": str(error)})
            continue
        digest = model_digest(folder)[:16]
        told = evaluated(folder, digest)
        speed = read_figures(root / "metrics" / "machine" / folder.name, "evaluate")
        for task, target in config.targets.items():
            row = _row(folder, task) | {"target": target.kind, "made_of": _made_of(config), "metric": target.headline}
            row |= {"digest": digest, "posts_per_s": speed.get("posts_per_s")}
            found = told if told is None or len(config.targets) == 1 else told.get(task, {})
            if found is None:
                there = any(path.exists() for path in figure_files(folder))
                row["note"] = "trained again since it was evaluated; run `dvc repro`" if there else "not evaluated"
            elif not {target.headline, "gap_probe", "n"} <= set(found):
                row["note"] = "evaluated by another version; run `dvc repro`"
            else:
                row |= {"figure": found[target.headline], "gap_probe": found["gap_probe"], "posts": found["n"]}
            rows.append(row)
    return rows


def _row(folder: Path, task: str) -> dict[str, Any]:
    empty = dict.fromkeys(("figure", "gap_probe", "posts", "posts_per_s", "digest", "note"))
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**20
    words = {"target": "-", "made_of": "-", "metric": "-"}
    return {"task": task, "model": folder.name, **words, "mib": round(size, 1), **empty}


def _made_of(config: Config) -> str:
    student = config.student
    parts = [
        f"{branch.encoder.split('/')[-1]}{'' if branch.frozen else ' (learns)'}"
        for branch in (student.image, student.text)
        if branch is not None
    ]
    parts += ["n-grams"] if student.lexical else []
    weighed = config.training.get("weighed")
    told = [one.get("share") for one in weighed.values() if isinstance(one, dict)] if isinstance(weighed, dict) else []
    shares = [float(share) for share in told if isinstance(share, int | float)]
    linear = f", {sum(shares) / len(shares):.0%} linear" if shares else ""
    folds = f", {len(config.folds)} folds" if config.folds else ""
    return str(AssayError(f"{' + '.join(parts)}; {student.fusion.kind}, {student.head.kind}{linear}{folds}"))
