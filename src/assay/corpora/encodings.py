"""Which encoding a text file is in, from the whole of it: its mark, UTF-8, else what charset-normalizer finds."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from charset_normalizer import from_bytes

from assay.errors import CorpusError

CHUNK = 2**20
LOOKED_AT = 2**18  # bytes outside of ASCII, with their lines, that a guess rests on
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Of guesses that fit as well, the one that more files are in.
LIKELY = ("cp1252", "gb18030", "cp932", "big5", "cp949", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256")
WIDE = {"gb18030", "cp932", "shift_jis", "big5", "cp949", "euc_jp", "euc_kr", "johab", "big5hkscs"}
ASCII = bytes(range(32, 91)) + bytes(range(97, 123))  # some Asian ones have other signs for \\ and ~
ALIKE = 0.065  # of charset-normalizer's measure of mess, for encodings of a byte a character
TWINS = {"gbk": "gb18030", "gb2312": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "latin_1": "cp1252"}


@dataclass(frozen=True)
class Found:
    """The encoding of a file; `fallback` is that of its few lines which are not in it, where there are some."""

    encoding: str
    fallback: str | None = None
    has_quotes: bool = False


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]


def find(path: Path, told: str | None = None) -> Found:
    """The encoding of a file, or the one that is told; CorpusError where it cannot be read at all."""
    try:
        with opened(path) as file:
            return _find(file, told)
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from error


def _find(file: IO[bytes], told: str | None) -> Found:
    head = file.read(4096)
    marked = next((name for mark, name in MARKS if head.startswith(mark)), None) or _without_mark(head)
    quotes, odd, fitting, size = b'"' in head, bytearray(), 0, 0
    rest, part = b"", head
    while part:
        quotes = quotes or b'"' in part
        lines = (rest + part).replace(b"\r", b"\n").split(b"\n")
        rest = lines.pop()
        for line in lines if not marked and told is None else ():
            kind = _fits(line)
            fitting += kind is True
            if kind is False and size < LOOKED_AT:
                odd += line + b"\n"
                size += len(line)
        part = file.read(CHUNK)
    if _fits(rest) is False:
        odd += rest
    if told is not None or marked:
        return Found(told or str(marked), None, quotes or bool(marked and marked.startswith(("utf-16", "utf-32"))))
    if not odd:
        return Found("utf-8", None, quotes)
    guess = guessed(bytes(odd))
    if fitting or guess is None:
        return Found("utf-8", guess, quotes)
    return Found(guess, None, quotes)


def _fits(line: bytes) -> bool | None:
    """Whether a line outside of ASCII is UTF-8; None for one of ASCII alone, which says nothing."""
    if line.isascii():
        return None
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _without_mark(head: bytes) -> str | None:
    """UTF-16 without its mark: nearly every other byte of Western text is zero."""
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        every = head[start::2]
        if len(head) >= 16 and every.count(0) > 0.7 * len(every) and head[1 - start :: 2].count(0) < 0.1 * len(every):
            return name
    return None


def guessed(data: bytes) -> str | None:
    """The likeliest encoding of text that is not UTF-8, None where nothing fits."""
    found = [one for one in from_bytes(data) if not one.encoding.startswith(("utf_", "mac_"))]
    found = [one for one in found if _has_ascii(one.encoding)]
    if not found:
        return None
    best = found[0]
    near = [one for one in found if one.chaos <= best.chaos + (0 if best.encoding in WIDE else ALIKE)]
    near = [one for one in near if one.coherence >= best.coherence - 0.05]
    names = [TWINS.get(one.encoding, one.encoding) for one in near]
    return next((name for name in LIKELY if name in names), names[0])


def _has_ascii(encoding: str) -> bool:
    """Whether plain letters are what they are in ASCII; in EBCDIC they are not."""
    try:
        return ASCII.decode(encoding) == ASCII.decode()
    except (UnicodeDecodeError, LookupError):
        return False


def lines_of(path: Path, found: Found) -> Iterator[str]:
    """The lines of a file, each ending in \\n; bytes that fit nowhere stay as lone surrogates."""
    errors = "surrogateescape" if found.encoding.startswith("utf-8") else "replace"
    with opened(path) as raw, io.TextIOWrapper(raw, encoding=found.encoding, errors=errors, newline=None) as text:
        for line in text:
            shown = line.replace("\0", "")
            if errors == "surrogateescape" and found.fallback and has_escapes(shown):
                with contextlib.suppress(UnicodeDecodeError, LookupError):
                    shown = shown.encode("utf-8", "surrogateescape").decode(found.fallback)
            yield shown


def has_escapes(text: str) -> bool:
    """Whether bytes of the text could not be decoded."""
    return not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text)
