"""assay tune: a search over a student's settings, by folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from typer import Option

from assay import config
from assay.errors import SettingsError
from assay.progress import say


def tune(
    task: Annotated[str, Option(help="A task whose features, labels and split stand in data/.")],
    minutes: Annotated[float, Option(help="Begin no trial after so many.")] = 30.0,
    trials: Annotated[int | None, Option(help="Stop after so many, earlier ones of the same search counted.")] = None,
    seed: Annotated[int, Option(help="Of proposals and of what is kept back.")] = 1,
    no_experiments: Annotated[bool, Option("--no-experiments", help="Keep no DVC experiment of each trial.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print everything as JSON instead.")] = False,
) -> None:
    """Search for better settings of a task's student, by folds; never by test posts.

    Tries settings of head, fusion and training by cross-fitting folds of four fifths of the labelled posts, and
    compares the best with what stands now on the fifth that no trial saw. A search that was killed goes on; the same
    seed proposes the same trials. Prints the sections to paste into params.yaml.

    Posts of a test split have no part in it; where students are cross-fitted there is none, and figures of a run with
    the best settings are a little too good: the posts that chose them are among those that judge them.
    """
    from assay.scoring.trials import git, is_registered, register, with_values
    from assay.scoring.tuning import search_of
    from assay.student.tune import Trial, tune

    if not minutes > 0 or (trials is not None and trials < 1) or seed < 0:
        raise SettingsError("tune: --minutes must be above 0, --trials at least 1, and --seed at least 0")
    params = config.load()
    chosen = params.members(task).get(task)
    if chosen is None:
        raise SettingsError(f"tune: {task} is a joint student; name one task")
    joint = [name for name, members in params.joint.items() if task in members]
    if joint and not no_experiments:
        raise SettingsError(
            f"tune: {task} shares its student with others in joint.{joint[0]}, so that a trial with a student of "
            "its own would be no settings that can be run; give --no-experiments"
        )
    search = search_of(task, params, Path("data"), seed)
    text = Path("params.yaml").read_text(encoding="utf-8")
    if not no_experiments:
        git(Path(), "rev-parse", "HEAD")  # before anything is tried
    key = search.key()[:6]

    def keep(trial: Trial) -> None:
        name = f"tune-{task}-{key}-{trial.number:03d}"
        if no_experiments or is_registered(name):
            return
        figures = json.dumps({"loss": float(f"{trial.loss:.6g}"), "trial": trial.number}) + "\n"
        files = {"params.yaml": with_values(text, task, chosen.student, trial.values)}
        register(name, files | {f"metrics/machine/tune/{task}.json": figures})

    found = tune(search, minutes=minutes, most=trials, on_trial=keep)
    for trial in found.trials:  # of an earlier run that was killed, or kept none
        keep(trial)
    back = {"posts": found.kept_back, "metric": found.metric, "now": found.now, "best": found.then, "gap": found.gap}
    told = {
        "task": task,
        "trials": [{"trial": one.number, "loss": one.loss, **one.values} for one in found.trials],
        "best": found.best.number,
        "posts": found.posts,
        "kept_back": back,
    }
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    _print(told, found)
    if _is_worth_it(found):
        print(_to_paste(text, task, chosen.student, found.best.values))


def _print(told: dict[str, Any], found: Any) -> None:
    from assay.cli.compare import figured

    back, first, best = told["kept_back"], found.first, found.best
    print(f"{len(found.trials)} trials on {found.posts:,} posts; loss on posts left out, of what stands now and of the")
    print(f"best (trial {best.number}): {first.loss:.4f}, {best.loss:.4f}")
    print(f"on {back['posts']:,} posts that no trial saw: {back['metric']} {figured(back['now'])} now,")
    print(f"{figured(back['best'])} then; better by {figured(back['gap'], sign='+')}")


def _is_worth_it(found: Any) -> bool:
    """Say what to think of the best trial; whether it may be taken over."""
    low, high = found.gap["low"], found.gap["high"]
    if found.best.number == found.first.number:
        say("tune: what stands in params.yaml was not beaten; leave it")
        return False
    if high is not None and high < 0:
        say("tune: the best trial is worse on posts that no trial saw; leave what stands in params.yaml")
        return False
    if low is None or low <= 0:
        say("tune: the difference is not decided; the settings that stand may be as good")
    return True


def _to_paste(text: str, task: str, student: str, values: dict[str, Any]) -> str:
    """The sections of params.yaml with the values in them, whole: what is not searched for stays as it is."""
    from assay.scoring.trials import change, name_of

    raw = yaml.safe_load(text)
    section, train = raw["students"][student], raw["tasks"][task].get("train") or {}
    change(section, train, values)
    name = name_of(student, task)
    lines = [
        "\n# to paste into params.yaml; below students:",
        f"  {name}:",
        *(f"    {part}: {_yaml(told)}" for part, told in section.items()),
        f"# in place of student and train of tasks.{task}:",
        f"    student: {name}",
        f"    train: {_yaml(train)}",
    ]
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    """A value in one line; numbers in the form that YAML reads as numbers."""
    from assay.scoring.trials import decimal

    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return decimal(value) if isinstance(value, float) else json.dumps(value)
