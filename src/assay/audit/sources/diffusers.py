"""A diffusers pipeline, by hub name or local folder: Stable Diffusion XL by default, any other that makes images."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from assay.audit.sources.base import Keep, Request, checked
from assay.config import Audit, DiffusersSource
from assay.errors import DataError, EncoderError, SettingsError
from assay.places import with_extra

SCHEDULERS = {
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
    "pndm": "PNDMScheduler",
}
JPEG = {"quality": 95, "subsampling": 0}
# what decides how much memory and time it takes, and not what is seen
_SAVERS = {"batch_size", "attention_slicing", "vae_slicing", "vae_tiling", "xformers", "offload"}


class Pipeline:
    """Makes images batch by batch; each has its own generator of random numbers, on the CPU.

    So the same prompt and seed give the same picture in any batch, and prompts that differ in the words
    for a group start from the same noise. The pipeline is loaded when the first image is wanted.
    """

    def __init__(self, settings: DiffusersSource, *, max_pixels: int) -> None:
        self.settings, self.max_pixels = settings, max_pixels
        self.batch = settings.batch_size
        self._folder, self.model_hash = _located(settings)
        self.identity: dict[str, Any] = {
            **settings.model_dump(exclude=_SAVERS | {"model", "revision"}),
            "model_hash": self.model_hash,
        }
        self._pipe: Any = None

    def make(self, requests: Sequence[Request], keep: Keep) -> None:
        import torch

        pipe = self._loaded()
        settings = self.settings
        call: dict[str, Any] = {
            "prompt": [one.prompt.text for one in requests],
            "generator": [torch.Generator("cpu").manual_seed(one.noise) for one in requests],
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "width": settings.width,
            "height": settings.height,
            "output_type": "pil",
            **settings.extra,
        }
        if settings.negative_prompt is not None:
            call["negative_prompt"] = [settings.negative_prompt] * len(requests)
        started = time.perf_counter()
        try:
            found: list[Image.Image] = pipe(**call).images
        except torch.OutOfMemoryError as error:
            raise SettingsError(
                f"generators: out of GPU memory with batch_size {settings.batch_size}; make it smaller, or set "
                "vae_slicing, vae_tiling, attention_slicing or offload: model. Every image so far is kept"
            ) from error
        except (RuntimeError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())[:200]
            raise DataError(f"the pipeline {settings.model} could not make an image: {said}") from error
        if len(found) != len(requests):
            raise DataError(f"the pipeline gave {len(found)} images for {len(requests)} prompts")
        facts = {
            "model": settings.model,
            "model_hash": self.model_hash,
            "scheduler": type(pipe.scheduler).__name__,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "dtype": str(pipe.dtype).removeprefix("torch."),
        }
        started += (time.perf_counter() - started) * (1 - 1 / len(found))  # the share of one image
        for one, picture in zip(requests, found, strict=True):
            out = io.BytesIO()
            picture.convert("RGB").save(out, "JPEG", **JPEG)
            made = checked(out.getvalue(), started=started, max_pixels=self.max_pixels, **facts)
            keep(one, made)

    def _loaded(self) -> Any:
        if self._pipe is None:
            self._pipe = self._prepared(_load(self._folder, self.settings))
        return self._pipe

    def _prepared(self, pipe: Any) -> Any:
        import diffusers
        import torch

        settings = self.settings
        pipe.set_progress_bar_config(disable=True)
        if settings.scheduler is not None:
            name = SCHEDULERS.get(settings.scheduler, settings.scheduler)
            if not hasattr(diffusers, name):
                raise SettingsError(
                    f"generators: scheduler {settings.scheduler!r} is unknown; allowed: {', '.join(SCHEDULERS)}, the "
                    "name of a class of diffusers, or null for the pipeline's own"
                )
            pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        taken = inspect.signature(type(pipe).__call__).parameters
        asked = {"num_inference_steps", "guidance_scale", "width", "height", "generator", *settings.extra}
        asked |= {"negative_prompt"} if settings.negative_prompt is not None else set()
        lacking = sorted(asked - set(taken))
        if lacking:  # also where **kwargs would swallow them
            raise SettingsError(
                f"generators: {type(pipe).__name__} takes no {', '.join(lacking)}; set negative_prompt to null or "
                "leave it out of extra, or choose another pipeline"
            )
        if settings.attention_slicing:
            pipe.enable_attention_slicing("auto")
        if settings.xformers:
            try:
                pipe.enable_xformers_memory_efficient_attention()
            except (ImportError, ValueError, AttributeError) as error:
                raise SettingsError(f"generators: xformers cannot be used here ({error}); set it to false") from error
        for wished, name in ((settings.vae_slicing, "enable_slicing"), (settings.vae_tiling, "enable_tiling")):
            if wished:
                getattr(pipe.vae, name)()
        if settings.offload != "none" and not torch.cuda.is_available():
            raise SettingsError("generators: offload needs a GPU to offload from; set it to none")
        if settings.offload == "model":
            pipe.enable_model_cpu_offload()
        elif settings.offload == "sequential":
            pipe.enable_sequential_cpu_offload()
        else:
            pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        return pipe


def _located(settings: DiffusersSource) -> tuple[Path, str]:
    """The local folder of a pipeline and what tells it from others: its commit on the hub, or a digest of its files."""
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        return folder, _folder_digest(folder)
    diffusers = _diffusers()
    options = {name: getattr(settings, name) for name in ("revision", "variant") if getattr(settings, name)}
    try:
        local = Path(diffusers.DiffusionPipeline.download(settings.model, **options))
    except Exception as error:
        said = " ".join(str(error).split())[:140]
        raise EncoderError(
            f"generators: {settings.model!r} cannot be had ({type(error).__name__}: {said}); name a pipeline of the "
            "hub while it can be reached, or a local folder that holds model_index.json"
        ) from error
    return local, local.name  # in the hub's cache a folder is named by its commit


def _folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files of a pipeline folder."""
    if not (folder / "model_index.json").is_file():
        raise EncoderError(f"generators: {folder} holds no model_index.json; save a pipeline there (save_pretrained)")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts):
        digest.update(path.relative_to(folder).as_posix().encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load(folder: Path, settings: DiffusersSource) -> Any:
    import torch

    diffusers = _diffusers()
    dtype = {
        "auto": torch.float16 if torch.cuda.is_available() else torch.float32,
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }[settings.dtype]
    options = {"variant": settings.variant} if settings.variant else {}
    try:
        return diffusers.DiffusionPipeline.from_pretrained(folder, dtype=dtype, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, AttributeError, json.JSONDecodeError, ImportError) as error:
        said = " ".join(str(error).split())[:160]
        raise EncoderError(f"generators: {settings.model} cannot be loaded ({type(error).__name__}: {said})") from error


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise EncoderError(f"generators: kind diffusers needs {with_extra('generate')}") from error
    from transformers.utils import logging

    if not sys.stderr.isatty():
        diffusers.utils.logging.disable_progress_bar()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return diffusers


def open_source(settings: DiffusersSource, audit: Audit) -> Pipeline:
    """The source of an audit's images."""
    return Pipeline(settings, max_pixels=audit.images.max_pixels)
