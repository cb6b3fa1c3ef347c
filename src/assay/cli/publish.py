"""The commands `assay push`, `assay export` and `assay pack`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from assay.errors import SettingsError
from assay.progress import say


def add_publish(commands: Any) -> None:
    """Add the commands that take a model elsewhere."""
    push = commands.add_parser("push", help="a model as a repository of the Hugging Face Hub")
    push.add_argument("model", type=Path, help="a model folder, such as models/sentiment")
    push.add_argument("--to", choices=["hub"], required=True)
    push.add_argument("--repo", help="user/name, to upload to; the token comes from HF_TOKEN")
    push.add_argument("--out", type=Path, help="the folder to write, to look at or to upload by other means")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--onnx", action="store_true", help="add ONNX graphs")
    push.set_defaults(run=_push)

    export = commands.add_parser(
        "export", help="a model with graphs to deploy, or as ONNX, checked against PyTorch; or a task's scores as CSV"
    )
    export.add_argument("model", type=Path, nargs="?", help="a model folder, such as models/sentiment")
    export.add_argument("--task", help="with --csv: whose scores")
    export.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the rows of the task's table, the student's scores beside them"
    )
    export.add_argument("--onnx", type=Path, metavar="FOLDER", help="write ONNX graphs to this folder")
    export.add_argument(
        "--graph", type=Path, metavar="FOLDER", help="write the model folder with graphs of its encoders (OpenVINO)"
    )
    export.add_argument(
        "--weights",
        choices=["auto", "fast", "small", "full"],
        default="auto",
        help="of --graph; small: kept in 16 and 8 bits; fast: also computed in bf16, where the processor has it; auto: "
        "the fastest by which the student is not decided to be worse",
    )
    export.set_defaults(run=_export)

    pack = commands.add_parser("pack", help="a model for a SageMaker endpoint, or a task's data to train on elsewhere")
    pack.add_argument("model", type=Path, nargs="?", help="a model folder, such as models/sentiment")
    pack.add_argument("--training", metavar="TASK", help="what this task's student is trained from, instead of a model")
    pack.add_argument("--out", type=Path, help="default: model.tar.gz, or <task>-training.tar.gz")
    pack.set_defaults(run=_pack)


def _push(args: argparse.Namespace) -> None:
    from assay.scoring.publish import publish

    if args.repo is None and args.out is None:
        raise SettingsError("say --repo user/name to upload, --out FOLDER to write the repository, or both")
    if args.out is not None:
        publish(args.model, args.out, args.repo, private=args.private, onnx=args.onnx)
        return
    with tempfile.TemporaryDirectory(prefix="assay-push-") as folder:
        publish(args.model, Path(folder), args.repo, private=args.private, onnx=args.onnx)


def _export(args: argparse.Namespace) -> None:
    if args.csv is not None or args.task is not None:
        from assay import config
        from assay.scoring.scores import write_scores

        if args.csv is None or args.task is None or args.model or args.onnx or args.graph:
            raise SettingsError("scores: say --task TASK and --csv FILE, and nothing else")
        try:
            counts = write_scores(args.task, config.load(), Path("data"), args.csv)
        except OSError as error:
            raise SettingsError(f"{args.csv}: {error.strerror or error}") from error
        say(f"export: {args.csv}, {', '.join(f'{n:,} {status}' for status, n in counts.items())}")
        return
    if args.model is None:
        raise SettingsError("say a model folder, such as models/sentiment, or --task TASK --csv FILE")
    if (args.onnx is None) == (args.graph is None):
        raise SettingsError("say --graph FOLDER or --onnx FOLDER, one of them")
    if args.graph:
        from assay.scoring.graphs import export_graphs

        export_graphs(args.model, args.graph, weights=args.weights)
    else:
        from assay.scoring.export import export_onnx

        export_onnx(args.model, args.onnx)


def _pack(args: argparse.Namespace) -> None:
    from assay.scoring.archive import pack_training
    from assay.serve.sagemaker.pack import pack

    if (args.model is None) == (args.training is None):
        raise SettingsError("say a model folder, such as models/sentiment, or --training TASK")
    if args.training:
        out = pack_training(args.training, args.out or Path(f"{args.training}-training.tar.gz"))
    else:
        out = pack(args.model, args.out or Path("model.tar.gz"))
    say(f"pack: {out}, {out.stat().st_size / 2**20:.1f} MiB")
