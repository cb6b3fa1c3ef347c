"""Images: every odd file is either read or refused with a code, and what leaves carries no metadata."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from assay import images
from assay.errors import ImageProblem
from tests.conftest import picture

BIG = 50_000_000


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        picture((200,), mode="L", kind="PNG"),
        picture((200, 10), mode="LA", kind="PNG"),
        picture((10, 20, 30, 0), mode="RGBA", kind="PNG"),
        picture((7,), mode="P", kind="PNG"),
        picture((0, 0, 0, 0), mode="CMYK", kind="JPEG"),
        picture((1,), mode="1", kind="PNG"),
        picture((40_000,), mode="I;16", kind="PNG"),
        picture(kind="WEBP"),
        picture(kind="GIF"),
        picture(kind="BMP"),
    ],
    ids=["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "webp", "gif", "bmp"],
)
def test_every_mode_becomes_rgb(data: bytes) -> None:
    image = images.decode(data, BIG)
    assert image.mode == "RGB"
    assert image.size == (64, 48)
    packed = opened(images.pack(data, longest=32, max_pixels=BIG).data)
    assert packed.mode == "RGB"
    assert packed.size == (32, 24)


def test_transparent_is_white_not_black() -> None:
    assert images.decode(picture((0, 0, 0, 0), mode="RGBA", kind="PNG"), BIG).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "undecodable_image"),
        (b"<html>404</html>", "undecodable_image"),
        (picture()[:200], "undecodable_image"),
        (picture(size=(3000, 3000))[:-900], "undecodable_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "undecodable_image"),
    ],
    ids=["empty", "html", "cut header", "cut body", "svg"],
)
def test_broken_files_have_a_code(data: bytes, code: str) -> None:
    with pytest.raises(ImageProblem) as caught:
        images.decode(data, BIG)
    assert caught.value.code == code
    with pytest.raises(ImageProblem):
        images.pack(data, longest=64, max_pixels=BIG)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageProblem) as caught:
        images.decode(picture(size=(400, 400)), 100_000)
    assert caught.value.code == "decompression_bomb"


def test_pack_strips_metadata_and_turns_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    exif[0x010F] = "SecretCamera"
    data = picture(size=(60, 40), exif=exif, comment=b"SecretComment")
    packed = images.pack(data, longest=256, max_pixels=BIG).data
    assert b"Secret" not in packed
    assert not opened(packed).getexif()
    assert opened(packed).size == (40, 60)


def test_pack_turns_upright_also_when_it_scales() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert opened(images.pack(picture(size=(600, 400), exif=exif), longest=150, max_pixels=BIG).data).size == (100, 150)


def test_pack_passes_small_plain_images_through() -> None:
    data = picture()
    assert images.pack(data, longest=64, max_pixels=BIG).data == data
    once = images.pack(picture(size=(900, 700)), longest=256, max_pixels=BIG)
    again = images.pack(once.data, longest=256, max_pixels=BIG)
    assert again.data == once.data
    assert again.image.tobytes() == once.image.tobytes()


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", "C:/x.jpg", "a\0b.jpg"])
def test_paths_out_of_the_corpus_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ImageProblem) as caught:
        images.safe_path(tmp_path, path)
    assert caught.value.code == "outside_corpus"


def test_links_out_of_the_corpus_are_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "corpus", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "x.jpg").write_bytes(picture())
    (root / "file.jpg").symlink_to(other / "x.jpg")
    (root / "folder").symlink_to(other)
    (root / "real.jpg").write_bytes(picture())
    (root / "inside.jpg").symlink_to(root / "real.jpg")
    for path in ("file.jpg", "folder/x.jpg"):
        with pytest.raises(ImageProblem) as caught:
            images.read_bytes(root, path)
        assert caught.value.code == "outside_corpus"
    assert images.read_bytes(root, "inside.jpg") == picture()


@pytest.mark.parametrize("level", ["none", "header", "full"])
def test_check_levels(level: images.Check, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture())  # a JPEG in a file named .png
    (tmp_path / "cut.jpg").write_bytes(picture(size=(500, 500))[:-400])
    known = images.check(tmp_path, "good.png", level, BIG)
    assert (known is not None) == (level == "full")
    with pytest.raises(ImageProblem, match="missing_image"):
        images.check(tmp_path, "none.jpg", level, BIG)
    if level == "full":
        with pytest.raises(ImageProblem, match="undecodable_image"):
            images.check(tmp_path, "cut.jpg", level, BIG)
    else:
        images.check(tmp_path, "cut.jpg", level, BIG)


def test_signatures_survive_scaling_and_tell_pictures_apart(drawn: Path) -> None:
    files = sorted((drawn / "img_resized_1").glob("*.jpg"))
    distances = []
    for path in files[:20]:
        try:
            image = images.decode(path.read_bytes(), BIG)
        except ImageProblem:
            continue
        again = int(images.signature(image.resize((150, 150))), 16) ^ int(images.signature(image), 16)
        assert again.bit_count() <= 4
        distances.append(int(images.signature(image), 16))
    between = [(a ^ b).bit_count() for i, a in enumerate(distances) for b in distances[:i]]
    assert sorted(between)[len(between) // 2] > 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO"])
def test_every_kind_is_read(kind: str) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (64, 48))]} if kind == "MPO" else {}
    assert images.decode(picture(kind=kind, **more), 10**6).size == (64, 48)


def test_what_is_no_picture_is_told_in_words() -> None:
    with pytest.raises(ImageProblem, match="not a picture of a known kind"):
        images.open_header(b"words", 10**6)
