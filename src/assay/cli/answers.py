"""assay answers: what the store holds; plan, export and import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from assay import config
from assay.config import Params
from assay.errors import DataError, SettingsError
from assay.progress import say

app = typer.Typer(invoke_without_command=True)
TaskOption = Annotated[str, Option(help="A task of params.yaml whose labels come from a teacher.")]


@app.callback()
def answers(
    context: typer.Context,
    forget_failed: Annotated[
        bool,
        Option(
            "--forget-failed",
            help="Delete lasting failures and unusable answers, of images of audits too, so that they are asked again.",
        ),
    ] = False,
    ask_again: Annotated[
        list[str] | None,
        Option(
            metavar="STATUS|REASON",
            help="Delete what is kept with this status (failed, invalid) or reason (such as http_403); may be "
            "repeated.",
        ),
    ] = None,
) -> None:
    """Say what the answer store holds; plan, export, import."""
    from assay.audit.kept import ImageStore
    from assay.remote.answers import AnswerStore

    if context.invoked_subcommand:
        return
    with AnswerStore() as store:
        if forget_failed:
            say(f"{store.forget_failed()} failed answers deleted; they will be asked again")
            with ImageStore() as pictures:
                say(f"{pictures.forget_failed()} failed images deleted; they will be made again")
        if ask_again:
            known = {row[name] for row in store.reasons() for name in ("status", "reason")}
            unknown = [one for one in ask_again if one not in known]
            if unknown:
                there = ", ".join(sorted(known)) or "nothing"
                raise SettingsError(f"--ask-again {', '.join(unknown)}: nothing is kept with it; there is: {there}")
            say(f"{store.forget(ask_again)} answers deleted; they will be asked again")
        for row in (*store.summary(), *store.reasons()):
            print(json.dumps(row, ensure_ascii=False))


@app.command()
def claims(
    release: Annotated[
        str | None,
        Option(metavar="OWNER", help="Give back the claims of an owner, of those that are `gone`, or of `all`."),
    ] = None,
) -> None:
    """Say who is asking which questions now, and what dead processes still hold."""
    from assay.remote.answers import AnswerStore

    with AnswerStore() as store:
        if release:
            say(f"{store.release_owner(release)} claims given back")
        for row in store.claims():
            print(json.dumps(row))


@app.command()
def copy(
    to: Annotated[Literal["team", "home"], Option(help="team: the PostgreSQL database of ASSAY_STORE.")],
) -> None:
    """Copy all answers and images between the home folder and the team's database."""
    from assay import database
    from assay.audit.kept import ImageStore
    from assay.places import home
    from assay.remote.answers import AnswerStore

    address = database.server()
    if address is None:
        raise SettingsError(
            f"{database.VARIABLE} is not set; set it to the team's database: postgresql://user@host/database"
        )
    kinds: tuple[tuple[type[Any], str], ...] = ((AnswerStore, "answers"), (ImageStore, "images"))
    for kind, what in kinds:
        with kind(home() / f"{what}.sqlite") as own, kind(address=address) as team:
            source, target = (own, team) if to == "team" else (team, own)
            new, count = target.copy_from(source)
            say(f"{what}: {new} copied from {source.where} to {target.where}; {count - new} were there")


@app.command()
def rotate_key(
    open_: Annotated[bool, Option("--open", help="Take the encryption away instead.")] = False,
) -> None:
    """Encrypt all answers anew with the first key of ASSAY_STORE_KEY=NEW,OLD."""
    from assay.remote.answers import AnswerStore
    from assay.remote.sealed import VARIABLE, Seal

    seal = Seal.from_environment()
    if not seal.has_key:
        raise SettingsError(f"{VARIABLE} is not set; `assay answers new-key` makes a key")
    with AnswerStore() as store:
        count = store.reseal(Seal() if open_ else seal)
    say(f"{count} answers kept anew, {'not encrypted' if open_ else 'encrypted with the first key'}")


@app.command()
def new_key() -> None:
    """Print a fresh key for ASSAY_STORE_KEY."""
    from assay.remote import sealed

    print(sealed.new_key())


