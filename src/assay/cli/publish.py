"""The commands `assay push`, `assay export` and `assay pack`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from assay.errors import SettingsError
from assay.progress import say

ModelArgument = Annotated[Path | None, Argument(help="A model folder, such as models/sentiment.")]


def push(
    model: Annotated[Path, Argument(help="A model folder, such as models/sentiment.")],
    to: Annotated[Literal["hub"], Option(help="Where it goes.")],
    repo: Annotated[
        str | None, Option(metavar="USER/NAME", help="To upload to; the token comes from HF_TOKEN.")
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FOLDER", help="The folder to write, to look at or to upload by other means.")
    ] = None,
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    onnx: Annotated[bool, Option("--onnx", help="Add ONNX graphs.")] = False,
) -> None:
    """Make a model a repository of the Hugging Face Hub."""
    from assay.scoring.publish import publish

    if repo is None and out is None:
        raise SettingsError("say --repo user/name to upload, --out FOLDER to write the repository, or both")
    if out is not None:
        publish(model, out, repo, private=private, onnx=onnx)
        return
    with tempfile.TemporaryDirectory(prefix="assay-push-") as folder:
        publish(model, Path(folder), repo, private=private, onnx=onnx)


def export(
    model: ModelArgument = None,
    task: Annotated[str | None, Option(help="With --csv: whose scores.")] = None,
    csv: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write the rows of the task's table, the student's scores beside them."),
    ] = None,
    onnx: Annotated[Path | None, Option(metavar="FOLDER", help="Write ONNX graphs to this folder.")] = None,
    graph: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Write the model folder with graphs of its encoders (OpenVINO)."),
    ] = None,
    weights: Annotated[
        Literal["auto", "fast", "small", "full"],
        Option(
            help="Of --graph; small: kept in 16 and 8 bits; fast: also computed in bf16, where the processor has it; "
            "auto: the fastest by which the student is not decided to be worse."
        ),
    ] = "auto",
) -> None:
    """Write a model with graphs to deploy, or as ONNX, checked against PyTorch; or a task's scores as CSV."""
    if csv is not None or task is not None:
        from assay import config
        from assay.scoring.scores import write_scores

        if csv is None or task is None or model or onnx or graph:
            raise SettingsError("scores: say --task TASK and --csv FILE, and nothing else")
        try:
            counts = write_scores(task, config.load(), Path("data"), csv)
        except OSError as error:
            raise SettingsError(f"{csv}: {error.strerror or error}") from error
        say(f"export: {csv}, {', '.join(f'{n:,} {status}' for status, n in counts.items())}")
        return
    if model is None:
        raise SettingsError("say a model folder, such as models/sentiment, or --task TASK --csv FILE")
    if graph and onnx is None:
        from assay.scoring.graphs import export_graphs

        export_graphs(model, graph, weights=weights)
    elif onnx and graph is None:
        from assay.scoring.export import export_onnx

        export_onnx(model, onnx)
    else:
        raise SettingsError("say --graph FOLDER or --onnx FOLDER, one of them")


def pack(
    model: ModelArgument = None,
    training: Annotated[
        str | None,
        Option(metavar="TASK", help="What this task's student is trained from, instead of a model."),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="By default model.tar.gz, or TASK-training.tar.gz.")
    ] = None,
) -> None:
    """Pack a model for a SageMaker endpoint, or a task's data to train on elsewhere."""
    from assay.scoring.archive import pack_training
    from assay.serve.sagemaker import pack as sagemaker

    if model is not None and training is None:
        out = sagemaker.pack(model, out or Path("model.tar.gz"))
    elif training is not None and model is None:
        out = pack_training(training, out or Path(f"{training}-training.tar.gz"))
    else:
        raise SettingsError("say a model folder, such as models/sentiment, or --training TASK")
    say(f"pack: {out}, {out.stat().st_size / 2**20:.1f} MiB")
