"""A student as ONNX graphs: image encoder, text encoder, and head, checked against PyTorch when they are written.

`image.onnx`   pixels float32 [n, 3, side, side] of one view, normalised -> vectors [n, image dim]
`text.onnx`    the tokenizer's outputs int64 [n, tokens] -> vectors [n, text dim]
`head.onnx`    image and text vectors (the mean over views, and over pictures), has_image and has_text bool [n], grams
               float32 [n, buckets] -> calibrated scores [n] or probabilities [n, K], an output a task
`export.json`  sizes, means, views, tokens, n-grams, targets, thresholds, and how far the graphs are from PyTorch
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from assay.encode.extract import PostInputs
from assay.encode.image_encoders import ImageEncoder
from assay.encode.text_encoders import TextEncoder
from assay.errors import ModelError, SettingsError
from assay.places import with_extra
from assay.progress import say
from assay.scoring.predict import Predictor
from assay.student.lexical import Lexical, hash_grams
from assay.student.model import Batch, StudentModel, grams_used

TEXTS = ("a good day with friends by the sea", "never again, what a rude and careless place!", "")
TOLERANCE = 1e-3  # of a vector's largest entry, and of a probability


def export_onnx(model: Path, out: Path) -> dict[str, Any]:
    """Write the graphs of a model folder to `out`; returns what export.json says.

    SettingsError where the packages are lacking; ModelError where an encoder has no graph or a graph differs.
    """
    try:
        import onnxruntime
        import onnxscript as _  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"assay export needs {error.name}: {with_extra('onnx')}") from error
    predictor = Predictor.load(model, cached=False)
    trained = predictor.trained
    image, text = predictor.encoders()
    out.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {
        "name": trained.name,
        "targets": {name: target.model_dump() for name, target in trained.targets.items()},
        "calibration": trained.calibration,
        "preprocessing": trained.preprocessing,
        "off": {},
    }

    def write(name: str, graph: nn.Module, given: dict[str, Tensor], outputs: list[str]) -> None:
        path = out / f"{name}.onnx"
        _write(graph, given, outputs, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        told["off"][name] = _off(graph, given, session)
        say(f"export: {path}, at most {told['off'][name]:.1e} from PyTorch")

    if isinstance(image, ImageEncoder):
        pixels = torch.randn(3, 3, image.size, image.size, generator=torch.Generator().manual_seed(1))
        write("image", _Image(image).eval(), {"pixels": pixels}, ["vectors"])
        told["image"] = {
            "side": image.size,
            "shorter_side_of_crop": image.resize,
            "views": list(image.views),
            "mean": image.mean.flatten().tolist(),
            "std": image.std.flatten().tolist(),
            "resampling": "bicubic",
        }
    if isinstance(text, TextEncoder):
        tokens = {name: tensor.long() for name, tensor in text.tokenize([one or "." for one in TEXTS]).items()}
        write("text", _Text(text, list(tokens)).eval(), tokens, ["vectors"])
        told["text"] = {"inputs": list(tokens), "max_tokens": text.max_tokens}
    for branch, encoder in (("image", image), ("text", text)):
        if encoder is not None and branch not in told:
            raise ModelError(f"{model}: the {branch} encoder has no graph that can be exported")
    head = _Head(trained.model.members).eval()
    write("head", head, _vectors(predictor), list(trained.targets))
    grams = grams_used(trained.model.members)
    told["grams"] = grams and grams.model_dump()
    at = {name: trained.model.thresholds(name) for name in trained.targets}
    told["thresholds"] = {name: found.tolist() for name, found in at.items() if found is not None}
    (out / "export.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


class _Image(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.model, self.encoder = encoder.model, encoder

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder.vectors(pixels)


class _Text(nn.Module):
    def __init__(self, encoder: TextEncoder, names: list[str]) -> None:
        super().__init__()
        self.model, self.encoder, self.names = encoder.model, encoder, names

    def forward(self, *tokens: Tensor) -> Tensor:
        return self.encoder.vectors(dict(zip(self.names, tokens, strict=True)))


class _Head(nn.Module):
    """Fusion, heads, n-grams (as a dense table) and calibration; of several students the mean of their answers."""

    def __init__(self, members: list[StudentModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor, grams: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        batch = Batch(image, text, has_image, has_text)
        told = [_answers(cast(StudentModel, member), batch, grams) for member in self.members]
        return tuple(torch.stack(one).mean(0) for one in zip(*told, strict=True))


def _answers(model: StudentModel, batch: Batch, grams: Tensor | None) -> list[Tensor]:
    """A student's prediction for each of its tasks."""
    raw = model.of_layers(batch).mean(0)
    if grams is not None and model.lexical is not None:
        raw = raw + _of_table(model.lexical, grams)
    if model.linear is not None:
        straight = model.linear(model.standardised(batch), None)
        if grams is not None and model.linear.grams is not None:
            straight = straight + _of_table(model.linear.grams, grams)
        raw = raw + model.share * (model.bent(straight) - raw)
    return [model.output(name)(raw[:, at]) for name, at in model.columns.items()]


def _of_table(lexical: Lexical, grams: Tensor) -> Tensor:
    """Raw outputs [n, outputs] of n-grams as a dense table [n, buckets]."""
    values, half = grams * lexical.idf, lexical.words_below
    parts = [values[:, :half], values[:, half:]]
    scaled = [part / part.pow(2).sum(1, keepdim=True).clamp(min=1e-8).sqrt() for part in parts]
    return torch.cat(scaled, dim=1) @ lexical.weight


def _vectors(predictor: Predictor) -> dict[str, Tensor]:
    """What the head sees of a few posts, one without a picture and one without a text."""
    features, _ = predictor.features([PostInputs(text, []) for text in TEXTS])
    found = {
        "image": torch.randn(len(TEXTS), features.image.shape[1], generator=torch.Generator().manual_seed(2)),
        "text": torch.from_numpy(features.text.astype(np.float32)),
        "has_image": torch.tensor([True, False, True]),
        "has_text": torch.from_numpy(features.has_text),
    }
    settings = grams_used(predictor.trained.model.members)
    if settings is not None:
        found["grams"] = torch.from_numpy(hash_grams(list(TEXTS), settings).toarray())
    return found


def _write(graph: nn.Module, given: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    shapes: list[dict[int, Any]] = [
        {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if tensor.dtype == torch.int64 else {})
        for tensor in given.values()
    ]
    variadic = isinstance(graph, _Text)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                tuple(given.values()),
                str(path),
                input_names=list(given),
                output_names=outputs,
                dynamic_shapes=(tuple(shapes),) if variadic else tuple(shapes),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{path.stem} cannot be written as ONNX: {type(error).__name__}: {said}") from error


def _off(graph: nn.Module, given: dict[str, Tensor], session: Any) -> float:
    """How far a graph is from PyTorch, as a share of the largest entry (at least 1), also with one row; ModelError."""
    worst = 0.0
    names = [one.name for one in session.get_inputs()]
    for rows in (slice(None), slice(0, 1)):
        part = {name: tensor[rows] for name, tensor in given.items()}
        with torch.inference_mode():
            wanted = graph(*part.values())
        found = session.run(None, {name: part[name].numpy() for name in names})
        for one, other in zip(wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
            reference = one.float().cpu().numpy()
            worst = max(worst, float(np.abs(reference - other).max() / max(1.0, float(np.abs(reference).max()))))
    if worst > TOLERANCE:
        raise ModelError(f"the graph differs from PyTorch by {worst:.1e}, over {TOLERANCE:g}; please report this")
    return worst
