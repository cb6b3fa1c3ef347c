"""Random Fourier features of both modalities: a kernel machine as a linear model (Rahimi and Recht, 2007).

Inner products of them are Gaussian kernels exp(-|x - y|^2 / 2) of each modality's features, scaled so that those of a
post are about 1 long, up to chance that falls with their number. Their frequencies are drawn from a fixed seed by a
generator whose numbers never change (NumPy's RandomState), so that no model folder holds them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

SEED = 20_261_127


class Waves(nn.Module):
    """Standardised features [n, image dim + text dim] -> cosines and sines [n, dim]."""

    image: Tensor | None
    text: Tensor | None

    def __init__(self, image_dim: int, text_dim: int, pairs: int) -> None:
        super().__init__()
        self.image_dim, self.pairs = image_dim, pairs
        self.dim = 2 * pairs * ((image_dim > 0) + (text_dim > 0))
        for name, dim in (("image", image_dim), ("text", text_dim)):
            drawn = frequencies(dim, pairs) if dim else None
            self.register_buffer(name, drawn, persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Of unit length for each modality, also of one that a post lacks."""
        parts = []
        for drawn, seen in ((self.image, dense[:, : self.image_dim]), (self.text, dense[:, self.image_dim :])):
            if drawn is not None:
                angles = seen @ drawn
                parts += [torch.cos(angles), torch.sin(angles)]
        found: Tensor = torch.cat(parts, dim=1) / self.pairs**0.5
        return found


@lru_cache(maxsize=8)
def frequencies(dim: int, pairs: int) -> Tensor:
    """Float32 [dim, pairs], shared by all students of a process: nothing writes into it."""
    drawn = np.random.RandomState([SEED, dim, pairs]).standard_normal((dim, pairs)) / dim**0.5
    return torch.from_numpy(drawn.astype(np.float32))
