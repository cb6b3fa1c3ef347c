"""Frozen encoders as graphs for a CPU, run by OpenVINO where it is installed (extra `fast`); else by PyTorch.

A graph is made once a machine, from the very network, and kept below places.home() by the encoder's identity and the
versions of both; before it is kept it has to say what PyTorch says of a few inputs. Weights stay in single precision.
ASSAY_RUNTIME=torch does without.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.encode.encoders import digest
from assay.errors import SettingsError
from assay.places import home, with_extra
from assay.progress import cores, say

VARIABLE = "ASSAY_RUNTIME"
Weights = Literal["fp32", "fp16", "int8"]
Precision = Literal["f32", "bf16"]
RUNTIMES = ("auto", "torch", "openvino")
TOLERANCE = 1e-3  # of a vector's largest entry
FORMAT = "2"  # of what is kept
PRECISION = ["assay", "precision"]  # where a graph's file says what it is computed in
_first = threading.Lock()  # see _started


class Graph:
    """A network from named arrays to vectors, float32 [n, dim]; may be called by several threads."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, given: dict[str, np.ndarray]) -> np.ndarray | None:
        """Vectors, or None where they are no numbers: a row whose every token is masked is one to PyTorch alone."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        found = np.array(next(iter(request.infer(given, share_inputs=True).values())))
        return found if np.isfinite(found).all() else None


class _Named(nn.Module):
    """A function of named tensors as a module of positional ones, with the encoder's network as its own."""

    def __init__(self, model: nn.Module, vectors: Callable[[dict[str, Tensor]], Tensor], names: list[str]) -> None:
        super().__init__()
        self.model, self._vectors, self._names = model, vectors, names

    def forward(self, *given: Tensor) -> Tensor:
        return self._vectors(dict(zip(self._names, given, strict=True)))


def wanted() -> str:
    """What the environment asks for; SettingsError for a runtime that there is not."""
    found = os.environ.get(VARIABLE, "auto").strip().lower() or "auto"
    if found not in RUNTIMES:
        raise SettingsError(f"{VARIABLE}={found}: no such runtime; allowed: {', '.join(RUNTIMES)}")
    if found == "openvino" and _installed() is None:
        raise SettingsError(f"{VARIABLE}=openvino: it is not installed; {with_extra('fast')}")
    return found


class Traced(NamedTuple):
    """What a graph is made from: a network, its vectors of named inputs, and such inputs.

    `examples`: the first axis and, of whole numbers, the second is free; the graph is made by the first, and must agree
    on all, which should be of several sizes.
    """

    model: nn.Module
    vectors: Callable[[dict[str, Tensor]], Tensor]
    examples: Sequence[dict[str, Tensor]]


class ByGraph(ABC):
    """An encoder that a graph may take the place of."""

    identity: str
    device: torch.device
    _graph: Graph | None = None

    @abstractmethod
    def traced(self) -> Traced:
        """What a graph is made from."""

    def speed_up(self, file: Path | None = None, precision: Precision = "f32") -> None:
        """Encode by a graph from now on, that of a file or one that this machine makes, where it can be run.

        The weights must not change any more. `precision`: in what the latter is computed, where the processor has it.
        """
        traced = self.traced()
        self._graph = graph_of(traced, identity=self.identity, device=self.device, file=file, precision=precision)

    @property
    def has_graph(self) -> bool:
        """Whether it encodes by a graph."""
        return self._graph is not None


def graph_of(
    traced: Traced, *, identity: str, device: torch.device, file: Path | None = None, precision: Precision = "f32"
) -> Graph | None:
    """The graph of an encoder, from a file that came with a model or else as this machine makes and keeps it.

    None where PyTorch is to do it: on a GPU, without OpenVINO, or where the two differ.
    """
    if wanted() == "torch" or device.type != "cpu" or _installed() is None:
        return None
    if file is not None:
        return _opened(file, traced)
    folder = home() / "graphs" / digest(FORMAT, identity, _installed(), torch.__version__)[:32]
    try:
        precision = had(precision)
        kept = _kept(folder, precision)
        if kept is None:
            _make(traced, folder)
            kept = _kept(folder, precision)
        return _started(kept, traced.examples[0]) if kept else None
    except _Differs as error:
        say(f"encode: {error}; PyTorch is used instead")
    except Exception as error:  # whatever a runtime raises: it is only faster
        said = " ".join(str(error).split())[:160]
        say(f"encode: no graph of this encoder ({type(error).__name__}: {said}); PyTorch is used instead")
    return None


def _started(graph: Graph, example: dict[str, Tensor]) -> Graph:
    """The graph once it has run, alone.

    OpenVINO's binding (2026.4) makes tables of its own on its first call, and two threads that are both in it then wait
    for each other for ever: one for Python's lock, the other, which holds it, for the tables.
    """
    with _first:
        graph({name: tensor.contiguous().numpy() for name, tensor in example.items()})
    return graph


class _Differs(Exception):
    """A graph does not say what PyTorch says."""


