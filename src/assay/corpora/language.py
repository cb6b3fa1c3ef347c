"""The language of a caption, where its corpus does not say: py3langid (Lui and Baldwin, 2012; 139 languages)."""

from __future__ import annotations

import re
from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

SURE = 0.5  # below this probability no language is named
UNKNOWN = "und"  # ISO 639: undetermined; `zxx` is text without language, such as numbers
_NOT_WORDS = re.compile(r"https?://\S+|www\.\S+|@[\w.]+")


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)


def detect(text: str) -> str | None:
    """The ISO 639 code of the language of a text, `und` where it is too short to tell; None for no text.

    Links and handles are left out, hashtags count as words.
    """
    if not text:
        return None
    words = _NOT_WORDS.sub(" ", text).replace("#", " ").strip()
    return str(_identifier().classify(words)[0]) if words else UNKNOWN
