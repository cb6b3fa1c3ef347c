"""Tiny random checkpoints of the real classes, saved as a user's local folder would hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_tokenizer(folder: Path, **more: Any) -> None:
    """A word-level tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "day", "bad"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", **more).save_pretrained(folder)


def save_resnet(folder: Path) -> None:
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext import ConvNextImageProcessor

    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875).save_pretrained(folder)


def save_vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    words = {
        "hidden_size": 12,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 10,
        "bos_token_id": 0,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    CLIPModel(CLIPConfig(vision_config=vision, text_config=words)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    save_tokenizer(folder)


def save_timm(folder: Path) -> None:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("test_resnet", num_classes=0), folder)


def save_siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    shared = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**shared, "image_size": 32, "patch_size": 8}
    words = {**shared, "vocab_size": 10, "max_position_embeddings": 8, "projection_size": 16}
    SiglipModel(SiglipConfig(vision_config=vision, text_config=words)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    save_tokenizer(folder)


def save_bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(folder)
    save_tokenizer(folder)


def save_distilbert(folder: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    DistilBertModel(DistilBertConfig(vocab_size=10, dim=16, n_layers=2, n_heads=2, hidden_dim=16)).save_pretrained(
        folder
    )
    save_tokenizer(folder)


def save_timm_vit(folder: Path) -> None:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("test_vit", num_classes=0), folder)
