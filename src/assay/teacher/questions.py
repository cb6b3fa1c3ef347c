"""From a sampled post to the question that is sent, and to the keys under which its answers are kept."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from assay.config import Annotate, Masked, Teacher
from assay.posts import stream
from assay.teacher.client import sampling_key
from assay.teacher.privacy import clean_image, mask
from assay.teacher.rubric import Rubric
from assay.teacher.structure import Part, Question
from assay.teacher.together import as_asked

BATCH = 128
REPEAT = "repeat"


@dataclass(frozen=True)
class Keys:
    """The keys of one post: its votes (one, mostly), the second asking, and that of another teacher."""

    votes: tuple[str, ...]
    repeat: str | None = None
    second: str | None = None

    def turns(self) -> dict[str, str]:
        """The keys of the own teacher by the turn that each stands for, see Brief.key."""
        turns = {_vote(number): key for number, key in enumerate(self.votes)}
        return turns | ({REPEAT: self.repeat} if self.repeat else {})

    def all(self) -> list[str]:
        """Every key of the post, those of votes first."""
        return [*self.votes, *(key for key in (self.repeat, self.second) if key)]


@lru_cache(maxsize=10_000)
def _masked(text: str, kinds: tuple[Masked, ...], keep: tuple[str, ...], regions: tuple[str, ...]) -> str:
    """A text is masked once for its key and its question."""
    return mask(text, kinds, keep=keep, regions=regions)


@dataclass(frozen=True)
class Brief:
    """What turns posts into questions: rubric, settings, and the handles that stay in texts."""

    rubric: Rubric
    settings: Annotate
    keep_handles: Sequence[str] = ()

    def text(self, row: dict[str, Any]) -> str:
        """The caption as it is sent, without personal data."""
        settings = self.settings
        return _masked(row["text"], tuple(settings.mask), tuple(self.keep_handles), tuple(settings.phone_regions))

    def question(self, row: dict[str, Any]) -> Question:
        """The question of a post, ready to be sent."""
        return Question(
            self.rubric.system(),
            self.rubric.user(self.text(row), len(row["images"])),
            tuple(clean_image(image, self.settings.image_px) for image in row["images"]),
            self.rubric.schema(),
            self.rubric.target,
        )

    def digest(self, row: dict[str, Any]) -> str | None:
        """SHA-256 of the question, whoever is asked; None for a post with neither text nor image.

        Images count with the bytes of the sample, so that another image library pays for nothing again.
        """
        if not row["text"] and not row["images"]:
            return None
        text = self.text(row)
        parts = {
            "system": self.rubric.system(),
            "user": self.rubric.user(text, len(row["images"])),
            "text": text,
            "images": [hashlib.sha256(image).hexdigest() for image in row["images"]],
            "image_px": self.settings.image_px,
            "schema": self.rubric.schema(),
        }
        return _sha(parts)

    def keys(self, row: dict[str, Any], digest: str) -> Keys:
        """All keys under which answers to this post are kept."""
        settings = self.settings
        repeated = settings.repeat > 0 and _share(row["post_id"]) < settings.repeat
        return Keys(
            tuple(self.key(digest, settings.teacher, _vote(i)) for i in range(settings.votes)),
            self.key(digest, settings.teacher, REPEAT) if repeated else None,
            self.key(digest, settings.second_teacher, "") if repeated and settings.second_teacher else None,
        )

    def key(self, digest: str, teacher: Teacher, turn: str) -> str:
        """SHA-256 over all that decides an answer: question, model, sampling, and which time it is asked."""
        version = demo_version() if teacher.base_url == "demo" else ""
        parts = {"question": digest, "model": teacher.model + version, "sampling": sampling_key(teacher), "turn": turn}
        if self.settings.distribution == "typed":
            parts["typed"] = "systemone"
        return _sha(parts)


def rows(sample: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of the sample, a few at a time in memory."""
    for batch in stream(sample, columns, BATCH):
        yield from batch


def all_keys(sample: Path, brief: Brief) -> tuple[dict[str, Keys | None], dict[str, str]]:
    """The keys of each post (None: it has neither text nor image), and the question digest of each key."""
    found: dict[str, Keys | None] = {}
    digests: dict[str, str] = {}
    for row in rows(sample, ["post_id", "text", "images"]):
        digest = brief.digest(row)
        if digest is None:
            found[row["post_id"]] = None
            continue
        keys = found[row["post_id"]] = brief.keys(row, digest)
        for key in keys.all():
            digests[key] = digest
    return found, digests


class Company:
    """The tasks that are asked about the same posts in the same call (annotate.ask_with).

    Each answer stands under the key that its own task looks for, so that the task finds it in the store.
    """

    def __init__(
        self,
        task: str,
        askers: Mapping[str, Brief],
        known: Callable[[Iterable[str]], set[str]],
        turn: str | None = None,
    ) -> None:
        """`task` asks, `askers` are those of the others by name; `known`: which of some keys the store has.

        `turn`: the turn that the others' answers stand for (see Brief.key); default: that of each question.
        """
        self.task, self.askers, self._known, self._turn = task, askers, known, turn
        self._taken: set[str] = set()
        self.asked: Counter[str] = Counter()

    def with_others(
        self, brief: Brief, question: Question, row: dict[str, Any], key: str, digest: str, turn: str
    ) -> Question:
        """The question with those of the other tasks that have no answer yet; itself where there is none."""
        parts = [Part(self.task, key, digest, brief.rubric)]
        self._taken.add(key if self._turn is None else brief.key(digest, brief.settings.teacher, self._turn))
        for name, other in self.askers.items():
            own = other.digest(row)
            wanted = self._key(other, row, own, turn) if own else None
            if own and wanted and wanted not in self._taken and not self._known([wanted]):
                self._taken.add(wanted)
                self.asked[name] += 1
                parts.append(Part(name, wanted, own, other.rubric))
        return as_asked(question, parts) if len(parts) > 1 else question

    def _key(self, other: Brief, row: dict[str, Any], digest: str, turn: str) -> str | None:
        if self._turn is not None:
            return other.key(digest, other.settings.teacher, self._turn)
        return other.keys(row, digest).turns().get(turn)


def questions(
    sample: Path,
    brief: Brief,
    keys: dict[str, Keys | None],
    digests: dict[str, str],
    missing: set[str],
    company: Company | None = None,
) -> Iterator[tuple[str, str, Question]]:
    """The missing questions, one a key, read from the sample as they are needed; those of `company` with them."""
    todo = set(missing)
    for row in rows(sample, ["post_id", "text", "images"]):
        own = keys[row["post_id"]]
        turns = {key: turn for turn, key in own.turns().items()} if own else {}
        for key in each([own]):
            if key in todo:
                todo.discard(key)
                question = brief.question(row)
                if company is not None and key in turns:
                    question = company.with_others(brief, question, row, key, digests[key], turns[key])
                yield key, digests[key], question


def each(keys: Iterable[Keys | None]) -> Iterator[str]:
    """Every key of several posts."""
    for one in keys:
        if one:
            yield from one.all()


def _vote(number: int) -> str:
    return f"vote {number}" if number else ""


def _share(post_id: str) -> float:
    """A fixed number from 0 to 1 for each post, so that a larger share asks the old ones and some more."""
    return int.from_bytes(hashlib.blake2b(b"repeat\0" + post_id.encode(), digest_size=8).digest(), "big") / 2**64


def _sha(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def demo_version() -> str:
    """A digest of the demo teacher's rules: other rules are another model."""
    import assay.corpora.demo

    files = [Path(__file__).with_name("demo.py"), *sorted(Path(str(assay.corpora.demo.__file__)).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
