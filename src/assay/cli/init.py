"""assay init: a project of one's own, on the installed package."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from assay import config
from assay.cli import plots
from assay.cli.commands import run
from assay.errors import SettingsError
from assay.progress import say

OWN = Path(__file__).parent.parent / "project"  # params.yaml, rubric, Makefile; in a wheel the pipeline too
OLLAMA = "http://localhost:11434/v1"
PLACES = (
    *("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc"),
    *("stages", "rubrics", "human", "starts", "Makefile"),
)
CHECKOUT = Path(__file__).parents[3]
PIPELINE = ("dvc.yaml", ".gitignore", ".dvcignore", "human/README.md", "starts/README.md", "stages")
# What the pipeline of a checkout says of the package's own sources, which a project has not; it looks at the installed
# package on every run instead.
WITHOUT_SOURCES = (
    (r"deps: \[src/assay, stages\]", "deps: [stages]\n    always_changed: true"),
    (
        r"deps: \[stages/settings.py, src/assay/config, src/assay/besides.py, params.yaml, rubrics, human, starts\]",
        "deps: [stages/settings.py, params.yaml, rubrics, human, starts]\n    always_changed: true",
    ),
)


def add_init(commands: Any) -> None:
    """Add `init` to the command line."""
    init = commands.add_parser("init", help="lay down a project of your own: pipeline, settings, a rubric to fill in")
    init.add_argument("folder", type=Path, help="a new folder, or one without a pipeline")
    init.add_argument("--task", default="my_question", help="what the question is called; default: %(default)s")
    init.add_argument(
        "--csv", type=Path, help="your posts: a CSV, TSV, JSONL, Parquet or Excel file; its columns are found"
    )
    init.add_argument("--question", default="", help="what is asked of each post, in words")
    init.add_argument("--scale", help="an answer is a number, such as 0-10 (or --scale=-5-5)")
    init.add_argument("--classes", nargs="+", metavar="NAME", help="an answer is one of these")
    init.add_argument("--labels", nargs="+", metavar="NAME", help="an answer is any of these, also none")
    init.add_argument("--corpus", default="posts", help="what the posts are called; default: %(default)s")
    init.add_argument(
        "--teacher", default=OLLAMA, metavar="URL", help="an OpenAI-compatible server; default: Ollama's, %(default)s"
    )
    init.add_argument("--model", default="qwen2.5vl", help="the teacher's name there; default: %(default)s")
    init.add_argument("--api-key-env", metavar="NAME", help="the NAME of the variable that holds its key")
    init.add_argument("--yes", action="store_true", help="take the columns that were found without asking")
    init.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", args.task):
        raise SettingsError(f"--task {args.task}: a name of letters, digits, _ and -")
    try:
        _lay_down(args.folder, args.task, _own_files(args))
        _put_under_dvc(args.folder)
    except OSError as error:
        raise SettingsError(f"{args.folder}: {error.strerror or error}") from error
    if args.csv is not None:
        say(
            f"{args.folder} is a project now; its teacher is {args.model} at {args.teacher}. Next:\n"
            f"  fill in {args.folder}/rubrics/{args.task}.md: what counts, and an example for each heading\n"
            f"  cd {args.folder}\n"
            "  assay check\n"
            "  dvc repro"
        )
        return
    say(
        f"{args.folder} is a project now, with a drawn corpus and a drawn teacher to try it on. Next:\n"
        f"  cd {args.folder}\n"
        f"  edit params.yaml and rubrics/{args.task}.md: your posts, your question\n"
        "  dvc repro"
    )


def _own_files(args: argparse.Namespace) -> dict[str, str]:
    """Settings and rubric for a table of the user's, once its columns are confirmed; {} where none is named."""
    from assay.cli.question import count_rows, rubric_text, settings_text, shown, target_of
    from assay.corpora.guess import guess

    if args.csv is None:
        if args.question or args.scale or args.classes or args.labels:
            raise SettingsError("--question, --scale, --classes and --labels go with --csv, the file of your posts")
        return {}
    target = target_of(args)
    found = guess(args.csv)
    for line in shown(found):
        say(line)
    if not args.yes and sys.stdin.isatty() and input("Is that right? [Y/n] ").strip().lower() in ("n", "no"):
        raise SettingsError("nothing was written; rename columns in the table, or take --yes and edit params.yaml")
    template = (OWN / "params.yaml").read_text(encoding="utf-8")
    template = template.replace("  TASK:", f"  {json.dumps(args.task)}:").replace("TASK", args.task)
    text = settings_text(template, args, found, count_rows(args.csv))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            config.load(file.name)
        except SettingsError as error:
            raise SettingsError(f"nothing was written: {str(error).removeprefix(f'{file.name}: ')}") from None
    files = {"params.yaml": text, f"rubrics/{args.task}.md": rubric_text(args.question or args.task, target)}
    here = args.folder.resolve()
    below = [path.resolve() for path in (args.csv, found.images_root) if path and path.resolve().is_relative_to(here)]
    if below:  # posts never go to git
        files[".gitignore"] = "".join(f"/{path.relative_to(here).as_posix()}\n" for path in below)
    return files


