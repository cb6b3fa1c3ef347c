"""The parser of the command line: groups, colour, examples, and what was meant where a word is not known.

argparse with rich-argparse, shtab for completion: the stages have the same parser, and help comes before torch does.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

GROUPS = {
    "Begin": ("init", "check", "settings", "doctor"),
    "Labels": ("answers", "plan"),
    "Students": ("predict", "explain", "models", "tune", "ablate", "keep"),
    "Findings": ("report", "compare", "export", "plots"),
    "Elsewhere": ("serve", "page", "push", "pack", "completion"),
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
    "completion": ["assay completion bash > ~/.local/share/bash-completion/completions/assay"],
}


class Parser(argparse.ArgumentParser):
    """Every parser of the command line, those of commands below another too."""

    def __init__(self, *args: Any, **given: Any) -> None:
        given.setdefault("formatter_class", RawDescriptionRichHelpFormatter)
        super().__init__(*args, **given)
        name = self.prog.removeprefix("assay ")
        if self.epilog is None and (lines := EXAMPLES.get(name)):
            self.epilog = "Examples:\n" + "\n".join(f"  {line}" for line in lines)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """The arguments; an option that is not known ends with the one that was meant."""
        found, more = self.parse_known_args(args, namespace)
        if more:
            self._below(list(sys.argv[1:] if args is None else args)).error(f"unrecognized arguments: {' '.join(more)}")
        return found

    def format_help(self) -> str:
        """Help; of the whole command line with its commands by groups."""
        text = super().format_help()
        commands = self._commands()
        if self.prog != "assay" or commands is None:
            return text
        told = {one.dest: one.help or "" for one in commands._choices_actions}
        lines = []
        for group, names in GROUPS.items():
            lines += ["", f"{group}:", *(f"  {name:<11} {told[name]}" for name in names)]
        cut = re.search(r"\n[^\n]*[Pp]ositional [Aa]rguments:.*?(?=\n[^\n]*[Oo]ptions:)", text, re.DOTALL)
        grouped = "\n".join([*lines, "", "assay COMMAND --help has options and examples.", ""])
        return text.replace(cut[0], grouped, 1) if cut else text + grouped

    def error(self, message: str) -> NoReturn:
        """One line: what was wrong, and what may have been meant."""
        wrong = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
        if wrong:
            choices = re.findall(r"[\w.-]+", wrong[2])
            what = "command" if "COMMAND" in message else message.split(":")[0].removeprefix("argument ")
            message = f"no {what} {wrong[1]!r}" + (_meant(wrong[1], choices) or f"; allowed: {', '.join(choices)}")
        elif message.startswith("unrecognized arguments: "):
            word = message.split()[2]
            message = f"no option {word}" if word.startswith("-") else f"what is {word!r} for?"
            message += _meant(word.split("=")[0], list(self._option_string_actions)) if word.startswith("-") else ""
        self.exit(2, f"{self.prog}: {message}{'' if message.endswith('?') else '.'} See: {self.prog} --help\n")

    def _commands(self) -> Any:
        return next((one for one in self._actions if isinstance(one, argparse._SubParsersAction)), None)

    def _below(self, words: list[str]) -> Parser:
        """The parser of the command that was named."""
        commands = self._commands()
        for at, word in enumerate(words):
            if commands is not None and word in commands.choices:
                below: Parser = commands.choices[word]
                return below._below(words[at + 1 :])
        return self


def _meant(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 2, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def add_completion(commands: Any, whole: Parser) -> None:
    """Add `completion` of the whole command line to it."""
    completion = commands.add_parser(
        "completion", help="print a script by which a shell completes commands and options"
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_complete, parser=whole)


def _complete(args: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(args.parser, args.shell))
