"""The command line as a whole: commands by groups, an example of each, and one line for a word that is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.main import get_command

from assay import __version__
from assay.cli.answers import app as answers
from assay.cli.check import check, settings
from assay.cli.compare import compare
from assay.cli.doctor import doctor
from assay.cli.init import init
from assay.cli.keep import keep
from assay.cli.models import models
from assay.cli.plan import plan
from assay.cli.plots import plots
from assay.cli.predict import predict
from assay.cli.publish import export, pack, push
from assay.cli.report import report
from assay.cli.serve import page, serve
from assay.cli.students import ablate, explain
from assay.cli.tune import tune

GROUPS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Begin": (init, check, settings, doctor),
    "Labels": (answers, plan),
    "Students": (predict, explain, models, tune, ablate, keep),
    "Findings": (report, compare, export, plots),
    "Elsewhere": (serve, page, push, pack),
}
EXAMPLES = {
    "init": [
        "assay init study",
        'assay init study --task formality --csv posts.csv --question "How formal is this post?" --scale 0-10',
    ],
    "check": ["assay check"],
    "settings": ["assay settings train.lr", "assay settings tasks.sentiment.train"],
    "doctor": ["assay doctor"],
    "answers": ["assay answers", "assay answers plan --task sentiment"],
    "plan": ["assay plan --task sentiment --width 0.05"],
    "predict": [
        'assay predict --model models/sentiment --text "best day" --image picture.jpg',
        "assay predict --model models/sentiment posts.csv --columns '{text: caption}' --out answers.jsonl",
    ],
    "explain": ['assay explain --model models/sentiment --text "best day" --image picture.jpg'],
    "models": ["assay models"],
    "tune": ["assay tune --task sentiment --minutes 30"],
    "ablate": ["assay ablate --task sentiment"],
    "keep": ["assay keep --task sentiment"],
    "report": ["assay report --task sentiment --out sentiment.html --pdf sentiment.pdf"],
    "compare": ["assay compare HEAD workspace --task sentiment"],
    "export": [
        "assay export --task sentiment --csv scores.csv",
        "assay export models/sentiment --graph deployed",
        "assay export models/sentiment --onnx graphs",
    ],
    "plots": ["assay plots"],
    "serve": ["assay serve --model models/sentiment"],
    "page": ["assay page --model models/sentiment"],
    "push": ["assay push models/sentiment --to hub --out repository"],
    "pack": ["assay pack models/sentiment", "assay pack --training sentiment"],
}
HELP = {"help_option_names": ["--help", "-h"]}


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(help="Measure what image-and-text posts say.", context_settings=HELP)
    app.callback()(_whole)
    for group, commands in GROUPS.items():
        for one in commands:
            name = "answers" if isinstance(one, typer.Typer) else one.__name__
            told: dict[str, Any] = {"rich_help_panel": group, "epilog": _examples(name)}
            if isinstance(one, typer.Typer):
                app.add_typer(one, name=name, **told)
            else:
                app.command(name, **told)(one)
    return app


def call(words: Sequence[str]) -> None:
    """Run what these words say; words that say nothing end with one line and status 2."""
    whole = get_command(build())
    try:
        _check_values(whole, words)
        code = whole.main(args=list(words), prog_name="assay", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else _named(whole, words)[1]
        said = " ".join(error.format_message().replace("Value error, ", "").split())
        print(f"{path}: {said}{'' if said[-1] in '.?' else '.'} See: {path} --help", file=sys.stderr)
        raise SystemExit(2) from None
    except typer.Abort as error:  # which typer makes of the end of a file, wherever it came from
        raise error.__cause__ or error from None
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)


def _named(command: Any, words: Sequence[str]) -> tuple[Any, str]:
    """The command that words name, and its name from `assay` on."""
    path = "assay"
    for word in words:
        below = getattr(command, "commands", {})
        if word in below:
            command, path = below[word], f"{path} {word}"
    return command, path


def _check_values(whole: Any, words: Sequence[str]) -> None:
    """TyperException where an option stands in place of the value of another."""
    command, _ = _named(whole, words)
    options = {name: one for one in command.params for name in getattr(one, "opts", []) if name.startswith("-")}
    for word, value in pairwise(words):
        if word == "--":
            return
        if word in options and not options[word].is_flag and value in options:
            raise typer.TyperException(f"Option {word!r} needs a value, and {value!r} is another option")


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"assay {__version__}")
        raise typer.Exit


def _whole(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Options of no command."""


def _examples(name: str) -> str:
    return "\n".join(["\b", "[bold]Examples[/bold]", *EXAMPLES[name]])  # \\b: lines stay as they are
