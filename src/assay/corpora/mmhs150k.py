"""MMHS150K: the raw release (`MMHS150K_GT.json`, `img_resized/`, `splits/`), or its table form.

Gold columns: `hateful`, a list of the kinds of hate that any annotator saw (empty where more than one
of them saw none, the data set's own rule), and `majority`, the one code with more than half of the
votes. The table form (`train.csv`, `val.csv`, `test.csv` of text, image_path, labels) has `hateful` alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from assay.config import Mmhs150kCorpus
from assay.corpora.base import Bookkeeping, RawPost, Row
from assay.corpora.sheets import open_sheet
from assay.errors import CorpusError, RowError

GROUND_TRUTH = "MMHS150K_GT.json"
NAMES = ("not_hate", "racist", "sexist", "homophobe", "religion", "otherhate")  # by the annotators' code
SPLITS = ("train", "val", "test")
COLUMNS = ("text", "image_path", "labels")
_ADDRESS = re.compile(r"\s*https?://t\.co/\w+\s*$")


class Mmhs150k(Bookkeeping):
    """The layout of the raw release."""

    gold: tuple[str, ...] = ("hateful", "majority")
    images_are_known = False

    def __init__(self, root: Path, *, ocr: bool) -> None:
        splits = [f"splits/{split}_ids.txt" for split in SPLITS]
        super().__init__(root, [GROUND_TRUTH, *splits], [] if ocr else ["img_txt"])
        self.ocr = ocr
        self.split_of: dict[str, str] = {}
        for split in SPLITS:
            path = root / "splits" / f"{split}_ids.txt"
            ids = path.read_text().split() if path.is_file() else []
            twice = [post_id for post_id in ids if self.split_of.get(post_id, split) != split]
            if twice:
                raise CorpusError(
                    f"{path}: {len(twice)} of {len(ids)} ids stand in {self.split_of[twice[0]]}_ids.txt too; "
                    "the official splits must not overlap, get the files again"
                )
            self.split_of.update(dict.fromkeys(ids, split))

    def rows(self) -> Iterator[Row]:
        """The entries of the ground truth, in its order."""
        try:
            found = orjson.loads((self.root / GROUND_TRUTH).read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise CorpusError(f"{self.root / GROUND_TRUTH}: cannot be read as JSON: {error}") from error
        if not isinstance(found, dict):
            raise CorpusError(f"{self.root / GROUND_TRUTH}: must be an object of tweets by id")
        for post_id, entry in found.items():
            yield Row(f"{GROUND_TRUTH}:{post_id}", (post_id, entry))

    def parse(self, row: Row) -> RawPost:
        """The post of an entry."""
        post_id, entry = row.data
        self.touched.append(f"img_resized/{post_id}.jpg")
        if not isinstance(entry, dict) or not isinstance(entry.get("labels"), list):
            raise RowError("bad_line", "an entry without a list of labels")
        votes = [int(vote) for vote in entry["labels"]]
        if any(not 0 <= vote < len(NAMES) for vote in votes):
            raise RowError("bad_line", f"labels {votes}: codes must be 0 to {len(NAMES) - 1}")
        text = _ADDRESS.sub("", str(entry.get("tweet_text") or ""))
        if self.ocr:
            text = "\n".join(part for part in (text, self._ocr(post_id)) if part)
        return RawPost(
            post_id,
            text=text,
            images=[f"img_resized/{post_id}.jpg"],
            split=self.split_of.get(post_id),
            gold={"hateful": json.dumps(hateful(votes)) if votes else None, "majority": majority(votes)},
        )

    def _ocr(self, post_id: str) -> str:
        """The text in the picture; a missing file means that there is none."""
        self.touched.append(f"img_txt/{post_id}.json")
        try:
            return str(json.loads((self.root / "img_txt" / f"{post_id}.json").read_bytes()).get("img_text") or "")
        except (OSError, ValueError, AttributeError):
            return ""


def hateful(votes: list[int]) -> list[str]:
    """The kinds of hate among the votes, in the order of their codes; none where two or more votes are for none."""
    if votes.count(0) > 1:
        return []
    return [NAMES[code] for code in sorted(set(votes) - {0})]


def majority(votes: list[int]) -> str | None:
    """The name that more than half of the votes are for, or None."""
    code, count = Counter(votes).most_common(1)[0] if votes else (0, 0)
    return NAMES[code] if 2 * count > len(votes) else None


class Mmhs150kTable(Bookkeeping):
    """The layout of the table form: a CSV a split, labels joined by commas, empty for none."""

    gold: tuple[str, ...] = ("hateful",)
    images_are_known = False

    def __init__(self, root: Path) -> None:
        super().__init__(root, [f"{split}.csv" for split in SPLITS])
        self.images = root / "images"
        self.files = [root / f"{split}.csv" for split in SPLITS if (root / f"{split}.csv").is_file()]
        if not self.files:
            raise CorpusError(f"{root}: neither {GROUND_TRUTH} nor {', '.join(f'{s}.csv' for s in SPLITS)} is there")

    def rows(self) -> Iterator[Row]:
        """The rows of all splits."""
        for path in self.files:
            sheet = open_sheet(path, COLUMNS)
            if not set(COLUMNS) <= set(sheet.columns or ()):
                has = ", ".join(sheet.columns or ())
                raise CorpusError(f"{path}: needs the columns {', '.join(COLUMNS)}; it has {has}")
            for number, data, _ in sheet.rows:
                yield Row(f"{path.name}:{number}", data if isinstance(data, RowError) else (path.stem, data))
            self.counts[path.name] = sheet.counts()

    def parse(self, row: Row) -> RawPost:
        """The post of a row."""
        split, data = row.data
        image: Any = data["image_path"]
        if not image:
            raise RowError("no_id", "image_path is empty, and it names the post")
        names = [part.strip().lower() for part in (data["labels"] or "").split(",") if part.strip()]
        unknown = sorted(set(names) - set(NAMES[1:]))
        if unknown:
            raise RowError("bad_line", f"labels {', '.join(unknown)}: allowed: {', '.join(NAMES[1:])}")
        return RawPost(
            Path(image).stem,
            text=data["text"],
            images=[image.removeprefix("images/")],
            split=split,
            gold={"hateful": json.dumps([name for name in NAMES if name in names])},
        )


def pictures(folder: Path) -> Path:
    """Of the table form they have a folder of their own."""
    return folder / "images" if (folder / "train.csv").is_file() else folder


def open_layout(settings: Mmhs150kCorpus, places: Sequence[Path]) -> Mmhs150k | Mmhs150kTable:
    """Whichever form lies there."""
    root = places[0]
    return Mmhs150k(root, ocr=settings.ocr) if (root / GROUND_TRUTH).is_file() else Mmhs150kTable(root)
