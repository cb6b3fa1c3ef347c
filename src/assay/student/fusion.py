"""How image and text vectors meet. A fusion maps (image, text, presence) to one vector.

A modality that a post lacks is replaced by a learned vector, so that "no picture" is an input of its
own and never a black picture or an invented caption.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.config import Fusion


class Standardise(nn.Module):
    """Centre and scale each feature by the training split's mean and deviation; absent rows are learned."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.absent = nn.Parameter(torch.zeros(dim))

    def fit(self, vectors: Tensor) -> None:
        """Set mean and deviation from float32 [n, dim] of posts that have the modality."""
        if len(vectors) > 1:
            self.mean.copy_(vectors.mean(0))
            spread = vectors.std(0)
            self.scale.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """[n, dim] and bool [n] -> [n, dim]."""
        return torch.where(present.unsqueeze(1), (vectors - self.mean) / self.scale, self.absent)


class Concat(nn.Module):
    """Both vectors side by side, with two bits that say which modality is there (late fusion)."""

    def __init__(self, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.dim = image_dim + text_dim + 2

    def forward(self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor) -> Tensor:
        """[n, image dim], [n, text dim], bool [n], bool [n] -> [n, dim]."""
        bits = torch.stack([has_image, has_text], dim=1).to(image.dtype)
        return torch.cat([image, text, bits], dim=1)


def build_fusion(settings: Fusion, image_dim: int, text_dim: int) -> Concat:
    """The fusion that params name."""
    return {"concat": Concat}[settings.kind](image_dim, text_dim)
