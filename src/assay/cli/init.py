"""assay init: a project of one's own, on the installed package."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from assay import config
from assay.cli import plots
from assay.cli.commands import run
from assay.cli.question import Question
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


def init(
    folder: Annotated[Path, Argument(help="A new folder, or one without a pipeline.")],
    task: Annotated[str, Option(metavar="NAME", help="What the question is called.")] = "my_question",
    csv: Annotated[
        Path | None,
        Option(metavar="FILE", help="Your posts: a CSV, TSV, JSONL, Parquet or Excel file; its columns are found."),
    ] = None,
    question: Annotated[str, Option(metavar="WORDS", help="What is asked of each post.")] = "",
    scale: Annotated[str | None, Option(metavar="LOW-HIGH", help="An answer is a number, such as 0-10.")] = None,
    classes: Annotated[
        list[str] | None,
        Option(metavar="A,B", help="An answer is one of these names, between commas; may be repeated."),
    ] = None,
    labels: Annotated[
        list[str] | None, Option(metavar="A,B", help="An answer is any of these names, also none; may be repeated.")
    ] = None,
    corpus: Annotated[str, Option(metavar="NAME", help="What the posts are called.")] = "posts",
    teacher: Annotated[
        str, Option(metavar="URL", help="An OpenAI-compatible server; Ollama's, if none is said.")
    ] = OLLAMA,
    model: Annotated[str, Option(metavar="NAME", help="The teacher's name there.")] = "qwen2.5vl",
    api_key_env: Annotated[
        str | None, Option(metavar="NAME", help="The NAME of the variable that holds its key.")
    ] = None,
    yes: Annotated[bool, Option("--yes", help="Take the columns that were found without asking.")] = False,
) -> None:
    """Lay down a project of your own: pipeline, settings, a rubric to fill in."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", task):
        raise SettingsError(f"--task {task}: a name of letters, digits, _ and -")
    asked = Question(csv, task, question, scale, _names(classes), _names(labels), corpus, teacher, model, api_key_env)
    try:
        _lay_down(folder, task, _own_files(asked, folder, yes=yes))
        _put_under_dvc(folder)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror or error}") from error
    if csv is not None:
        say(
            f"{folder} is a project now; its teacher is {model} at {teacher}. Next:\n"
            f"  fill in {folder}/rubrics/{task}.md: what counts, and an example for each heading\n"
            f"  cd {folder}\n"
            "  assay check\n"
            "  dvc repro"
        )
        return
    say(
        f"{folder} is a project now, with a drawn corpus and a drawn teacher to try it on. Next:\n"
        f"  cd {folder}\n"
        f"  edit params.yaml and rubrics/{task}.md: your posts, your question\n"
        "  dvc repro"
    )


def _said_no(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("n", "no")
    except EOFError:
        return True


def _names(told: list[str] | None) -> list[str]:
    """What stands between commas, of all that was told."""
    return [name.strip() for one in told or [] for name in one.split(",") if name.strip()]


def _own_files(asked: Question, folder: Path, *, yes: bool) -> dict[str, str]:
    """Settings and rubric for a table of the user's, once its columns are confirmed; {} where none is named."""
    from assay.cli.question import count_rows, rubric_text, settings_text, shown, target_of
    from assay.corpora.guess import guess

    if asked.csv is None:
        if asked.question or asked.scale or asked.classes or asked.labels:
            raise SettingsError("--question, --scale, --classes and --labels go with --csv, the file of your posts")
        return {}
    target = target_of(asked)
    found = guess(asked.csv)
    for line in shown(found):
        say(line)
    if not yes and sys.stdin.isatty() and _said_no("Is that right? [Y/n] "):
        raise SettingsError("nothing was written; rename columns in the table, or take --yes and edit params.yaml")
    template = (OWN / "params.yaml").read_text(encoding="utf-8")
    template = template.replace("  TASK:", f"  {json.dumps(asked.task)}:").replace("TASK", asked.task)
    text = settings_text(template, asked, found, count_rows(asked.csv))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            config.load(file.name)
        except SettingsError as error:
            raise SettingsError(f"nothing was written: {str(error).removeprefix(f'{file.name}: ')}") from None
    files = {"params.yaml": text, f"rubrics/{asked.task}.md": rubric_text(asked.question or asked.task, target)}
    here = folder.resolve()
    below = [path.resolve() for path in (asked.csv, found.images_root) if path and path.resolve().is_relative_to(here)]
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