def _installed() -> str | None:
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def _kept(folder: Path, precision: Precision) -> Graph | None:
    """The graph that a folder has; one that cannot be read is taken away."""
    if not folder.exists():
        return None
    try:
        return _read(folder / "graph.xml", precision)
    except Exception:  # half a file, another processor's
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _read(path: Path, precision: Precision = "f32") -> Graph:
    """The graph of a file, computed in `precision` where the file does not say in what."""
    import openvino

    found = openvino.Core().read_model(path)
    if found.has_rt_info(PRECISION):
        precision = had("bf16" if str(found.get_rt_info(PRECISION).value) == "bf16" else "f32")
    return compiled(found, precision)


def compiled(model: Any, precision: Precision = "f32") -> Graph:
    """An OpenVINO model made ready to be run here."""
    import openvino

    return Graph(openvino.Core().compile_model(model, "CPU", _settings(precision)))


def had(precision: Precision) -> Precision:
    """In what graphs are computed here of which this is asked."""
    return "bf16" if precision == "bf16" and wanted() != "torch" and has_bf16() else "f32"


@cache
def has_bf16() -> bool:
    """Whether this processor computes in bf16 by itself; others would do so by detours, or not at all."""
    try:
        import openvino

        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, RuntimeError):
        return False


def _opened(path: Path, traced: Traced) -> Graph | None:
    """The graph of a file that came with a model; None, with one line, where it cannot be run here."""
    try:
        return _started(_read(path), traced.examples[0])
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        say(f"encode: {path} cannot be run ({type(error).__name__}: {said}); PyTorch is used instead")
        return None


def write(traced: Traced, path: Path, *, weights: Weights, precision: Precision = "f32") -> None:
    """Write the graph of an encoder as an OpenVINO model, `path` and a .bin beside it.

    Weights stay in single precision (`fp32`), or are kept in half (`fp16`) or, a channel at a time, in eight bits
    (`int8`, by NNCF). It is computed in single precision (`f32`) or, where the processor has it, in `bf16`.
    """
    import openvino

    found = converted(traced)
    if weights == "int8":
        os.environ["NNCF_CI"] = "1"  # it would report to its makers
        for name in ("nncf", "torch.utils.cpp_extension"):
            logging.getLogger(name).setLevel(logging.ERROR)
        import nncf

        with contextlib.redirect_stdout(io.StringIO()):
            found = nncf.compress_weights(found, mode=nncf.CompressWeightsMode.INT8_ASYM)
    found.set_rt_info(precision, PRECISION)
    openvino.save_model(found, path, compress_to_fp16=weights != "fp32")


def _make(traced: Traced, folder: Path) -> None:
    """Convert, check and keep; the folder is there whole, or not at all."""
    import openvino

    examples = traced.examples
    network = named(traced)
    found = _convert(network, examples[0])
    made = compiled(found)
    for example in examples:
        with torch.inference_mode():
            reference = network(*example.values()).numpy()
        said = made({name: tensor.contiguous().numpy() for name, tensor in example.items()})
        off = np.inf if said is None else float(np.abs(said - reference).max() / max(1e-6, np.abs(reference).max()))
        if not off <= TOLERANCE:
            raise _Differs(f"the graph differs from PyTorch by {off:.1e}, over {TOLERANCE:g}")
    waiting = folder.with_name(f".{folder.name}.{os.getpid()}")
    waiting.mkdir(parents=True, exist_ok=True)
    try:
        openvino.save_model(found, waiting / "graph.xml", compress_to_fp16=False)
        with contextlib.suppress(OSError):  # another process was first
            waiting.rename(folder)
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def named(traced: Traced) -> nn.Module:
    """An encoder's network as a module of the examples' tensors, in their order."""
    return _Named(traced.model, traced.vectors, list(traced.examples[0])).eval()


def converted(traced: Traced) -> Any:
    """An encoder's network as an OpenVINO model of inputs by name, in single precision."""
    return _convert(named(traced), traced.examples[0])


def _convert(network: nn.Module, example: dict[str, Tensor]) -> Any:
    """By OpenVINO's reader of PyTorch's traces; its converter would report to its makers."""
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(network, tuple(example.values()), check_trace=False, strict=False)
        managed = FrontEndManager()
        reader, decoder = managed.load_by_framework("pytorch"), TorchScriptPythonDecoder(traced)
        found = reader.convert(reader.load(decoder))
    shapes = {}
    for port, (name, tensor) in zip(found.inputs, example.items(), strict=True):
        port.get_tensor().set_names({name})
        free = [-1, -1] if tensor.dtype == torch.int64 else [-1]
        shapes[port] = PartialShape([*free, *tensor.shape[len(free) :]])
    found.reshape(shapes)
    found.validate_nodes_and_infer_types()
    return found


def _settings(precision: Precision = "f32") -> dict[str, Any]:
    """One precision, whatever the processor would choose, and each core by itself: one request, one thread.

    Two cores that each encode a batch of their own do more than two that share one, and what a graph says does not
    depend on how many cores there are.
    """
    return {
        "INFERENCE_NUM_THREADS": cores(),
        "NUM_STREAMS": cores(),
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # else the first streams of two graphs share a core, and the other core rests
    }
