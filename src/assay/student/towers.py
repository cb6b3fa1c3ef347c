"""Encoders that learn: layers frozen by count, LoRA, gradient checkpointing, and what they learnt."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import images
from assay.config import Lora, Student, Train
from assay.encode.blocks import blocks_of
from assay.encode.extract import PostInputs
from assay.encode.image_encoders import ImageEncoder, load_image_encoder
from assay.encode.text_encoders import TextEncoder, load_text_encoder
from assay.errors import EncoderError, ImageProblem
from assay.places import with_extra
from assay.progress import cores
from assay.student.augment import drop_words, image_change
from assay.student.model import Batch


class Towers(nn.Module):
    """The encoders of a student that learn, from raw posts to the vectors that the trained part sees."""

    def __init__(self, student: Student, settings: Train, *, image_px: int) -> None:
        super().__init__()
        self.settings, self.image_px = settings, image_px
        self.image: ImageEncoder | None = None
        self.text: TextEncoder | None = None
        self.models = nn.ModuleDict()
        if student.image and not student.image.frozen:
            self.image = load_image_encoder(student.image)
            self.models["image"] = _prepare(self.image.model, student.image, settings, "image")
        if student.text and not student.text.frozen:
            self.text = load_text_encoder(student.text)
            self.models["text"] = _prepare(self.text.model, student.text, settings, "text")
        self._before = {name: _trainable(model) for name, model in self.models.items()}

    def train(self, mode: bool = True) -> Towers:
        """Dropout follows `mode`; batch norm keeps the statistics it came with, since batches are small."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def fill(self, batch: Batch, posts: Sequence[PostInputs]) -> Batch:
        """The batch with the vectors of learning encoders in place of the frozen ones."""
        if self.image is not None:
            batch = batch._replace(image=self._images(self.image, posts))
        if self.text is not None:
            share = self.settings.text_dropout if self.training else 0.0
            texts = [drop_words(post.text, share) or " " for post in posts]
            batch = batch._replace(text=self.text.vectors(self.text.tokenize(texts)).float())
        return batch

    def _images(self, encoder: ImageEncoder, posts: Sequence[PostInputs]) -> Tensor:
        """The mean vector over each post's images, [n, dim]; zeros where there are none."""
        low, high = self.settings.augment_scale
        change = image_change(self.settings.augment if self.training else "none", (low, high))
        files = [(i, data) for i, post in enumerate(posts) for _, data in post.images]

        def decode(data: bytes) -> Any:
            try:
                return images.pack(data, longest=self.image_px, max_pixels=images.MAX_PIXELS).image
            except ImageProblem:
                return None

        with ThreadPoolExecutor(cores()) as pool:
            decoded = list(pool.map(decode, (data for _, data in files)))
            seen = [(i, change(image)) for (i, _), image in zip(files, decoded, strict=True) if image is not None]
            squares = list(pool.map(encoder.squares, (image for _, image in seen)))
        total = torch.zeros(len(posts), encoder.dim, device=encoder.device)
        if not squares:
            return total
        owner = torch.tensor([i for i, _ in seen], device=encoder.device)
        views = torch.from_numpy(np.stack(squares)).to(encoder.device)
        for view in range(len(encoder.views)):
            said = encoder.vectors(encoder.normalised(views[:, view]))
            total = total.index_add(0, owner, said.float() / len(encoder.views))
        count = torch.bincount(owner, minlength=len(posts)).clamp(min=1).unsqueeze(1)
        return total / count

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters with the learning rate of their branch."""
        rates = {"image": self.settings.lr_image, "text": self.settings.lr_text}
        groups = []
        for name, model in self.models.items():
            learning = [p for p in model.parameters() if p.requires_grad]
            groups.append({"params": [p for p in learning if p.ndim > 1], "lr": rates[name]})
            groups.append({"params": [p for p in learning if p.ndim <= 1], "lr": rates[name], "weight_decay": 0.0})
        return groups

    def learnt(self) -> dict[str, dict[str, Tensor]]:
        """What each encoder learnt: weights by the names of the plain encoder; LoRA is merged first."""
        found = {}
        for name, model in self.models.items():
            plain = model
            if hasattr(model, "merge_and_unload"):
                names = {_plain(n) for n, p in model.named_parameters() if "lora_" in n}
                plain = model.merge_and_unload()  # type: ignore[operator]
                weights = {n: p for n, p in plain.named_parameters() if n.rpartition(".")[0] in names}
            else:
                weights = {n: p for n, p in plain.named_parameters() if n in self._before[name]}
            found[name] = {n: p.detach().cpu().clone() for n, p in weights.items()}
        return found


def _plain(name: str) -> str:
    """base_model.model.<module>.lora_A.default.weight -> <module>."""
    return name.removeprefix("base_model.model.").split(".lora_")[0]


def _trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def _prepare(model: nn.Module, branch: Any, settings: Train, key: str) -> nn.Module:
    model.requires_grad_(True)
    if settings.grad_checkpointing:
        _checkpoint(model, key)
    if branch.freeze_layers:
        freeze(model, branch.freeze_layers, key)
    return _add_lora(model, branch.lora, branch.encoder) if branch.lora else model


def freeze(model: nn.Module, count: int, key: str) -> None:
    """Freeze all but the blocks behind the first `count`, and what stands after the blocks."""
    blocks = blocks_of(model)
    if blocks is None:
        raise EncoderError(f"{key}.freeze_layers: the layers of this encoder are not known; set it to 0 or use lora")
    if count >= len(blocks):
        raise EncoderError(
            f"{key}.freeze_layers {count}: the encoder has {len(blocks)} layers; allowed: 0 to {len(blocks) - 1}"
        )
    inside = {id(p) for block in blocks for p in block.parameters()}
    last = [id(p) for block in blocks[count:] for p in block.parameters()]
    ids = [id(p) for p in model.parameters()]
    first = min(i for i, found in enumerate(ids) if found in inside)
    for i, parameter in enumerate(model.parameters()):
        before = i < first or (id(parameter) in inside and id(parameter) not in last)
        parameter.requires_grad_(not before)


def _checkpoint(model: nn.Module, key: str) -> None:
    """Forget activations and compute them again: less memory, more time."""
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    elif hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing()  # type: ignore[operator]
    else:
        raise EncoderError(f"train.grad_checkpointing: the {key} encoder does not have it; set it to false")


def _add_lora(model: nn.Module, lora: Lora, name: str) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise EncoderError(f"lora needs the package peft: {with_extra('tune')}") from error
    linear = sorted(n for n, m in model.named_modules() if _is_linear(m) and m.weight.requires_grad)
    wanted = [n for n in linear if lora.targets == "all-linear" or any(n.endswith(t) for t in lora.targets)]
    if not wanted:
        raise EncoderError(f"lora.targets {lora.targets}: no such linear layers in {name}; there are {linear[:6]} …")
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted)
    return get_peft_model(model, settings)


def _is_linear(module: nn.Module) -> bool:
    """A linear layer, also one over the channels at each place of a picture, of which CNNs mostly are."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)
