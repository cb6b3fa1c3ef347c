"""What a learning encoder sees of a post: pictures changed a little, words left out, a modality hidden."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from assay.config import Train
from assay.student.model import Batch

Change = Callable[[Image.Image], Image.Image]


@lru_cache(maxsize=4)
def image_change(kind: str, scale: tuple[float, float]) -> Change:
    """A random change of a picture.

    `meme` keeps all that is written in it: light, colour, a slight turn or shift, some blur; nothing is
    cut off or mirrored. `photo` also crops to a share of the area within `scale`, and mirrors.
    """
    from torchvision.transforms import v2

    if kind == "none":
        return lambda image: image
    soft = [v2.ColorJitter(0.25, 0.25, 0.2, 0.02), v2.RandomGrayscale(0.05)]
    if kind == "meme":
        turn = v2.RandomAffine(3, translate=(0.03, 0.03), scale=(0.94, 1.0), fill=127)
        chosen: Change = v2.Compose([*soft, turn, v2.RandomApply([v2.GaussianBlur(3, (0.1, 1.0))], 0.2)])
        return chosen
    cut: Change = v2.Compose([*soft, _RandomCut(scale), v2.RandomHorizontalFlip()])
    return cut


class _RandomCut:
    """A random cut of a share of the area within `scale`, of nearly the same shape."""

    def __init__(self, scale: tuple[float, float]) -> None:
        self.scale = list(scale)

    def __call__(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import v2

        top, left, high, wide = v2.RandomResizedCrop.get_params(image, self.scale, [0.8, 1.25])
        return image.crop((left, top, left + wide, top + high))


def drop_words(text: str, share: float) -> str:
    """The text without a random share of its words; one word always stays."""
    words = text.split()
    if not share or len(words) < 2:
        return text
    keep = torch.rand(len(words)) >= share
    if not keep.any():
        keep[int(torch.randint(len(words), ()))] = True
    return " ".join(word for word, kept in zip(words, keep.tolist(), strict=True) if kept)


def hide_modality(batch: Batch, settings: Train) -> Batch:
    """Hide picture or text of some posts that have both, so that either alone is learnt too."""
    if not settings.modality_dropout:
        return batch
    both = batch.has_image & batch.has_text
    draw = torch.rand(len(both), device=both.device)
    no_image: Tensor = both & (draw < settings.modality_dropout / 2)
    no_text: Tensor = both & (draw > 1 - settings.modality_dropout / 2)
    return batch._replace(has_image=batch.has_image & ~no_image, has_text=batch.has_text & ~no_text)
