"""Text of posts: decode, normalise, find hashtags, mentions and brands, sign for near-duplicates."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from assay.errors import RowError

PERMUTATIONS = 16
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffe\uffff]")
_SPACES = re.compile(r"[ \t\xa0]+")
_HASHTAG = re.compile(r"(?<![\w&/])[#＃](\w*[^\W\d_]\w*)")
_MENTION = re.compile(r"(?<![\w@.])@(\w(?:[\w.]{0,28}\w)?)")
_WORD = re.compile(r"\w+")
_ADDRESS = re.compile(r"https?://\S+")
_HALF = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_ASCII = re.compile(r"[ -~\n]*")


def decode(data: bytes) -> str:
    """The text of `data`, as UTF-8 if it is that, else as GB18030; RowError `bad_encoding` if neither."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            last = error
    raise RowError("bad_encoding", f"neither UTF-8 nor GB18030 (byte {last.start} of {len(data)})")


def load_json(data: bytes | str) -> Any:
    """The value of a JSON text, also with half characters (lone surrogates), which many writers leave in.

    ValueError for all else that is not JSON (RFC 8259: no NaN, no Infinity) or is nested too deep to be read.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        found = data if isinstance(data, str) else data.decode("utf-8", "replace")
        if not _HALF.search(found):
            raise ValueError(str(error).split(":")[0]) from None
    try:
        return json.loads(found, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def normalise(text: str) -> str:
    """NFC, line ends as \\n, controls and lone surrogates removed, runs of blanks folded, stripped."""
    if not _ASCII.fullmatch(text):
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
        text = _CONTROLS.sub("", text.encode("utf-8", "ignore").decode("utf-8"))
    return _SPACES.sub(" ", text).strip()


def hashtags(text: str) -> list[str]:
    """The hashtags, lower-cased and without #, each once, in order."""
    return list(dict.fromkeys(tag.lower() for tag in _HASHTAG.findall(text))) if "#" in text or "＃" in text else []


def mentions(text: str) -> list[str]:
    """The handles that the text mentions, lower-cased and without @, each once, in order."""
    return list(dict.fromkeys(name.lower() for name in _MENTION.findall(text))) if "@" in text else []


class BrandIndex(NamedTuple):
    """Which hashtag, which handle and which words stand for which brand."""

    by_tag: Mapping[str, str]
    by_handle: Mapping[str, str]
    by_words: Mapping[str, str]
    words: re.Pattern[str] | None

    @classmethod
    def build(cls, brands: Mapping[str, tuple[list[str], list[str], list[str]]]) -> BrandIndex:
        """From brand -> (hashtags, handles, words), the first two written with or without # and @.

        Words count whole and in any case, also with an apostrophe or a plural s behind them; a word behind a `=`
        counts in that spelling alone, for brands that are common words too (`=Apple`, `=Gap`).
        """
        by_tag = {tag.lstrip("#").lower(): name for name, (tags, _, _) in brands.items() for tag in tags}
        by_handle = {h.lstrip("@").lower(): name for name, (_, handles, _) in brands.items() for h in handles}
        by_words = {_folded(word): name for name, (_, _, words) in brands.items() for word in words if word.strip("= ")}
        forms = sorted(by_words, key=len, reverse=True)
        parts = [re.escape(form[1:]) if form.startswith("=") else f"(?i:{re.escape(form)})" for form in forms]
        found = re.compile(rf"(?<![\w@#.])({'|'.join(parts)})(?:['’]?s)?(?!\w)") if parts else None
        return cls(by_tag, by_handle, by_words, found)

    def find(self, tags: list[str], handles: list[str], text: str = "") -> list[str]:
        """The brands among these hashtags and handles and in the words of the text, sorted, each once."""
        found = {self.by_tag[tag] for tag in tags if tag in self.by_tag}
        found |= {self.by_handle[handle] for handle in handles if handle in self.by_handle}
        if self.words is not None and text:
            for match in self.words.finditer(text):
                word = match[1]
                name = self.by_words.get(f"={word}") or self.by_words.get(word.lower())
                found |= {name} if name else set()
        return sorted(found)


def _folded(word: str) -> str:
    """A word as it is looked up: as spelt behind a `=`, else in small letters."""
    word = " ".join(word.split())
    return f"={word[1:].strip()}" if word.startswith("=") else word.lower()


def shingles(text: str) -> set[str]:
    """Words and word pairs of the text, lower-cased, web addresses left out: what near-duplicates share."""
    words = _words(text)
    return set(words) | {f"{a} {b}" for a, b in itertools.pairwise(words)}


def _words(text: str) -> list[str]:
    low = text.lower()
    return _WORD.findall(_ADDRESS.sub(" ", low) if "://" in low else low)


def similarity(a: set[str], b: set[str]) -> float:
    """Jaccard similarity of two shingle sets, 0 to 1."""
    return len(a & b) / len(a | b) if a or b else 0.0


_DRAWN = np.random.default_rng(1).integers(1, 2**63, (2, 1, PERMUTATIONS), dtype=np.uint64)
_MULTIPLIERS, _OFFSETS = _DRAWN | np.uint64(1)
_PAIR, _MASK = np.uint64(0x9E3779B1), np.uint64(2**32 - 1)


def signature(text: str) -> bytes | None:
    """A MinHash of the shingles (16 little-endian 32-bit minima), or None where there are no words.

    Broder (1997), with multiply-shift hashing (Dietzfelbinger et al. 1997) of the words' CRC-32 values. Two
    texts of Jaccard similarity J agree in each minimum with probability about J; assay.splits finds
    candidates by pairs of minima and checks them on the text itself.
    """
    words = _words(text)
    if not words:
        return None
    ones = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    pairs = (ones[:-1] * _PAIR + ones[1:]) & _MASK
    hashes = np.concatenate([ones, pairs])[:, None]
    minima = ((hashes * _MULTIPLIERS + _OFFSETS) >> np.uint64(32)).min(axis=0)
    return bytes(minima.astype("<u4").tobytes())
