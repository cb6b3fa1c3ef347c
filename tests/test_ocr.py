"""What is written in pictures is read, kept, and stands behind a post's text; in training and inference alike."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from assay import images
from assay.config import ClassesTarget, Student, TextBranch
from assay.encode import ocr
from assay.encode.extract import Extractor, PostInputs
from assay.encode.features import dims_of
from assay.errors import EncoderError
from assay.scoring.explain import explain
from assay.scoring.predict import Predictor
from assay.student.model import StudentModel
from assay.student.trained import Trained
from tests.conftest import picture

pytest.importorskip("rapidocr")
READS = Student(text=TextBranch(encoder="packaged/minilm-l6", ocr=True))


def written(*lines: str, width: int = 640) -> bytes:
    """A picture with lines of large print on a colour."""
    image = Image.new("RGB", (width, 120 * len(lines)), (230, 220, 190))
    pen = ImageDraw.Draw(image)
    for at, line in enumerate(lines):
        pen.text((20, 120 * at + 30), line, fill=(20, 20, 60), font=ImageFont.load_default(48))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def post(text: str, *pictures: bytes) -> PostInputs:
    return PostInputs(text, [(images.content_hash(one), one) for one in pictures])


@pytest.fixture(scope="module")
def reader() -> ocr.Reader:
    return ocr.Reader()


def test_lines_are_read_from_top_to_bottom(reader: ocr.Reader) -> None:
    shown = Image.open(io.BytesIO(written("NOBODY TOLD ME", "about the bridge"))).convert("RGB")
    assert reader.read(shown).lower().splitlines() == ["nobody told me", "about the bridge"]
    assert reader.read(Image.new("RGB", (300, 200), (90, 120, 30))) == ""


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (640, 9), (12, 640), (640, 640)])
def test_thin_pictures_are_not_enlarged_beyond_measure(reader: ocr.Reader, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    shown = ocr.bordered(Image.fromarray(noise))
    assert max(shown.size) == max(size)
    assert max(shown.size) <= ocr.THINNEST * min(shown.size)
    assert len(reader.read(Image.fromarray(noise))) < 20  # of the longest of these RapidOCR alone made 144 s


def test_a_banner_is_read(reader: ocr.Reader) -> None:
    banner = Image.open(io.BytesIO(written("NOBODY TOLD ME ABOUT THE BRIDGE", width=1000))).convert("RGB")
    assert reader.read(banner.resize((640, 77))).lower() == "nobody told me about the bridge"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((), ""),
        (("  a \t b ", "", "\u3000"), "a b"),
        (("Cafe\u0301",), "Caf\u00e9"),
        (("x" * 3000,), "x" * ocr.LONGEST),
    ],
    ids=["nothing", "spaces", "composed", "too long"],
)
def test_lines_become_a_text(lines: tuple[str, ...], text: str) -> None:
    assert ocr.lines_of(lines) == text


def test_words_of_pictures_stand_behind_the_text_and_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign, plain = written("NOBODY TOLD ME"), picture()
    posts = [post("look", sign, plain), post("", sign), post("", plain), post("a day"), post("", b"no picture")]
    found, lost = Extractor(READS, image_px=640)(posts)
    words = [one.lower() for one in found.words]
    assert words == ["look\nnobody told me", "nobody told me", "", "a day", ""]
    assert found.has_text.tolist() == [True, True, False, True, False]
    assert [[code for code, _ in one] for one in lost] == [[], [], [], [], ["undecodable_image"]]
    blind, _ = Extractor(Student(text=TextBranch(encoder="packaged/minilm-l6")), image_px=640)(posts)
    assert blind.has_text.tolist() == [True, False, False, True, False]
    assert np.array_equal(blind.text[3], found.text[3])
    assert not np.array_equal(blind.text[0], found.text[0])

    def unasked(*_: object) -> str:
        raise AssertionError("what was read is kept")

    monkeypatch.setattr(ocr.Reader, "read", unasked)
    again, _ = Extractor(READS, image_px=640)(posts[:4])
    assert again.words == found.words[:4]
    assert np.array_equal(again.text, found.text[:4])
    with pytest.raises(AssertionError, match="is kept"):
        Extractor(READS, image_px=320)(posts[:1])  # other pixels may say something else


def test_what_is_explained_is_what_was_read(tmp_path: Path) -> None:
    facts = Extractor(READS, image_px=640).facts
    target = ClassesTarget(kind="classes", names=["a", "b"])
    made = StudentModel(READS, {"t": target}, *dims_of(facts))
    trained = Trained(made, "t", READS, {"t": target}, facts, {"image_px": 640, "max_images": 1}, {}, {}, {})
    trained.save(tmp_path, "card")
    found = explain(Predictor.load(tmp_path), text="look", image=written("NOBODY TOLD ME"), steps=8)
    assert [word.lower() for word, _ in found.words] == ["look", "nobody", "told", "me"]


def test_models_that_are_not_those_known_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = ocr.MODELS["Det"]
    monkeypatch.setitem(ocr.MODELS, "Det", (name, "0" * 64))
    with pytest.raises(EncoderError, match=r"sha256 .* is not the expected 0000"):
        ocr.Reader()
    monkeypatch.setitem(ocr.MODELS, "Det", ("another.onnx", "0" * 64))
    with pytest.raises(EncoderError, match=r"this rapidocr has no another\.onnx; install that of constraints"):
        ocr.Reader()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(EncoderError, match=r"text\.ocr needs rapidocr: pip install -e '.*\[ocr\]'"):
        ocr.Reader()


def test_an_encoder_that_learns_cannot_be_given_what_is_read() -> None:
    with pytest.raises(ValueError, match="ocr is for a text encoder that does not learn"):
        TextBranch(encoder="packaged/minilm-l6", frozen=False, ocr=True)
