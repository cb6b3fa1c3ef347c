"""What ingest finds out by itself: the language of a caption, the colours of pictures; and the table of colours."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assay import colours
from assay.config import ClassesTarget, Columns, LabelsTarget, Sample, ScoreTarget
from assay.corpora.ingest import ingest
from assay.corpora.language import detect
from assay.corpora.mapper import Rules
from assay.corpora.table import Table
from assay.measure import palette
from assay.measure.estimator import Estimator
from assay.measure.palette import Pictures, colour_table, pictures_of
from assay.posts import read
from assay.sampling import write_sample
from tests.estimators import estimator

TEXTS = {
    "de": "Heute war ein schöner Tag mit Freunden am See",
    "fr": "Je suis très content de mon nouveau sac",
    "ja": "今日はいい天気ですね",
    "en": "RT @someone: this is the best day of the whole year #grateful http://example.org/x",
    "und": "lol",
}


@pytest.mark.parametrize("language", TEXTS)
def test_languages(language: str) -> None:
    assert detect(TEXTS[language]) == language


@pytest.mark.parametrize(("text", "language"), [("", None), ("@a http://b.c", "und"), ("#", "und"), ("😍" * 50, "und")])
def test_texts_without_words(text: str, language: str | None) -> None:
    assert detect(text) in (language, "zxx")


def picture(tone: tuple[int, int, int], side: int = 40) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), tone).save(out, "PNG")
    return out.getvalue()


def table(folder: Path, rows: str, rules: Rules, **columns: Any) -> list[dict[str, Any]]:
    (folder / "t.csv").write_text(rows)
    layout = Table(folder / "t.csv", None, Columns(**columns))
    ingest(layout, rules, posts=folder / "p", problems=folder / "q.parquet")
    return read(folder / "p").to_pylist()


def test_the_corpus_own_word_goes_before_detection(tmp_path: Path) -> None:
    rows = f"id,text,lang\n1,{TEXTS['de']},en\n2,{TEXTS['fr']},\n3,lol,\n"
    (tmp_path / "x.png").write_bytes(picture((1, 2, 3)))
    rows += "4,,\n"
    posts = table(tmp_path, rows.replace("4,,", "4, ,"), Rules("t", b"k"), language="lang", image=None)
    assert [(post["language"], post["language_from"]) for post in posts] == [
        ("en", "corpus"),
        ("fr", "detected"),
        ("und", "detected"),
    ]
    off = Rules("t", b"k", detect_language=False)
    assert {post["language"] for post in table(tmp_path, rows, off, language="lang", image=None)} == {"en", None}


def test_colours_of_a_picture() -> None:
    found = colours.of_picture(Image.new("RGB", (10, 600), (200, 50, 100)))
    assert (found.red, found.green, found.blue, found.red_to_blue) == (200, 50, 100, 2)
    assert found.brightness == pytest.approx(200 / 255, abs=1e-3)
    assert found.saturation == pytest.approx(150 / 200, abs=3e-3)
    assert colours.of_picture(Image.new("RGB", (5, 5), (9, 9, 0))).red_to_blue is None
    noise = np.random.default_rng(1).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    assert colours.of_picture(Image.fromarray(noise)).green == pytest.approx(noise[..., 1].mean(), abs=0.3)
    both = colours.of_post([found, colours.of_picture(Image.new("RGB", (2, 2), (0, 50, 300 - 100)))])
    assert both is not None
    assert (both.red, both.blue, both.red_to_blue) == (100, 150, pytest.approx(0.6667))
    assert colours.of_post([]) is None


def test_ingest_and_sample_keep_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture((200, 50, 100)))
    (tmp_path / "b.png").write_bytes(picture((0, 50, 100)))
    (tmp_path / "bad.png").write_bytes(picture((0, 50, 100))[:60])
    rows = 'id,text,image\n1,x,a.png\n2,x,"[""a.png"", ""b.png""]"\n3,x,\n4,x,bad.png\n'
    full = table(tmp_path, rows, Rules("t", b"k", "full"))
    assert [post["colours"] and post["colours"]["red"] for post in full] == [200, 100, None, None]
    assert full[1]["colours"]["red_to_blue"] == 1
    assert [post["colours"] for post in table(tmp_path, rows, Rules("t", b"k", "header"))] == [None] * 4
    drawn = Sample(design="all", image_px=64)
    write_sample(tmp_path / "p", tmp_path, tmp_path / "s", settings=drawn, max_pixels=10_000)
    rows_of = {row["post_id"]: row["colours"] for row in read(tmp_path / "s", ["post_id", "colours"]).to_pylist()}
    assert [rows_of[i] and rows_of[i]["red"] for i in "1234"] == [200, 100, None, None]


def tone(red: float, blue: float = 100.0) -> dict[str, Any]:
    return colours.Colours(red, 0.0, blue, red / blue if blue else None, 0.5, 0.25)._asdict()


def of_corpus(est: Estimator, brands: list[list[str]], known: list[Any]) -> Pictures:
    ids = [str(i) for i in range(len(known))]
    posts = pa.table({"post_id": ids, "brands": brands, "colours": pa.array(known, colours.TYPE)})
    return Pictures(posts, np.ones(len(known)), "corpus")


def test_the_table_by_brand_and_band() -> None:
    """All is labelled, so that all is known; students are off, which does not matter then."""
    target = ScoreTarget(kind="score", bands=[5.0], band_names=["low", "high"])
    labels = [1.0, 9.0, 8.0, 2.0, 2.0, 3.0]
    brands = [["A"], ["A", "B"], [], ["B"], [], []]
    known = [tone(10), tone(20), tone(60), tone(90, 0.0), None, tone(30)]
    est = estimator([9.0, 9.0, 1.0, 2.0, 2.0, 7.0], labels, target)
    table = colour_table(est, of_corpus(est, brands, known), min_posts=1)
    rows = {(row["by"], row["name"]): row for row in table}
    assert list(rows) == [("all", "all"), ("brand", "A"), ("brand", "B"), ("band", "low"), ("band", "high")]
    assert rows["all", "all"]["red"] == pytest.approx((10 + 20 + 60 + 90 + 30) / 5)
    assert rows["all", "all"]["red_to_blue"] == pytest.approx(0.3), "of posts that have one"
    assert rows["brand", "A"]["red"] == rows["brand", "A"]["red_low"] == rows["brand", "A"]["red_high"] == 15
    assert rows["brand", "B"]["red"] == pytest.approx(55)
    assert rows["band", "low"]["red"] == pytest.approx((10 + 90 + 30) / 3, abs=0.01)
    assert rows["band", "high"]["red"] == rows["band", "high"]["red_low"] == 40
    assert rows["band", "low"]["posts_with_pictures"] == 2  # as predicted
    few = colour_table(est, of_corpus(est, brands, known), min_posts=3)
    assert [row["too_few"] for row in few] == [False, True, True, True, False]
    assert few[1]["red"] is None


@pytest.mark.parametrize("source", ["corpus", "sample"])
def test_colours_of_a_band_hold(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that is wrong about dark posts; 150 of 900 labelled: the truth is that of the labels."""
    monkeypatch.setattr(palette, "FIGURES", ("red",))
    rng = np.random.default_rng(0)
    red = rng.uniform(0, 255, 900)
    yes = rng.random(900) < 0.2 + 0.5 * red / 255
    said = np.where(red < 80, ~yes, yes)
    truth, held, naive = red[yes].mean(), [], []
    target = ClassesTarget(kind="classes", names=["yes", "no"])
    for _ in range(60):
        drawn = rng.permutation(900) < 150
        labels = [("yes" if y else "no") if d else None for y, d in zip(yes, drawn, strict=True)]
        est = estimator(["yes" if one else "no" for one in said], labels, target, p=1 / 6)
        kept = np.flatnonzero(drawn) if source == "sample" else np.arange(900)
        ids = [str(i) for i in kept]
        toned = pa.array([tone(float(red[i])) for i in kept], colours.TYPE)
        posts = pa.table({"post_id": ids, "brands": pa.array([[]] * len(ids), pa.list_(pa.string())), "colours": toned})
        weights = np.full(len(ids), 6.0 if source == "sample" else 1.0)
        rows = colour_table(est, Pictures(posts, weights, source), min_posts=1)
        row = next(row for row in rows if row["name"] == "yes")
        held.append(row["red_low"] <= truth <= row["red_high"])
        naive.append(abs(red[said].mean() - truth) < (row["red_high"] - row["red_low"]) / 2)
        whole = rows[0]
        assert (whole["red_low"] == whole["red_high"]) == (source == "corpus")
    assert np.mean(held) >= 0.88
    if source == "corpus":
        assert np.mean(naive) < 0.2


