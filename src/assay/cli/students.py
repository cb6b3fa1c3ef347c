"""assay explain and assay ablate: what a student's answers rest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Option

from assay import config
from assay.errors import CorpusError, SettingsError
from assay.progress import say


def explain(
    model: Annotated[Path, Option(help="A model folder, such as models/sentiment.")],
    text: Annotated[str, Option(help="The caption of the post.")] = "",
    image: Annotated[Path | None, Option(help="Its picture.")] = None,
    task: Annotated[str | None, Option(help="Which task, of a joint student.")] = None,
    answer: Annotated[str | None, Option(help="The class or label to explain; by default the likeliest.")] = None,
    steps: Annotated[int, Option(help="Steps of the integral; more are more exact.")] = 64,
    out: Annotated[Path, Option(metavar="FILE", help="The page to write.")] = Path("explain.html"),
) -> None:
    """Draw which words and parts of the picture an answer rests on; the figures are one JSON line."""
    from assay.scoring.explain import explain, page
    from assay.scoring.predict import Predictor

    if steps < 2:
        raise SettingsError(f"--steps {steps}: at least 2 are needed")
    try:
        picture = image.read_bytes() if image else None
    except OSError as error:
        raise CorpusError(f"{image}: {error.strerror}") from error
    found = explain(Predictor.load(model), text=text, image=picture, task=task, answer=answer, steps=steps)
    out.write_text(page(found), encoding="utf-8")
    print(json.dumps(found.figures(), ensure_ascii=False))
    say(f"written to {out}")


def ablate(
    task: Annotated[str, Option(help="A task whose features, labels and split stand in data/.")],
    seed: Annotated[
        list[int] | None, Option(help="May be repeated; by default train.seed and train.seeds of the task.")
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Where the figures go; by default metrics/TASK/ablation.json.")
    ] = None,
) -> None:
    """Compare a task's student with its text-only and image-only twins."""
    from assay.posts import write_json
    from assay.scoring.ablate import ablate, as_table

    params = config.load()
    chosen = params.members(task).get(task)
    if chosen is None:
        raise SettingsError(f"ablate: {task} is a joint student; name one task")
    seeds = seed or list(dict.fromkeys([chosen.train.seed, *chosen.train.seeds]))
    found = ablate(task, chosen, params.students[chosen.student], Path("data"), seeds)
    write_json(found, out or Path("metrics") / task / "ablation.json")
    print(as_table(found))
