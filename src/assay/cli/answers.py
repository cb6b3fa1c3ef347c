"""assay answers: what the store holds; plan, export and import."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from assay import config
from assay.config import Params
from assay.errors import DataError, SettingsError
from assay.progress import say


def add_answers(commands: Any) -> None:
    """Add `answers` and its own commands to the command line."""
    answers = commands.add_parser("answers", help="say what the answer store holds; plan, export, import")
    answers.add_argument(
        "--forget-failed",
        action="store_true",
        help="delete lasting failures and unusable answers, of images of audits too, so that they are asked again",
    )
    answers.add_argument(
        "--ask-again",
        action="append",
        default=[],
        metavar="STATUS|REASON",
        help="delete what is kept with this status (failed, invalid) or reason (such as http_403); may be repeated",
    )
    answers.set_defaults(run=_answers)
    below = answers.add_subparsers(metavar="ACTION")

    claims = below.add_parser("claims", help="who is asking which questions now, and what dead processes still hold")
    claims.add_argument(
        "--release", metavar="OWNER", help="give back the claims of an owner, of those that are `gone`, or of `all`"
    )
    claims.set_defaults(run=_claims)

    copy = below.add_parser("copy", help="copy all answers and images between the home folder and the team's database")
    copy.add_argument(
        "--to", choices=["team", "home"], required=True, help="team: the PostgreSQL database of ASSAY_STORE"
    )
    copy.set_defaults(run=_copy)

    rotate = below.add_parser(
        "rotate-key", help="encrypt all answers anew with the first key of ASSAY_STORE_KEY=NEW,OLD"
    )
    rotate.add_argument("--open", action="store_true", help="take the encryption away instead")
    rotate.set_defaults(run=_rotate)

    fresh = below.add_parser("new-key", help="print a fresh key for ASSAY_STORE_KEY")
    fresh.set_defaults(run=_new_key)

    plan = below.add_parser("plan", help="what annotate would ask, cost and take; nothing is sent")
    plan.add_argument("--task", required=True)
    plan.add_argument(
        "--pilot", type=int, default=0, metavar="N", help="ask N posts now, to know better; they are kept"
    )
    plan.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    plan.set_defaults(run=_plan)

    export = below.add_parser("export", help="write a sample of posts for human coders")
    export.add_argument("--task", required=True)
    export.add_argument("--for", dest="tool", choices=["label-studio"], required=True)
    export.add_argument("--count", type=int, default=200, help="posts to write; default 200")
    export.add_argument("--split", choices=["train", "val", "calibration", "test"], help="only posts of this split")
    export.add_argument("--out", type=Path, help="the folder; default: data/human/<task>")
    export.set_defaults(run=_export)

    back = below.add_parser("import", help="bring human labels back, into human/<task>.csv")
    back.add_argument("file", type=Path, help="JSON, JSON-MIN or CSV as Label Studio exports it")
    back.add_argument("--task", required=True)
    back.set_defaults(run=_import)


def _answers(args: argparse.Namespace) -> None:
    from assay.audit.kept import ImageStore
    from assay.remote.answers import AnswerStore

    with AnswerStore() as store:
        if args.forget_failed:
            say(f"{store.forget_failed()} failed answers deleted; they will be asked again")
            with ImageStore() as pictures:
                say(f"{pictures.forget_failed()} failed images deleted; they will be made again")
        if args.ask_again:
            known = {row[name] for row in store.reasons() for name in ("status", "reason")}
            unknown = [one for one in args.ask_again if one not in known]
            if unknown:
                there = ", ".join(sorted(known)) or "nothing"
                raise SettingsError(f"--ask-again {', '.join(unknown)}: nothing is kept with it; there is: {there}")
            say(f"{store.forget(args.ask_again)} answers deleted; they will be asked again")
        for row in (*store.summary(), *store.reasons()):
            print(json.dumps(row, ensure_ascii=False))


def _claims(args: argparse.Namespace) -> None:
    from assay.remote.answers import AnswerStore

    with AnswerStore() as store:
        if args.release:
            say(f"{store.release_owner(args.release)} claims given back")
        for row in store.claims():
            print(json.dumps(row))


def _copy(args: argparse.Namespace) -> None:
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
            source, target = (own, team) if args.to == "team" else (team, own)
            new, count = target.copy_from(source)
            say(f"{what}: {new} copied from {source.where} to {target.where}; {count - new} were there")


def _rotate(args: argparse.Namespace) -> None:
    from assay.remote.answers import AnswerStore
    from assay.remote.sealed import VARIABLE, Seal

    seal = Seal.from_environment()
    if not seal.has_key:
        raise SettingsError(f"{VARIABLE} is not set; `assay answers new-key` makes a key")
    with AnswerStore() as store:
        count = store.reseal(Seal() if args.open else seal)
    say(f"{count} answers kept anew, {'not encrypted' if args.open else 'encrypted with the first key'}")


def _new_key(args: argparse.Namespace) -> None:
    from assay.remote.sealed import new_key

    print(new_key())


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


def _plan(args: argparse.Namespace) -> None:
    from assay.remote.answers import AnswerStore
    from assay.teacher.plan import as_text, plan

    params = config.load()
    brief = _asker(params, args.task)
    company = {name: _asker(params, name) for name in brief.settings.ask_with}
    with AnswerStore() as store:
        found = plan(_sample(args.task), brief, store, args.task, pilot=args.pilot, company=company)
    print(json.dumps(found) if args.json else as_text(found))


def _export(args: argparse.Namespace) -> None:
    import pyarrow.parquet as pq

    from assay.teacher.label_studio import export

    brief = _asker(config.load(), args.task)
    among, by_lot = None, True
    if args.split:
        path = Path("data") / "split" / f"{args.task}.parquet"
        if not path.exists():
            raise DataError(f"{path}: the posts are not split yet; run `dvc repro split@{args.task}`")
        table = pq.read_table(path, columns=["post_id", "split", "held_out_p"]).to_pylist()
        among = {row["post_id"] for row in table if row["split"] == args.split}
        by_lot = all(row["held_out_p"] is not None for row in table)  # not so of official splits
    out = args.out or Path("data") / "human" / args.task
    count = export(_sample(args.task), brief, out, count=args.count, among=among, by_lot=by_lot)
    say(f"{count} posts written to {out}: import tasks.json in Label Studio, with config.xml as labelling config")


def _import(args: argparse.Namespace) -> None:
    from assay.teacher.corrections import alone
    from assay.teacher.label_export import read_export
    from assay.teacher.quality import read_chances, read_humans, read_times, write_humans

    params = config.load()
    brief = _asker(params, args.task)
    target = brief.rubric.target
    found, new, problems = read_export(args.file, target)
    path = Path("human") / f"{args.task}.csv"
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
    say(f"{labels} labels of {len(found)} posts written to {path}; `dvc repro annotate@{args.task}` compares them")
