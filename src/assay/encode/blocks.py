"""The blocks of an encoder, where networks keep them, and vectors of what single ones of them say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import EncoderError

# BERT, DistilBERT, CLIP and SigLIP, ViT of timm and transformers, CNNs
PLACES = (
    "encoder.layer",
    "transformer.layer",
    "encoder.layers",
    "layers",
    "layer",
    "blocks",
    "encoder.stages",
    "stages",
)
RESNET = ("layer1", "layer2", "layer3", "layer4")


def blocks_of(model: nn.Module) -> list[nn.Module] | None:
    """The blocks in their order; None where they are not known."""
    for path in PLACES:
        found: Any = model
        for part in path.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList | nn.Sequential) and len(found) > 1:
            return list(found)
    stages = [getattr(model, name, None) for name in RESNET]
    return [stage for stage in stages if stage is not None] if all(stage is not None for stage in stages) else None


class _Said(threading.local):
    """What blocks said last, of each thread."""

    def __init__(self) -> None:
        self.of: dict[int, Tensor] = {}


class Middle:
    """Vectors [m, dim] of pictures from blocks (1: the first), each the mean over its places, beside a network's own.

    Middle blocks often carry more of mood, style and layout than what a network was trained to say last.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], name: str) -> None:
        blocks = blocks_of(model)
        if blocks is None:
            raise EncoderError(f"image.layers: the layers of {name} are not known; set it to null")
        if max(layers) > len(blocks):
            raise EncoderError(f"image.layers {list(layers)}: {name} has layers 1 to {len(blocks)}")
        self._layers, self._said = list(layers), _Said()
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        for number in set(layers):
            blocks[number - 1].register_forward_hook(self._keeper(number))

    def _keeper(self, number: int) -> Any:
        def keep(_: nn.Module, given: Any, said: Any) -> None:
            self._said.of[number] = said[0] if isinstance(said, tuple) else said

        return keep

    def __call__(self, run: Callable[[], Tensor]) -> Tensor:
        """What `run`, a call of the network, says and what the blocks say on the way."""
        try:
            own = run()
            return torch.cat([own, *(self._pooled(self._said.of[number]) for number in self._layers)], dim=1)
        finally:
            self._said.of.clear()

    def _pooled(self, said: Tensor) -> Tensor:
        if said.ndim == 4:
            return said.mean(dim=(1, 2) if self._channels_last else (2, 3))
        return said.mean(dim=1)