def test_the_table_of_classes_labels_and_posts_like_these() -> None:
    classes = ClassesTarget(kind="classes", names=["a", "b"])
    said = ["a", "b"] * 10
    est = estimator(said, said, classes, target="posts_like_these", author=[f"u{i}" for i in range(20)])
    rows = colour_table(est, of_corpus(est, [[]] * 20, [tone(1), tone(3)] * 10), min_posts=1)
    assert [(row["by"], row["name"], row["red"]) for row in rows[1:]] == [("class", "a", 1), ("class", "b", 3)]
    assert rows[0]["red_low"] < 2 < rows[0]["red_high"]
    labels = LabelsTarget(kind="labels", names=["a", "b"])
    both: list[list[str]] = [["a", "b"], []] * 10
    est = estimator(both, both, labels)
    rows = colour_table(est, of_corpus(est, [[]] * 20, [tone(1), tone(3)] * 10), min_posts=1)
    assert [(row["by"], row["name"], row["red"]) for row in rows[1:]] == [("label", "a", 1), ("label", "b", 1)]


def test_without_decoded_pictures_the_sample_is_asked(tmp_path: Path) -> None:
    for name, red in (("a", 200), ("b", 100)):
        (tmp_path / f"{name}.png").write_bytes(picture((red, 50, 100)))
    rows = "id,text,image\n1,x,a.png\n2,x,b.png\n3,x,\n"
    posts = table(tmp_path, rows, Rules("t", b"k", "header"))
    settings = Sample(design="all", image_px=64)
    write_sample(tmp_path / "p", tmp_path, tmp_path / "s", settings=settings, max_pixels=10_000)
    ids = [post["post_id"] for post in posts]
    there = pa.table(
        {"post_id": ids, "brands": [["A"]] * 3, "colours": pa.array([p["colours"] for p in posts], colours.TYPE)}
    )
    pictures = pictures_of(there, tmp_path / "s")
    est = estimator([1.0] * 3, [1.0] * 3, ScoreTarget(kind="score"))
    found = colour_table(est, pictures, min_posts=1)
    assert found[0]["from"] == "sample"
    assert (found[0]["posts_with_pictures"], found[0]["red"]) == (2, 150)
