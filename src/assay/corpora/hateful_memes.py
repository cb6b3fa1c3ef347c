"""Hateful Memes, phase 1 or 2: a JSON object a line in `train.jsonl`, `dev*.jsonl`, `test*.jsonl`, pictures in `img/`.

The official split is the file's name. Gold columns: `label` (0 or 1), `hateful` (the list of the one
label, or of none), and, in the fine-grained files, `pc` (protected categories) and `attack` (lists).
A line that is not one JSON object is dropped with a reason; so is an id that came before (`dev_seen`
and `dev_unseen` share 400).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay import text
from assay.corpora.base import RawPost, Row
from assay.errors import CorpusError, RowError

SPLITS = ("train", "dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")
FINE = {"pc": "gold_pc", "attack": "gold_attack"}


class HatefulMemes:
    """The layout; which phase it is shows in the files that are there."""

    images_are_known = False

    def __init__(self, root: Path) -> None:
        self.root = self.images = root
        found = [root / f"{split}{suffix}" for split in SPLITS for suffix in (".jsonl", ".json")]
        self.files = [path for path in found if path.is_file()]
        if not self.files:
            raise CorpusError(f"{root}: none of {', '.join(f'{split}.jsonl' for split in SPLITS)} is there")
        self.fine = self._is_fine()
        self.gold: tuple[str, ...] = ("label", "hateful", *(FINE if self.fine else ()))

    def _is_fine(self) -> bool:
        with open(self.files[0], "rb") as lines:
            head = [line for _, line in zip(range(5), lines, strict=False)]
        return any(b'"gold_pc"' in line or b'"pc"' in line for line in head)

    def rows(self) -> Iterator[Row]:
        """The lines of all files that are not blank."""
        for path in self.files:
            with open(path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield Row(f"{path.name}:{number}", (path.stem, line))

    def parse(self, row: Row) -> RawPost:
        """The post of a line."""
        split, line = row.data
        try:
            data: Any = json.loads(text.decode(line))
        except (ValueError, RecursionError) as error:
            raise RowError("bad_line", f"not one JSON object: {error}") from error
        if not isinstance(data, dict) or "id" not in data:
            raise RowError("no_id", "not an object with an id")
        label = data.get("label", data.get("gold_hate"))
        label = label[0] if isinstance(label, list) and label else label
        hateful = {"0": [], "1": ["hateful"], "hateful": ["hateful"], "not_hateful": []}.get(str(label))
        gold = {
            "label": None if hateful is None else str(len(hateful)),
            "hateful": None if hateful is None else json.dumps(hateful),
        }
        if self.fine:
            gold |= {name: _names(data.get(key, data.get(name))) for name, key in FINE.items()}
        return RawPost(
            str(data["id"]).zfill(5),
            text=data.get("text"),
            images=[str(data["img"])] if data.get("img") else [],
            split=split,
            gold=gold,
        )


def _names(value: Any) -> str | None:
    """A list of names as JSON; the string "None" and the name "pc_empty" or "attack_empty" stand for none."""
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    return json.dumps([str(one) for one in listed if str(one) != "None" and not str(one).endswith("_empty")])