def _lay_down(folder: Path, task: str, own: dict[str, str]) -> None:
    """Write all files; SettingsError, and nothing written, where one is there already."""
    source = OWN if (OWN / "dvc.yaml").exists() else CHECKOUT
    if not (source / "dvc.yaml").exists():
        raise SettingsError("this installation has no pipeline to lay down: install assay from a wheel or a checkout")
    files: dict[str, str] = {}
    for name in PIPELINE:
        for path in sorted((source / name).glob("*.py")) if (source / name).is_dir() else [source / name]:
            files[path.relative_to(source).as_posix()] = path.read_text(encoding="utf-8")
    for old, new in WITHOUT_SOURCES:
        files["dvc.yaml"] = re.sub(old, new, files["dvc.yaml"])
    for name, place in (("params.yaml", "params.yaml"), ("rubric.md", f"rubrics/{task}.md"), ("Makefile", "Makefile")):
        files[place] = (OWN / name).read_text(encoding="utf-8").replace("TASK", task)
    files |= own | {".gitignore": files[".gitignore"] + own.get(".gitignore", "")}
    there = [name for name in files if (folder / name).exists() and name not in (".gitignore", "Makefile")]
    if there:
        raise SettingsError(f"{folder}: {', '.join(there[:3])} is there already; name a new folder")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).exists():  # the user's own
            text = (folder / name).read_text(encoding="utf-8").rstrip("\n") + "\n" + text if name[0] == "." else ""
        if text:
            (folder / name).write_text(text, encoding="utf-8")


def _put_under_dvc(folder: Path) -> None:
    """Make the folder a repository of DVC and, where there is git, of git, with a first commit if it is a new one."""
    git, fresh, kind = shutil.which("git"), False, ["--no-scm"]
    if git:
        fresh = not run(folder, git, "rev-parse", "--git-dir", check=False)
        if fresh:
            run(folder, git, "init", "--quiet")
        kind = ["--subdir"] if run(folder, git, "rev-parse", "--show-prefix") else []
    run(folder, sys.executable, "-m", "dvc", "init", "--quiet", *kind)
    ours = (OWN if (OWN / ".dvc").exists() else CHECKOUT) / ".dvc"
    text = (ours / "config").read_text(encoding="utf-8")
    without_git = text.replace("autostage = true", "no_scm = true")
    (folder / ".dvc" / "config").write_text(text if git else without_git, encoding="utf-8")
    (folder / ".dvc" / "plots").mkdir(exist_ok=True)
    shutil.copyfile(ours / "plots" / "by_name.json", folder / ".dvc" / "plots" / "by_name.json")
    if plots.can_be_made():
        plots.make_page(folder)
    if git and fresh:  # DVC's experiments and curves start from a commit
        known = run(folder, git, "config", "user.email", check=False)
        nobody = [] if known else ["-c", "user.name=assay init", "-c", "user.email=assay@localhost"]
        run(folder, git, "add", "--", *PLACES)  # and nothing that lay there before
        run(folder, git, *nobody, "commit", "--quiet", "--message", "A new project, by assay init")
