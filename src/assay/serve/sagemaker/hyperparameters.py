"""The hyperparameters of a training job: words of the command or keys of a YAML file -> a task and a student.

A backend (`clip`, `siglip`) or a learning rate of the encoder says that encoders learn, with gated fusion; else they
are frozen, and the student is the default one of params.yaml.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from assay.config import Split, Student, Task
from assay.config.messages import one_line
from assay.errors import SettingsError
from assay.section import Section

CHANNELS = ("train", "validation", "test")
BACKENDS = {"clip": "openai/clip-vit-base-patch32", "siglip": "google/siglip2-base-patch16-224"}
PACKAGED: dict[str, dict[str, Any]] = {
    "image": {"encoder": "packaged/efficientnet-lite0", "views": ["crop", "whole"], "layers": [5, 6, 7]},
    "text": {"encoder": "packaged/minilm-l6", "layers": [3, 4, 5, 6]},
}


def truth(said: str) -> bool:
    """A flag, which SageMaker gives as text."""
    if said.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise argparse.ArgumentTypeError(f"{said!r}: allowed: true, false")
    return said.lower() in ("true", "1", "yes")


WORDS: dict[str, dict[str, Any]] = {
    "name": {"default": "student", "help": "of the model and its task"},
    "class-names": {"help": "names separated by commas"},
    "kind": {"choices": ["labels", "classes"], "default": "labels", "help": "any of the names, or one"},
    "backend": {"choices": ["clip", "siglip", "auto"], "help": "one model for picture and text, which learns"},
    "encoder-name": {"help": "that model, such as openai/clip-vit-base-patch32; frozen without backend and lr-encoder"},
    "image-encoder": {"default": PACKAGED["image"]["encoder"]},
    "text-encoder": {"default": PACKAGED["text"]["encoder"]},
    "freeze-encoder": {"type": truth, "help": "true: the encoders stay as they are, whatever else is said"},
    "head": {"choices": ["auto", "fusion", "mtl"], "default": "auto", "help": "mtl: a small head for each name"},
    "fusion": {"choices": ["concat", "gated", "cross_attention"], "help": "default: gated where encoders learn"},
    "fusion-dim": {"type": int, "default": 512, "help": "width of gated fusion and of the layer behind it"},
    "dropout": {"type": float, "help": "behind hidden layers"},
    "uncertainty-weights": {"type": truth, "default": False, "help": "learned weights of the names"},
    "epochs": {"type": int, "default": 40},
    "batch-size": {"type": int, "default": 32},
    "grad-accumulation": {"type": int, "default": 1},
    "lr": {"type": float, "help": "of fusion and head, as lr-head; default 0.001, or 0.0005 where encoders learn"},
    "lr-head": {"type": float, "help": "the same"},
    "lr-encoder": {"type": float, "help": "of encoders that learn; default 0.00001"},
    "weight-decay": {"type": float, "default": 0.01},
    "warmup-ratio": {"type": float, "default": 0.1, "help": "share of all steps with a rising learning rate"},
    "patience": {"type": int, "default": 8},
    "loss-type": {"choices": ["auto", "bce", "focal", "asymmetric"], "default": "auto"},
    "focal-gamma": {"type": float, "default": 1.5},
    "class-weights": {"choices": ["none", "balanced"], "default": "none"},
    "weighted-sampling": {"type": truth, "default": False, "help": "posts of rare names are drawn more often"},
    "augment": {"type": truth, "default": False, "help": "pictures change, where the encoder learns"},
    "aug-scale-min": {"type": float, "default": 0.8, "help": "least share of a picture's area that a crop keeps"},
    "aug-scale-max": {"type": float, "default": 1.0},
    "precision": {"choices": ["auto", "fp32", "bf16", "fp16"], "default": "auto"},
    "seed": {"type": int, "default": 1},
    "text-column": {"default": "text"},
    "image-column": {"default": "image_path"},
    "label-column": {"default": "labels"},
}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Hyperparameters, which SageMaker gives as words of the command, and the folders of its environment.

    What the words do not say, the file of `--config` may. SettingsError for what it may not.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a YAML file with any of these, with - or _")
    for name, how in WORDS.items():
        parser.add_argument(*{f"--{name}": 0, f"--{name.replace('-', '_')}": 0}, **how)
    for channel in CHANNELS:
        parser.add_argument(f"--{channel}", type=Path, default=_folder(f"SM_CHANNEL_{channel.upper()}"))
    parser.add_argument("--model-dir", type=Path, default=_folder("SM_MODEL_DIR") or Path("/opt/ml/model"))
    parser.add_argument("--output-data-dir", type=Path, default=_folder("SM_OUTPUT_DATA_DIR"))
    file = parser.parse_args(words).config
    if file is not None:
        parser.set_defaults(**_told_by(file))
    args = parser.parse_args(words)
    if not args.class_names:
        raise SettingsError("class-names is not given; allowed: names separated by commas")
    return args


def task_of(args: argparse.Namespace, *, official: bool) -> Task:
    """The task that hyperparameters describe; `official`: channels say what is learnt from and what is tested on."""
    names = [name.strip() for name in args.class_names.split(",") if name.strip()]
    splits = {"train": ["train"], "val": ["validation"], "test": ["test"]} if official else None
    head = args.lr_head or args.lr or (0.0005 if learns(args) else 0.001)
    encoder = args.lr_encoder or 0.00001
    loss = "cross_entropy" if args.kind == "classes" and args.loss_type == "bce" else args.loss_type
    raw = {
        "corpus": args.name,
        "student": args.name,
        "target": {"kind": args.kind, "names": names},
        "sample": {"design": "all"},
        "annotate": {"from": "column", "column": "label"},
        "split": Split().model_dump() | {"official": splits},
        "train": {
            **{name: getattr(args, name) for name in ("epochs", "batch_size", "grad_accumulation", "weight_decay")},
            **{name: getattr(args, name) for name in ("patience", "focal_gamma", "class_weights", "precision", "seed")},
            "uncertainty_weights": args.uncertainty_weights,
            "lr": head,
            "lr_image": encoder,
            "lr_text": encoder,
            "warmup": args.warmup_ratio,
            "loss": loss,
            "sampler": "weighted" if args.weighted_sampling else "random",
            "augment": "photo" if args.augment else "none",
            "augment_scale": [args.aug_scale_min, args.aug_scale_max],
            "crossfit": 0,  # the channels say what is learnt from and what decides when to stop
        },
        **{name: {} for name in ("evaluate", "infer", "report")},
    }
    if args.augment and not learns(args):
        raise SettingsError("augment: pictures change for an encoder that learns; name a backend or lr-encoder")
    return cast(Task, _checked(Task, raw))


def student_of(args: argparse.Namespace) -> Student:
    """The student that hyperparameters describe."""
    named = args.encoder_name or BACKENDS.get(args.backend or "", BACKENDS["clip"] if args.backend else None)
    if named and "/" in named and not Path(named).is_dir() and not named.startswith("transformers/"):
        named = f"transformers/{named}"
    tuned = learns(args)
    raw: dict[str, Any] = {}
    for branch, packaged in PACKAGED.items():
        encoder = named or getattr(args, f"{branch}_encoder")
        known = packaged if encoder == packaged["encoder"] else {"encoder": encoder}
        raw[branch] = known | {"frozen": not tuned}
    head: dict[str, Any] = {"hidden": [args.fusion_dim], "dropout": 0.2}
    if not tuned:
        head = {"hidden": [128], "input_dropout": 0.5}
    if args.dropout is not None:
        head["dropout"] = args.dropout
    kinds: dict[str, dict[str, Any]] = {"fusion": {"kind": "mlp"}, "mtl": {"kind": "multitask", "task_hidden": 128}}
    head |= kinds.get(args.head, {})
    fusion = args.fusion or ("gated" if tuned else "concat")
    raw["fusion"] = {"kind": fusion, **({"dim": args.fusion_dim} if fusion != "concat" else {})}
    return cast(Student, _checked(Student, raw | {"lexical": None if tuned else {}, "head": head}))


def _checked(kind: type[Section], raw: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(f"hyperparameters: {one_line(error, raw, kind)}") from error


def learns(args: argparse.Namespace) -> bool:
    """Whether the encoders learn."""
    return not args.freeze_encoder and (args.backend is not None or args.lr_encoder is not None)


def _told_by(file: Path) -> dict[str, Any]:
    """The keys of a YAML file as parse names them."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{file}: no keys with values; allowed: {', '.join(WORDS)}")
    found = {str(name).replace("-", "_"): value for name, value in raw.items() if value is not None}
    for name, value in found.items():
        how = WORDS.get(name.replace("_", "-"))
        if how is None:
            raise SettingsError(f"{file}: {name} is unknown; allowed: {', '.join(WORDS)}")
        if name == "class_names" and isinstance(value, list):
            value = found[name] = ",".join(map(str, value))
        try:
            found[name] = how.get("type", str)(str(value))
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise SettingsError(f"{file}: {name}: {error}") from error
        if how.get("choices") and found[name] not in how["choices"]:
            raise SettingsError(f"{file}: {name}: {value!r}; allowed: {', '.join(how['choices'])}")
    return found


def _folder(name: str) -> Path | None:
    found = os.environ.get(name)
    return Path(found) if found else None
