"""assay tune: a search over a student's settings, by folds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from assay import config
from assay.errors import SettingsError
from assay.progress import say


def add_tune(commands: Any) -> None:
    """Add `tune` to the command line."""
    tune = commands.add_parser(
        "tune",
        help="search for better settings of a task's student, by folds; never by test posts",
        description="Tries settings of head, fusion and training by cross-fitting folds of four fifths of the labelled "
        "posts, and compares the best with what stands now on the fifth that no trial saw. A search that was killed "
        "goes on; the same seed proposes the same trials. Prints the section to paste into params.yaml.",
    )
    tune.add_argument("--task", required=True, help="a task whose features, labels and split stand in data/")
    tune.add_argument("--minutes", type=float, default=30.0, help="begin no trial after so many; default: 30")
    tune.add_argument("--trials", type=int, help="stop after so many, earlier ones of the same search counted")
    tune.add_argument("--seed", type=int, default=1, help="of proposals and of what is kept back; default: 1")
    tune.add_argument("--no-experiments", action="store_true", help="keep no DVC experiment of each trial")
    tune.add_argument("--json", action="store_true", help="print everything as JSON instead")
    tune.set_defaults(run=_tune)


def _tune(args: argparse.Namespace) -> None:
    from assay.scoring.trials import git, register, with_values
    from assay.scoring.tuning import search_of
    from assay.student.tune import Trial, tune

    if not args.minutes > 0 or (args.trials is not None and args.trials < 1):
        raise SettingsError("tune: --minutes must be above 0, and --trials at least 1")
    params = config.load()
    task = params.members(args.task).get(args.task)
    if task is None:
        raise SettingsError(f"tune: {args.task} is a joint student; name one task")
    search = search_of(args.task, task, params.students[task.student], Path("data"), args.seed)
    text = Path("params.yaml").read_text(encoding="utf-8")
    if not args.no_experiments:
        git(Path(), "rev-parse", "HEAD")  # before anything is tried

    def keep(trial: Trial) -> None:
        if args.no_experiments:
            return
        figures = json.dumps({"loss": float(f"{trial.loss:.6g}"), "trial": trial.number}) + "\n"
        files = {"params.yaml": with_values(text, args.task, task.student, trial.values)}
        name = f"tune-{args.task}-s{args.seed}-{trial.number:03d}"
        register(name, files | {f"metrics/tune/{args.task}.json": figures})

    found = tune(search, minutes=args.minutes, most=args.trials, on_trial=keep)
    told = {
        "task": args.task,
        "trials": [{"trial": one.number, "loss": one.loss, **one.values} for one in found.trials],
        "best": found.best.number,
        "posts": found.posts,
        "kept_back": {"posts": found.kept_back, "metric": found.metric, "now": found.now, "best": found.then,
                      "gap": found.gap},
    }  # fmt: skip
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print(told, found, args.task, task.student)


def _print(told: dict[str, Any], found: Any, task: str, student: str) -> None:
    from assay.cli.compare import figured

    back, first, best = told["kept_back"], found.first, found.best
    print(f"{len(found.trials)} trials on {found.posts:,} posts; loss on posts left out, of what stands now and of the")
    print(f"best (trial {best.number}): {first.loss:.4f}, {best.loss:.4f}")
    print(f"on {back['posts']:,} posts that no trial saw: {back['metric']} {figured(back['now'])} now,")
    print(f"{figured(back['best'])} then; better by {figured(back['gap'], sign='+')}")
    if best.number == first.number:
        say("tune: what stands in params.yaml was not beaten; leave it")
        return
    low, high = back["gap"]["low"], back["gap"]["high"]
    if low is None or low <= 0 <= high:
        say("tune: the difference is not decided; the settings that stand may be as good")
    changed = {key: value for key, value in best.values.items() if first.values.get(key) != value}
    print("\n# to paste into params.yaml")
    sections: dict[str, dict[str, Any]] = {}
    for key, value in changed.items():
        part, name = key.split(".")
        sections.setdefault(part, {})[name] = value
    print(f"# students.{student} (or a copy of it under another name):")
    for part, values in sections.items():
        if part != "train":
            print(f"    {part}: {_yaml(values)}")
    if "train" in sections:
        print(f"# tasks.{task}:")
        print(f"    train: {_yaml(sections['train'])}")


def _yaml(values: dict[str, Any]) -> str:
    """A mapping in one line; numbers in the form that YAML reads as numbers."""

    from assay.scoring.trials import decimal

    def one(value: Any) -> str:
        return decimal(value) if isinstance(value, float) else json.dumps(value).strip('"')

    return "{" + ", ".join(f"{name}: {one(value)}" for name, value in values.items()) + "}"
