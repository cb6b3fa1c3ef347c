"""Why a student says what it says of a post: integrated gradients over the picture and over the words.

Attributions start from a grey picture and from a text of padding (Sundararajan et al., 2017), by captum.
They tell what this student's answer rests on; they are no proof of what the post means.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from assay import images
from assay import text as texts
from assay.encode.extract import PostInputs
from assay.encode.features import Features
from assay.encode.image_encoders import ImageEncoder
from assay.encode.text_encoders import TextEncoder
from assay.errors import DataError, ImageProblem, SettingsError
from assay.places import with_extra
from assay.scoring.predict import Predictor
from assay.scoring.prediction import Prediction
from assay.student.lexical import Grams
from assay.student.model import Inputs
from assay.targets import NUMBER


@dataclass
class Explanation:
    """What spoke for (above 0) and against (below 0) one answer, in units of its raw output."""

    task: str
    answer: str  # the class or label explained, or "score"
    prediction: Prediction
    words: list[tuple[str, float]] = field(default_factory=list)
    heat: np.ndarray | None = None  # float [side, side] over the whole picture
    picture: Image.Image | None = None
    modality: dict[str, float] = field(default_factory=dict)  # sums over picture, words and n-grams
    gap: dict[str, float] = field(default_factory=dict)  # how far the sums are from the true difference

    def figures(self) -> dict[str, Any]:
        """All but the picture, for JSON."""
        return {
            "task": self.task,
            "answer": self.answer,
            "value": self.prediction.value,
            "probabilities": self.prediction.probabilities,
            "modality": {name: round(value, 4) for name, value in self.modality.items()},
            "completeness_gap": {name: round(value, 4) for name, value in self.gap.items()},
            "words": [(word, round(weight, 4)) for word, weight in self.words],
        }


def explain(
    predictor: Predictor,
    *,
    text: str = "",
    image: bytes | None = None,
    task: str | None = None,
    answer: str | None = None,
    steps: int = 64,
) -> Explanation:
    """Explain the answer of a student to one post; `answer` names a class or label (else the likeliest)."""
    try:
        from captum.attr import IntegratedGradients, LayerIntegratedGradients
    except ImportError as error:
        raise SettingsError(f"assay explain needs the package captum: {with_extra('explain')}") from error
    task = predictor.check_task(task)
    post = PostInputs(texts.normalise(text), [(images.content_hash(image), image)] if image else [])
    prediction = predictor.score([post])[task][0]
    if prediction.status == "failed":
        raise DataError(f"nothing to explain: {prediction.reason}")
    column, name = _column(predictor, task, prediction, answer)
    found = Explanation(task, name, prediction)
    logit = _Logit(predictor, post, column)
    picture = _decoded(image, predictor) if image else None
    if picture is not None and isinstance(logit.image, ImageEncoder):
        view = next((one for one in ("whole", "crop") if one in logit.image.views), logit.image.views[0])
        pixels = logit.image.pixels(picture, view).unsqueeze(0)
        found.picture = logit.image.square(picture, view)
        integrated = IntegratedGradients(logit.of_pixels(pixels))
        parts, gap = integrated.attribute(
            pixels, torch.zeros_like(pixels), n_steps=steps, internal_batch_size=8, return_convergence_delta=True
        )
        found.heat = parts[0].sum(0).detach().numpy()
        found.modality["picture"] = float(parts.sum())
        found.gap["picture"] = float(gap.abs().sum())
    read = logit.features.words[0]  # with what is written in the picture, where the student reads that
    if read and isinstance(logit.text, TextEncoder):
        tokens, spans = logit.text.tokenize([read]), logit.text.spans(read)
        embedding = _embedding(logit.text.model)
        layered = LayerIntegratedGradients(logit.of_tokens(tokens), embedding)
        parts, gap = layered.attribute(
            tokens["input_ids"],
            logit.text.blank(tokens["input_ids"], spans),
            n_steps=steps,
            internal_batch_size=8,
            return_convergence_delta=True,
        )
        weights = parts[0].sum(-1).detach().numpy()
        grams = logit.of_grams(read)
        found.words = _by_word(read, spans, weights, grams)
        found.modality["words"] = float(weights.sum())
        found.gap["words"] = float(gap.abs().sum())
        if grams:
            found.modality["n-grams"] = float(sum(grams))
    return found


def _column(predictor: Predictor, task: str, prediction: Prediction, answer: str | None) -> tuple[int, str]:
    """Which raw output is explained, and its name."""
    start = predictor.trained.model.members[0].columns[task].start
    target = predictor.targets[task]
    if predictor.trained.model.output(task).outputs != len(target.groups) or target.shape == NUMBER:
        return start, target.answer_key  # one raw output says how strong a post is
    shares = prediction.probabilities or {}
    chosen = answer or max(shares, key=lambda one: shares[one])
    if chosen not in target.groups:
        allowed = ", ".join(target.groups)
        raise SettingsError(f"--answer {chosen!r} is no {target.group} of {task}; allowed: {allowed}")
    return start + target.groups.index(chosen), chosen


class _Logit:
    """One raw output of the student as a function of one modality, the other one held."""

    def __init__(self, predictor: Predictor, post: PostInputs, column: int) -> None:
        self.column = column
        predictor.trained.model.eval()
        self.image, self.text = predictor.encoders()
        self.features, _ = predictor.features([post])
        self.members = predictor.trained.model.members
        self.batch = Inputs(self.features, *self.members).rows(torch.tensor([0]))

    def _raw(self, image: Tensor, text: Tensor, grams: Grams | None = None) -> Tensor:
        """[n, dims] -> [n]; `grams` None: those of the post."""
        n = len(image)
        held = self.batch.grams
        if grams is None and held is not None:
            size = len(held.ids)
            grams = Grams(held.ids.repeat(n), torch.arange(n) * size, held.counts.repeat(n))
        batch = self.batch._replace(
            image=image,
            text=text,
            has_image=self.batch.has_image.expand(n),
            has_text=self.batch.has_text.expand(n),
            grams=grams,
        )
        return torch.stack([member(batch).mean(0)[:, self.column] for member in self.members]).mean(0)

    def of_pixels(self, seen: Tensor) -> Any:
        """Pixels in place of those `seen` in one view, the other views as they are: [n, 3, side, side] -> [n]."""
        encoder = self.image
        if not isinstance(encoder, ImageEncoder):
            raise DataError("the student sees no picture")
        share = 1 / len(encoder.views)
        with torch.no_grad():
            rest = self.batch.image - share * encoder.vectors(seen).float().cpu()

        def forward(pixels: Tensor) -> Tensor:
            vectors = encoder.vectors(pixels).float().cpu()
            return self._raw(rest + share * vectors, self.batch.text.expand(len(pixels), -1))

        return forward

    def of_tokens(self, tokens: dict[str, Tensor]) -> Any:
        """Token ids -> [n]; the embedding layer between is what captum follows."""
        encoder = self.text
        if not isinstance(encoder, TextEncoder):
            raise DataError("the student sees no text")

        def forward(ids: Tensor) -> Tensor:
            rest = {name: t.expand(len(ids), -1) for name, t in tokens.items() if name != "input_ids"}
            vectors = encoder.vectors({"input_ids": ids, **rest}).float().cpu()
            return self._raw(self.batch.image.expand(len(ids), -1), vectors)

        return forward

    def of_grams(self, text: str) -> list[float]:
        """What the answer loses without the n-grams of each word in turn; empty where it rests on none."""
        words = text.split()
        variants = [text, *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]
        n = len(variants)
        zeros = np.zeros((n, 0), np.float32)
        rows = Inputs(Features(zeros, zeros, np.ones(n, bool), np.ones(n, bool), variants), *self.members)
        grams = rows.rows(torch.arange(n)).grams
        if grams is None:
            return []
        with torch.inference_mode():
            raw = self._raw(self.batch.image.expand(n, -1), self.batch.text.expand(n, -1), grams)
        return [float(raw[0] - one) for one in raw[1:]]


def _embedding(model: nn.Module) -> nn.Module:
    found: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return found


def _by_word(
    text: str, spans: list[tuple[int, int]], weights: np.ndarray, grams: list[float]
) -> list[tuple[str, float]]:
    """Weights of tokens summed over the words that they are parts of, in the order of the text."""
    words: list[tuple[str, float]] = []
    at = 0
    for number, word in enumerate(text.split()):
        start = text.index(word, at)
        at = start + len(word)
        inside = [w for (a, b), w in zip(spans, weights, strict=False) if a < b and a >= start and b <= at]
        words.append((word, float(sum(inside)) + (grams[number] if grams else 0.0)))
    return words


def _decoded(image: bytes, predictor: Predictor) -> Image.Image | None:
    size = predictor.trained.preprocessing["image_px"]
    try:
        return images.pack(image, longest=size, max_pixels=images.MAX_PIXELS).image
    except ImageProblem:
        return None


# --------------------------------------------------------------------------------------- the page


def page(found: Explanation) -> str:
    """A self-contained HTML page: the words on coloured ground, the picture under its heat."""
    top = max((abs(weight) for _, weight in found.words), default=0) or 1
    words = " ".join(
        f'<span style="background:{tone(weight / top)}" title="{weight:+.3f}">{html.escape(word)}</span>'
        for word, weight in found.words
    )
    sums = ", ".join(f"{name} {value:+.2f}" for name, value in found.modality.items())
    value = found.prediction.value
    said = f"{value:.2f}" if isinstance(value, float) else value
    said = (", ".join(value) or "none") if isinstance(value, list) else said
    seen = "the picture with what mattered in it"
    picture = f'<img src="{heat_url(found)}" alt="{seen}">' if found.heat is not None else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>assay explain</title><style>'
        "body{font:16px/1.7 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "span{padding:.1rem .25rem;border-radius:.25rem}img{width:24rem;max-width:100%;border-radius:.5rem}"
        "p.note{color:#667;font-size:14px}</style>"
        f"<h1>{html.escape(found.task)}: {html.escape(str(said))}</h1>"
        f"<p>What spoke for (orange) and against (blue) <b>{html.escape(found.answer)}</b>: {sums}.</p>"
        f"<p>{words}</p>{picture}"
        '<p class="note">Integrated gradients from a grey picture and an empty text. They show what the answer of '
        "this student rests on, not what the post means.</p></html>\n"
    )


def tone(share: float) -> str:
    """The background of a word: orange for, blue against; `share` is its weight, -1 to 1."""
    tone = "217,130,43" if share > 0 else "70,120,190"
    return f"rgba({tone},{min(abs(share), 1) * 0.75:.2f})"


def heat_image(found: Explanation) -> Image.Image:
    """The picture, dimmed, with orange where it spoke for the answer and blue where against."""
    if found.heat is None or found.picture is None:
        raise DataError("the student sees no picture")
    rough = Image.fromarray(found.heat.astype(np.float32))
    coarse = rough.resize((28, 28), Image.Resampling.BOX)
    smooth = np.asarray(coarse.resize(found.picture.size, Image.Resampling.BICUBIC))
    top = np.quantile(np.abs(smooth), 0.99) or 1.0
    share = np.clip(smooth / top, -1, 1)[..., None]
    base = np.asarray(found.picture.convert("L"), np.float32)[..., None].repeat(3, axis=2) * 0.75 + 60
    tone = np.where(share > 0, np.array([217, 110, 20]), np.array([40, 90, 200]))
    mixed = base * (1 - 0.7 * np.abs(share)) + tone * 0.7 * np.abs(share)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def heat_url(found: Explanation) -> str:
    """`heat_image` as a data URL."""
    out = io.BytesIO()
    heat_image(found).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
