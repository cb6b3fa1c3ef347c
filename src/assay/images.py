"""Open, check, bound, resize and encode an image with Pillow; every failure is an ImageProblem.

Codes: `missing_image`, `undecodable_image`, `decompression_bomb`, `outside_corpus`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import imagehash
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from assay.buckets import Bucket, Root
from assay.errors import ImageProblem

ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None  # bounded here, by `max_pixels`, before a pixel is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # MPO is opened as JPEG
JPEG_QUALITY = 92
MAX_PIXELS = 50_000_000
MAX_BYTES = 2**29  # of a file
HEADER_BYTES = 2**16  # that are fetched of a picture in object storage to look at its header


def safe_path(root: Path, relative: str) -> Path:
    """The file below `root` that a corpus names; ImageProblem when it points outside of it.

    Links are followed, so one that leads out of the corpus is refused too.
    """
    pure = PurePosixPath(relative.replace("\\", "/"))
    if "\x00" in relative or pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", relative):
        raise ImageProblem("outside_corpus", relative)
    path = root / pure
    inside = _real(root)
    if not (_real(path.parent) == inside or _real(path.parent).startswith(inside + os.sep)) or (
        path.is_symlink() and not os.path.realpath(path).startswith(inside + os.sep)
    ):
        raise ImageProblem("outside_corpus", f"{relative} is a link out of the corpus")
    return path


@lru_cache(maxsize=4096)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def read_bytes(root: Root, relative: str) -> bytes:
    """The bytes of an image of a corpus."""
    if isinstance(root, Bucket):
        try:
            _must_be_small(root.file(relative).size, relative)
            return root.read(relative)
        except FileNotFoundError as error:
            raise ImageProblem("missing_image", relative) from error
    return read_file(safe_path(root, relative), relative)


def read_file(path: Path, name: str | None = None) -> bytes:
    """The bytes of a file; ImageProblem, with its name, where it is none that can be read."""
    name = name or str(path)
    try:
        _must_be_file(path, name)
        _must_be_small(path.stat().st_size, name)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageProblem("missing_image", name) from error
    except (OSError, ValueError) as error:
        raise ImageProblem("undecodable_image", f"{name}: {getattr(error, 'strerror', None) or error}") from error


def _must_be_small(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise ImageProblem("undecodable_image", f"{name}: over {MAX_BYTES >> 20} MiB")


def _must_be_file(path: Path, relative: str) -> None:
    """ImageProblem for what is there and no regular file, such as a pipe, of which a read would wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageProblem("undecodable_image", f"{relative}: not a regular file")


def from_base64(text: str) -> bytes:
    """The bytes of a file sent as base64, with line breaks (MIME, RFC 2045) or as a data URL too; ValueError."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError("a data URL without base64")
    return base64.b64decode("".join(text.split()), validate=True)


def open_header(data: bytes | Path, max_pixels: int) -> Image.Image:
    """The image with its header read and its size checked, pixels not yet decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)
    except FileNotFoundError as error:
        raise ImageProblem("missing_image", str(data)) from error
    except UnidentifiedImageError as error:
        raise ImageProblem("undecodable_image", f"not a picture of a known kind ({', '.join(FORMATS)})") from error
    except Exception as error:
        raise ImageProblem("undecodable_image", _short(error)) from error
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height}"
        image.close()
        raise ImageProblem("decompression_bomb", f"{size} is over max_pixels {max_pixels}")
    return image


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """The first frame as RGB, turned upright by its EXIF; transparency is laid on white."""
    image = open_header(data, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _rgb(upright)
    except ImageProblem:
        raise
    except Exception as error:
        raise ImageProblem("undecodable_image", _short(error)) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey(np.asarray(image))).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> np.ndarray:
    """Grey values of more than eight bits, or with a point, as 0 to 255.

    16-bit values by their range; values from 0 to 1 and those from 0 to 255 as they are meant; others by the
    range that they have, as viewers do.
    """
    found = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(found.min()), float(found.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        found = found * 255
    elif values.dtype.kind == "f" and low >= 0 and high <= 255:
        pass
    elif low >= 0 and high <= 65535:
        found = found / 257
    elif high > low:
        found = (found - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(found), 0, 255), dtype=np.uint8)


class Packed(NamedTuple):
    """A packed image: its file bytes, and the RGB picture that they decode to."""

    data: bytes
    image: Image.Image


