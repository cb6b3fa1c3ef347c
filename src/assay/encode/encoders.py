"""Image and text encoders behind one contract: packaged, from timm, from transformers, or a folder.

A name is `packaged/efficientnet-lite0`, `packaged/minilm-l6`, `timm/<model>`, `transformers/<model>`
or the path of a local folder saved by transformers (`save_pretrained`) or timm (`save_for_hf`).
Hub names need the hub or its local cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from assay.errors import EncoderError, ModelError
from assay.parallel import Turns
from assay.plugins import brought


class Encoder(Protocol):
    """Turns raw inputs into one vector each."""

    dim: int
    """Length of a vector."""
    identity: str
    """Digest of weights and preprocessing: features with equal identity are interchangeable."""
    model: nn.Module
    """The network, which a fine-tuned student changes."""

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """float32 [n, dim] of n RGB images or n texts."""
        ...


def plugged(branch: str, name: str) -> Callable[[Any], Any] | None:
    """What loads an encoder that a package brings, `plugin/<name>`: its entry point `assay.<branch>_encoders`.

    It is called with the branch's settings and returns an ImageEncoder or a TextEncoder, whose `identity` must change
    with its weights. None for other names; EncoderError where no package has it.
    """
    if not name.startswith("plugin/"):
        return None
    points = brought(f"{branch}_encoders")
    wanted = name.removeprefix("plugin/")
    if wanted not in points:
        raise EncoderError(
            f"{branch}.encoder: no installed package brings {wanted!r}; there are: {', '.join(points) or 'none'}"
        )
    found: Callable[[Any], Any] = points[wanted].load()
    return found


def quiet_transformers() -> None:
    """No bars of transformers where nobody watches a terminal."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def hub(allowed: bool) -> Iterator[None]:
    """Whether encoders may be fetched from the hub by what is loaded within; else only what lies on this machine."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not allowed
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_is_allowed() -> bool:
    """Whether a model folder, which may come from anywhere, may have its encoders fetched: ASSAY_HUB=1."""
    return os.environ.get("ASSAY_HUB", "").strip().lower() in ("1", "true", "yes")


GPUS: dict[str, Callable[[], bool]] = {
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
}


def default_device() -> torch.device:
    """The GPU where there is one, of CUDA or of Apple silicon, else the CPU."""
    found = next((kind for kind, is_there in GPUS.items() if is_there()), "cpu")
    return torch.device(found)


def turns(device: torch.device) -> AbstractContextManager[Any]:
    """What threads that encode on this device take before they do: on a GPU, whose memory holds one batch, turns."""
    return nullcontext() if device.type == "cpu" else Turns()


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next batch.

    By default it gives large blocks back to the kernel at once and faults them in again page by page, which on a CPU
    took a third of the time of encoding (benchmarks/cpu_encoding.py). Elsewhere this does nothing.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def apply_learnt(encoder: Encoder, path: Path) -> None:
    """Put what a student learnt (a safetensors file of some of the weights) into its encoder."""
    try:
        learnt = load_file(path)
        unknown = encoder.model.load_state_dict(learnt, strict=False).unexpected_keys
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:160]}; train again") from error
    if unknown:
        raise ModelError(f"{path}: {unknown[0]} is no weight of this encoder; train again")
    encoder.identity = digest(encoder.identity, hashlib.sha256(path.read_bytes()).hexdigest())


def check_hash(path: Path, wanted: str) -> None:
    """EncoderError unless the file has this sha256."""
    told = path.stat()
    found = _sha256(path, told.st_mtime_ns, told.st_size)
    if found != wanted:
        raise EncoderError(f"{path}: sha256 {found[:16]}… is not the expected {wanted[:16]}…; reinstall its package")


@lru_cache(maxsize=32)
def _sha256(path: Path, *_: int) -> str:
    """Of a file that did not change meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(model: nn.Module) -> str:
    """A digest of all weights by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def digest(*parts: Any) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def unreachable(key: str, name: str, error: Exception) -> EncoderError:
    """The one line about an encoder that cannot be loaded."""
    said = " ".join(str(error).split())[:140]
    return EncoderError(
        f"{key}: {name!r} cannot be loaded ({type(error).__name__}: {said}); name a model of the hub while it can be "
        "reached (a model folder's encoders are fetched with ASSAY_HUB=1 alone), a local folder, or a packaged encoder"
    )
