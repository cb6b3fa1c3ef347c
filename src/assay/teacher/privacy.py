"""What leaves the machine: text with personal data replaced, images without a byte of metadata."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection
from functools import lru_cache, partial

import phonenumbers
from linkify_it import LinkifyIt
from PIL import Image

from assay import images
from assay.config import AnyCorpus, Masked, Task
from assay.errors import ImageProblem

MARKS: dict[Masked, str] = {"email": "[email]", "phone": "[phone]", "handle": "[user]", "url": "[link]"}
MOSAIC = 12  # tiles a side, in which nobody is recognised
VEILED_PX = 192  # how wide they are shown
_AT = r"(?:@|\s*[\[({<]\s*(?:at|@)\s*[\])}>]\s*|\s+at\s+)"
_DOT = r"(?:\.|\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*|\s+dot\s+)"
_PLAIN_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"]+@[^\s@<>()\[\],;:\"]+\.[^\s@<>()\[\],;:\".!?]+")
_HIDDEN_EMAIL = re.compile(
    rf"[\w.+-]+{_AT}[\w-]+(?:{_DOT}[\w-]+)*{_DOT}(?:com|net|org|edu|gov|info|io|co|me|[a-z]{{2}})\b", re.IGNORECASE
)
_HANDLE = re.compile(r"(?<![A-Za-z0-9_@])[@\uff20]([\w](?:[\w.]*[\w])?)")
_NEAR_A_PHONE = re.compile(
    r"((?:call|text|tel|phone|mobile|cell|whats?app|wa|sms|dm|fon|t[ée]l[ée]fono|\u260e\ufe0f?|\U0001f4de|\U0001f4f1)"
    r"\s*(?:me|us)?\s*(?:at|on|:|-)?\s*)(\+?[\d(][\d\s().\-/]{6,}\d)",
    re.IGNORECASE,
)
_SPLIT_DIGITS = str.maketrans({chr(0xFF10 + i): str(i) for i in range(10)})


def mask(
    text: str, kinds: Collection[Masked], *, keep: Collection[str] = (), regions: Collection[str] = ("US",)
) -> str:
    """The text with e-mail addresses, phone numbers, handles and links replaced by marks.

    `keep`: handles, without @, that stay; `regions`: countries whose phone numbers are known without +.
    Finds links and addresses with linkify-it and phone numbers with phonenumbers, and what these two
    let through: addresses in words ("name (at) mail dot com"), numbers after "call" or a phone sign.
    """
    if not text:
        return text
    if "url" in kinds or "email" in kinds:
        text = _links(text, kinds)
    if "email" in kinds:
        text = _HIDDEN_EMAIL.sub(MARKS["email"], _PLAIN_EMAIL.sub(MARKS["email"], text))
    if "handle" in kinds:
        kept = {name.lower().lstrip("@") for name in keep}
        text = _HANDLE.sub(lambda found: found[0] if found[1].lower() in kept else MARKS["handle"], text)
    if "phone" in kinds:
        text = _phones(text, regions)
    return text


def _links(text: str, kinds: Collection[Masked]) -> str:
    for found in reversed(_linkify().match(text) or []):
        kind: Masked = "email" if found.schema == "mailto:" else "url"
        if kind in kinds:
            text = text[: found.index] + MARKS[kind] + text[found.last_index :]
    return text


def _phones(text: str, regions: Collection[str]) -> str:
    plain = text.translate(_SPLIT_DIGITS)
    if sum(c.isdigit() for c in plain) < 7:
        return text
    spots = {
        (found.start, found.end)
        for region in regions or ["ZZ"]
        for found in phonenumbers.PhoneNumberMatcher(plain, region)
    }
    spots |= {found.span(2) for found in _NEAR_A_PHONE.finditer(plain)}
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spots):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    for start, stop in reversed(merged):
        text = text[:start] + MARKS["phone"] + text[stop:]
    return text


@lru_cache(maxsize=1)
def _linkify() -> LinkifyIt:
    return LinkifyIt(options={"fuzzy_link": True, "fuzzy_email": True, "fuzzy_ip": True})


def handles(corpus: AnyCorpus) -> list[str]:
    """The handles of a corpus' brands, which are no personal data."""
    return sorted({handle for brand in corpus.brands.values() for handle in brand.handles})


def veil_of(task: Task, corpus: AnyCorpus) -> Callable[[str, bytes | None], tuple[str, bytes | None]] | None:
    """What lies over the posts that a page shows; None where they are to be shown as they are."""
    regions = task.annotate.phone_regions
    return partial(veil, keep=handles(corpus), regions=regions) if task.report.share == "masked" else None


def veil(
    text: str, image: bytes | None, *, keep: Collection[str] = (), regions: Collection[str] = ("US",)
) -> tuple[str, bytes | None]:
    """A post that may be mailed: marks for what names a person, and of its picture a mosaic of 12 by 12.

    `keep`: handles, without @, that stay; `regions` as of `mask`. None in place of a picture that cannot be read.
    """
    masked = mask(text, tuple(MARKS), keep=keep, regions=regions)
    if image is None:
        return masked, None
    try:
        shown = images.decode(image, images.MAX_PIXELS)
    except ImageProblem:
        return masked, None
    out = io.BytesIO()
    coarse = shown.convert("RGB").resize((MOSAIC, MOSAIC), Image.Resampling.BOX)
    high = min(max(round(VEILED_PX * shown.height / shown.width), MOSAIC), 4 * VEILED_PX)
    coarse.resize((VEILED_PX, high), Image.Resampling.NEAREST).save(out, "PNG")
    return masked, out.getvalue()


def clean_image(data: bytes, longest: int | None = None) -> bytes:
    """The picture alone, encoded anew: no EXIF, no comment, no profile, nothing behind its end.

    `longest`: the longer side that it is scaled down to, in pixels. ImageProblem when it cannot be read.
    """
    image = images.decode(data, images.MAX_PIXELS)
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    out = io.BytesIO()
    try:
        bare.save(out, "JPEG", quality=images.JPEG_QUALITY)
    except (OSError, ValueError) as error:
        raise ImageProblem("undecodable_image", str(error)) from error
    return out.getvalue()