def pack(data: bytes, *, longest: int, max_pixels: int) -> Packed:
    """The image as a JPEG or PNG without metadata whose longer side is at most `longest` pixels.

    A small, plain RGB JPEG or PNG that carries no metadata is passed through byte for byte, so
    that nothing is lost twice. Students see posts through this function in training and in
    inference alike.
    """
    header = open_header(data, max_pixels)
    plain = header.format in ("JPEG", "PNG") and header.mode == "RGB" and max(header.size) <= longest
    if plain and not _has_metadata(header):
        return Packed(data, decode(data, max_pixels))
    if header.format == "JPEG":  # decode at a smaller scale where the size allows it
        header.draft("RGB", (longest, longest))
        try:
            header.load()
            image = _rgb(ImageOps.exif_transpose(header))
        except Exception as error:
            raise ImageProblem("undecodable_image", _short(error)) from error
    else:
        image = decode(data, max_pixels)
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    image.info = {}  # or Pillow would write a comment of the old file into the new one
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return Packed(out.getvalue(), decode(out.getvalue(), max_pixels))


def _has_metadata(image: Image.Image) -> bool:
    harmless = {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "dpi",
        "progressive",
        "progression",
        "gamma",
        "srgb",
    }
    try:
        return bool(set(image.info) - harmless) or bool(image.getexif())  # of a PNG this decodes the picture
    except Exception as error:
        raise ImageProblem("undecodable_image", _short(error)) from error


class Loaded(NamedTuple):
    """The usable images of a post: file bytes, and (code, detail) of those that were lost."""

    data: list[bytes]
    lost: list[tuple[str, str]]


def load(root: Root, paths: list[str], *, limit: int) -> Loaded:
    """Read up to `limit` images of a post; what cannot be read is named in `lost`."""
    return load_many(root, [paths], limit=limit)[0]


def load_many(root: Root, posts: Sequence[list[str]], *, limit: int) -> list[Loaded]:
    """The images of several posts; those in object storage are fetched at the same time."""
    wanted = [path for paths in posts for path in paths[:limit]]
    fetched = iter(root.read_many(wanted) if isinstance(root, Bucket) else [])
    found = []
    for paths in posts:
        loaded = Loaded([], [])
        for path in paths[:limit]:
            try:
                loaded.data.append(_got(next(fetched), path) if isinstance(root, Bucket) else read_bytes(root, path))
            except ImageProblem as problem:
                loaded.lost.append((problem.code, problem.detail))
        found.append(loaded)
    return found


def _got(fetched: bytes | Exception, relative: str) -> bytes:
    if isinstance(fetched, bytes):
        return fetched
    raise fetched if isinstance(fetched, ImageProblem) else ImageProblem("missing_image", relative) from fetched


def content_hash(data: bytes) -> str:
    """SHA-256 of the file's bytes, as hex: two images are the same if and only if this is."""
    return hashlib.sha256(data).hexdigest()


def signature(image: Image.Image) -> str:
    """A 64-bit perceptual hash (pHash, DCT), 16 hex digits; near-duplicates differ in few bits."""
    return str(imagehash.phash(image))


Check = Literal["none", "header", "full"]


class Seen(NamedTuple):
    """An image that was decoded: content hash, perceptual signature, and the RGB picture."""

    hash: str
    signature: str
    picture: Image.Image


def check(root: Root, relative: str, level: Check, max_pixels: int) -> Seen | None:
    """Check one image of a corpus as far as `level` says; ImageProblem when it cannot be used.

    Only under `full` is it decoded and returned. Under `none` only its existence is checked.
    """
    if level == "full":
        data = read_bytes(root, relative)
        picture = decode(data, max_pixels)
        return Seen(content_hash(data), signature(picture), picture)
    if isinstance(root, Bucket):
        _check_stored(root, relative, level, max_pixels)
        return None
    path = safe_path(root, relative)
    if level == "header":
        try:
            _must_be_file(path, relative)
            open_header(path, max_pixels).close()
        except ImageProblem as problem:
            raise ImageProblem(
                problem.code,
                f"{relative}: {problem.detail.removeprefix(f'{relative}: ').replace(str(path), '')}".strip(": "),
            ) from None
        except FileNotFoundError as error:
            raise ImageProblem("missing_image", relative) from error
        except OSError as error:
            raise ImageProblem("undecodable_image", f"{relative}: {error.strerror}") from error
    elif not path.is_file():
        raise ImageProblem("missing_image", relative)
    return None


def _check_stored(root: Bucket, relative: str, level: Check, max_pixels: int) -> None:
    """The same of an image in object storage, of which no more is fetched than its header."""
    try:
        size = root.file(relative).size
        if level == "none":
            return
        if not size:
            raise ImageProblem("undecodable_image", f"{relative}: empty")
        _must_be_small(size, relative)
        try:
            open_header(root.read(relative, min(size, HEADER_BYTES)), max_pixels).close()
        except ImageProblem as problem:
            if problem.code != "undecodable_image" or size <= HEADER_BYTES:
                raise
            open_header(root.read(relative), max_pixels).close()
    except FileNotFoundError as error:
        raise ImageProblem("missing_image", relative) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace("<_io.BytesIO object at 0x", "<bytes ").split(" at 0x")[0][:160]
