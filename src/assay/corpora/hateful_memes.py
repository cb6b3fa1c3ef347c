"""Hateful Memes, phase 1 or 2: a JSON object a line in `train.jsonl`, `dev*.jsonl`, `test*.jsonl`, pictures in `img/`.

The official split is the file's name. Gold columns: `label` (0 or 1), `hateful` (the list of the one
label, or of none), and, in the fine-grained files, `pc` (protected categories) and `attack` (lists).
A line that is not one JSON object is dropped with a reason; so is an id that came before (`dev_seen`
and `dev_unseen` share 400).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assay import text
from assay.config import Corpus
from assay.corpora import cells
from assay.corpora.base import Bookkeeping, RawPost, Row
from assay.errors import CorpusError, RowError

SPLITS = ("train", "dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")
FINE = {"pc": "gold_pc", "attack": "gold_attack"}


class HatefulMemes(Bookkeeping):
    """The layout; which phase it is shows in the files that are there."""

    images_are_known = False

    def __init__(self, root: Path) -> None:
        found = [root / f"{split}{suffix}" for split in SPLITS for suffix in (".jsonl", ".json")]
        self.files = [path for path in found if path.is_file()]
        if not self.files:
            raise CorpusError(f"{root}: none of {', '.join(f'{split}.jsonl' for split in SPLITS)} is there")
        super().__init__(root, [path.name for path in self.files])
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
        lost: cells.Lost = []
        hateful = _hateful(data.get("label", data.get("gold_hate")), lost)
        gold = {
            "label": None if hateful is None else str(len(hateful)),
            "hateful": None if hateful is None else json.dumps(hateful),
        }
        if self.fine:
            gold |= {name: _names(data.get(key, data.get(name))) for name, key in FINE.items()}
        post_id = cells.identifier(cells.flat(data["id"]), lost)
        if post_id is None:
            raise RowError("no_id", f"an id of the type {type(data['id']).__name__}")
        return RawPost(
            post_id.zfill(5),
            text=cells.text(cells.flat(data.get("text")), "text", lost),
            images=cells.strings(cells.flat(data.get("img")), "image", lost),
            split=split,
            gold=gold,
            lost=lost,
        )


def _hateful(label: Any, lost: cells.Lost) -> list[str] | None:
    """The label as a list of names: 0 or 1 as a number, a float, a boolean or text, or its name; None without one."""
    listed = label if isinstance(label, list) else [label]
    found = [one for one in listed if not cells.is_missing(one)]
    if not found:
        return None
    said = {cells.label(cells.flat(one), "label", []) for one in found}
    names = {"hateful": "1", "not_hateful": "0", "True": "1", "False": "0", "true": "1", "false": "0"}
    codes = {names.get(str(one), str(one)) for one in said}
    if codes not in ({"0"}, {"1"}):
        lost.append(("unreadable_label", repr(label)[:120]))
        return None
    return ["hateful"] if codes == {"1"} else []


def _names(value: Any) -> str | None:
    """A list of names as JSON; the string "None" and the name "pc_empty" or "attack_empty" stand for none."""
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    return json.dumps([str(one) for one in listed if str(one) != "None" and not str(one).endswith("_empty")])


def open_layout(settings: Corpus, places: Sequence[Path]) -> HatefulMemes:
    """The layout at its one place."""
    return HatefulMemes(places[0])
