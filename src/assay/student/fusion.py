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

    def __init__(self, settings: Fusion, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.dim = image_dim + text_dim + 2

    def forward(self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor) -> Tensor:
        """[n, image dim], [n, text dim], bool [n], bool [n] -> [n, dim]."""
        return torch.cat([image, text, _bits(has_image, has_text, image.dtype)], dim=1)


class Gated(nn.Module):
    """A sigmoid gate weighs tanh projections of both modalities (GMU: Arevalo et al., 2017), with interactions.

    With t and v the projections and z = gate(t, v, presence), the fused vector is
    norm(project([z t + (1 - z) v, t, v, |t - v|, t v])).
    """

    def __init__(self, settings: Fusion, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.dim = dim = settings.dim
        self.image, self.text = nn.Linear(image_dim, dim), nn.Linear(text_dim, dim)
        self.gate = nn.Linear(2 * dim + 2, dim)
        self.mix = nn.Linear(5 * dim, dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor) -> Tensor:
        """As Concat; [n, settings.dim]."""
        v, t = torch.tanh(self.image(image)), torch.tanh(self.text(text))
        z = torch.sigmoid(self.gate(torch.cat([t, v, _bits(has_image, has_text, t.dtype)], dim=1)))
        fused = z * t + (1 - z) * v
        every = torch.cat([fused, t, v, (t - v).abs(), t * v], dim=1)
        mixed: Tensor = self.norm(self.dropout(torch.relu(self.mix(every))))
        return mixed


class CrossAttention(nn.Module):
    """Each modality becomes `slots` tokens, and each attends to the other's in turn (LXMERT: Tan & Bansal, 2019).

    Tokens of an absent modality carry its learned vector; a presence embedding tells them apart. The
    result is the mean over all tokens after a last layer norm.
    """

    def __init__(self, settings: Fusion, image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.dim = dim = settings.dim
        self.slots = settings.slots
        self.image, self.text = nn.Linear(image_dim, self.slots * dim), nn.Linear(text_dim, self.slots * dim)
        self.place = nn.Parameter(torch.randn(2, self.slots, dim) * 0.02)
        self.presence = nn.Embedding(2, dim)

        def block() -> nn.TransformerDecoderLayer:
            return nn.TransformerDecoderLayer(
                dim, settings.heads, 2 * dim, settings.dropout, batch_first=True, norm_first=True
            )

        self.to_image = nn.ModuleList(block() for _ in range(settings.layers))
        self.to_text = nn.ModuleList(block() for _ in range(settings.layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor, text: Tensor, has_image: Tensor, has_text: Tensor) -> Tensor:
        """As Concat; [n, settings.dim]."""
        v = self._tokens(self.image(image), 0, has_image)
        t = self._tokens(self.text(text), 1, has_text)
        for attend_image, attend_text in zip(self.to_image, self.to_text, strict=True):
            v, t = attend_text(v, t), attend_image(t, v)
        mean: Tensor = self.norm(torch.cat([v, t], dim=1)).mean(1)
        return mean

    def _tokens(self, projected: Tensor, which: int, present: Tensor) -> Tensor:
        tokens = projected.view(len(projected), self.slots, self.dim) + self.place[which]
        placed: Tensor = tokens + self.presence(present.long()).unsqueeze(1)
        return placed


def _bits(has_image: Tensor, has_text: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.stack([has_image, has_text], dim=1).to(dtype)


FUSIONS: dict[str, type[Concat | Gated | CrossAttention]] = {
    "concat": Concat,
    "gated": Gated,
    "cross_attention": CrossAttention,
}


def build_fusion(settings: Fusion, image_dim: int, text_dim: int) -> Concat | Gated | CrossAttention:
    """The fusion that params name; a student of one modality has nothing to fuse and gets concat."""
    kind = settings.kind if image_dim and text_dim else "concat"
    return FUSIONS[kind](settings, image_dim, text_dim)