@app.command()
def plan(
    task: TaskOption,
    pilot: Annotated[int, Option(metavar="N", help="Ask N posts now, to know better; they are kept.")] = 0,
    as_json: Annotated[bool, Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Say what annotate would ask, cost and take; nothing is sent."""
    from assay.remote.answers import AnswerStore
    from assay.teacher.plan import as_text, plan

    params = config.load()
    brief = _asker(params, task)
    company = {name: _asker(params, name) for name in brief.settings.ask_with}
    with AnswerStore() as store:
        found = plan(_sample(task), brief, store, task, pilot=pilot, company=company)
    print(json.dumps(found) if as_json else as_text(found))


@app.command()
def export(
    task: TaskOption,
    tool: Annotated[Literal["label-studio"], Option("--for", help="The tool that the people code with.")],
    count: Annotated[int, Option(help="Posts to write.")] = 200,
    split: Annotated[
        Literal["train", "val", "calibration", "test"] | None, Option(help="Only posts of this split.")
    ] = None,
    out: Annotated[Path | None, Option(help="The folder; by default data/human/TASK.")] = None,
) -> None:
    """Write a sample of posts for human coders."""
    import pyarrow.parquet as pq

    from assay.teacher.label_studio import export

    brief = _asker(config.load(), task)
    among, by_lot = None, True
    if split:
        path = Path("data") / "split" / f"{task}.parquet"
        if not path.exists():
            raise DataError(f"{path}: the posts are not split yet; run `dvc repro split@{task}`")
        table = pq.read_table(path, columns=["post_id", "split", "held_out_p"]).to_pylist()
        among = {row["post_id"] for row in table if row["split"] == split}
        by_lot = all(row["held_out_p"] is not None for row in table)  # not so of official splits
    out = out or Path("data") / "human" / task
    written = export(_sample(task), brief, out, count=count, among=among, by_lot=by_lot)
    say(f"{written} posts written to {out}: import tasks.json in Label Studio, with config.xml as labelling config")


@app.command("import")
def bring_back(
    file: Annotated[Path, Argument(help="JSON, JSON-MIN or CSV as Label Studio exports it.")], task: TaskOption
) -> None:
    """Bring human labels back, into human/TASK.csv."""
    from assay.teacher.corrections import alone
    from assay.teacher.label_export import read_export
    from assay.teacher.quality import read_chances, read_humans, read_times, write_humans

    params = config.load()
    brief = _asker(params, task)
    target = brief.rubric.target
    found, new, problems = read_export(file, target)
    path = Path("human") / f"{task}.csv"
    with alone(path):
        known, chances = read_humans(path, target), read_chances(path) | new
        replaced = sum(
            known.get(post, {}).get(coder, value) != value
            for post, coders in found.items()
            for coder, value in coders.items()
        )
        for post, coders in found.items():
            known[post] = known.get(post, {}) | coders
        highest = max(chances.values(), default=0.0)  # a larger export holds all posts of a smaller one
        write_humans(path, known, dict.fromkeys(chances, highest), read_times(path))
    for problem in problems[:20]:
        say(f"import: {problem}")
    if len(problems) > 20:
        say(f"import: {len(problems) - 20} remarks more")
    if replaced:
        say(f"import: {replaced} labels of the same coders were there with another value; the new ones count")
    labels = sum(map(len, found.values()))
    say(f"{labels} labels of {len(found)} posts written to {path}; `dvc repro annotate@{task}` compares them")


def _asker(params: Params, name: str) -> Any:
    from assay.teacher.annotate import brief_of

    if name not in params.tasks:
        raise SettingsError(f"--task {name}: no such task; allowed: {', '.join(params.tasks)}")
    task = params.tasks[name]
    if task.annotate.source != "teacher":
        raise SettingsError(f"--task {name}: its labels come from a column; there is no teacher to ask")
    return brief_of(name, task, params.corpora[task.corpus], Path("rubrics"))


def _sample(name: str) -> Path:
    sample = Path("data") / "sample" / name
    if not sample.exists():
        raise DataError(f"{sample}: the sample is not drawn yet; run `dvc repro sample@{name}`")
    return sample
