"""Text: encodings, normalisation, tags, brands, near-duplicate signatures."""

from __future__ import annotations

import numpy as np
import pytest

from assay import text
from assay.errors import RowError


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("café".encode(), "café"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("情感分析".encode("gb18030"), "情感分析"),
        (b"plain", "plain"),
    ],
    ids=["utf-8", "byte order mark", "gb18030", "ascii"],
)
def test_decode(data: bytes, wanted: str) -> None:
    assert text.decode(data) == wanted


def test_decode_refuses_what_is_neither() -> None:
    with pytest.raises(RowError) as caught:
        text.decode(b"abc \xff\xfe\xff")
    assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("a\x00b\x07c", "abc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("  two\t spaces\u00a0here  ", "two spaces here"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("lone \ud83d surrogate", "lone surrogate"),
        ("👩\u200d🚀 stays", "👩\u200d🚀 stays"),
    ],
    ids=["NFC", "controls", "line ends", "blanks", "zero width", "surrogate", "joined emoji"],
)
def test_normalise(raw: str, wanted: str) -> None:
    assert text.normalise(raw) == wanted


def test_hashtags_and_mentions() -> None:
    body = "Hi @Ann.Lee, mail me@x.org #Sale #sale #2024 ##x #été_9 a#b @ann.lee. ＃日本"
    assert text.hashtags(body) == ["sale", "x", "été_9", "日本"]
    assert text.mentions(body) == ["ann.lee"]


def test_brands_are_found_by_tag_handle_and_word() -> None:
    rules = {
        "Bee": (["#BeeHome"], [], ["bee", "Bee & Sons"]),
        "Ant": ([], ["@ant.official"], []),
        "Gap": ([], [], ["=Gap"]),
        "Zoë": ([], [], ["zoë"]),
    }
    index = text.BrandIndex.build(rules)
    assert index.find(["beehome", "x"], ["ant.official"]) == ["Ant", "Bee"]
    assert index.find(["bee"], ["ant"]) == []
    for said in ("my new Bee shoes", "BEE!", "the bee's knees", "two Bees", "at Bee & Sons", "(bee)", "bee"):
        assert index.find([], [], said) == ["Bee"], said
    for said in ("been there", "frisbee", "@bee", "#bee", "www.bee.com", "mind the gap", "GAP", ""):
        assert index.find([], [], said) == [], said
    assert index.find([], [], "shirts of Gap, Gap's sale") == ["Gap"]
    assert index.find([], [], "ZOË und Bee") == ["Bee", "Zoë"]


def test_signatures_agree_as_often_as_texts_are_similar() -> None:
    words = [f"word{i}" for i in range(400)]
    rng = np.random.default_rng(0)
    agreed, wanted = [], []
    for _ in range(150):
        a = list(rng.choice(words, 40))
        b = a[:30] + list(rng.choice(words, 10))
        one, two = (np.frombuffer(text.signature(" ".join(part)) or b"", "<u4") for part in (a, b))
        agreed.append(float(np.mean(one == two)))
        wanted.append(text.similarity(text.shingles(" ".join(a)), text.shingles(" ".join(b))))
    assert abs(np.mean(agreed) - np.mean(wanted)) < 0.04
    assert text.signature("!!! 👟") is None


def test_signature_ignores_case_and_addresses() -> None:
    assert text.signature("Good DAY https://t.co/abc") == text.signature("good day https://t.co/xyz")
