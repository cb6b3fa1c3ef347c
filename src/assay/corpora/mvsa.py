"""MVSA-Single and MVSA-Multiple: `data/<ID>.jpg`, `data/<ID>.txt`, `labelResultAll.txt`.

The merge rule of the data set's users: equal labels stay; where one of text and image is neutral,
the other holds; positive against negative leaves no label (the post stays, its label is null).
MVSA-Multiple has three coders: a majority for each modality first, then the same rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from assay import text
from assay.config import Corpus
from assay.corpora.base import Bookkeeping, RawPost, Row
from assay.errors import CorpusError, ImageProblem, RowError
from assay.images import safe_path

LABELS, TRAIN = "labelResultAll.txt", "train.txt"
NEUTRAL, KNOWN = "neutral", {"positive", "negative", "neutral"}


class Mvsa(Bookkeeping):
    """The layout; one coder or three, by the number of columns."""

    gold: tuple[str, ...] = ("sentiment",)
    images_are_known = False

    def __init__(self, root: Path) -> None:
        self.table = LABELS if (root / LABELS).is_file() else TRAIN
        if not (root / self.table).is_file():
            raise CorpusError(f"{root}: no {LABELS} and no {TRAIN}; is this the folder of MVSA?")
        super().__init__(root, [self.table])

    def rows(self) -> Iterator[Row]:
        """The lines of the label file after its header."""
        with open(self.root / self.table, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if number > 1 and line.strip():
                    yield Row(f"{self.table}:{number}", line)

    def parse(self, row: Row) -> RawPost:
        """The post of a line, its label merged."""
        line = text.decode(row.data).strip()
        post_id, *labels = [cell.strip() for cell in line.split("," if self.table == TRAIN else "\t")]
        self.touched += [f"data/{post_id}.jpg", f"data/{post_id}.txt"]
        if not labels:
            raise RowError("bad_line", "an id without labels")
        post = RawPost(post_id, images=[f"data/{post_id}.jpg"])
        try:
            post.text = safe_path(self.root, f"data/{post_id}.txt").read_bytes()
        except ImageProblem as problem:
            raise RowError(problem.code, problem.detail) from None
        except OSError:
            post.lost.append(("missing_text", f"data/{post_id}.txt"))
        if self.table == TRAIN:
            post.gold["sentiment"] = None if labels[0] == "null" else labels[0]
            return post
        pairs = [tuple(part.strip().lower() for part in cell.split(",")) for cell in labels]
        if any(len(pair) != 2 or not KNOWN.issuperset(pair) for pair in pairs):
            raise RowError("bad_line", f"labels {labels}")
        post.gold["sentiment"] = merge(_majority([p[0] for p in pairs]), _majority([p[1] for p in pairs]))
        if post.gold["sentiment"] is None:
            post.lost.append(("label_conflict", "; ".join(labels)))
        return post


def _majority(labels: list[str]) -> str | None:
    """The label that more than half of the coders gave, or None."""
    label, votes = Counter(labels).most_common(1)[0]
    return label if 2 * votes > len(labels) else None


def merge(of_text: str | None, of_image: str | None) -> str | None:
    """One label for text and image, or None where they contradict each other or one is missing."""
    if of_text is None or of_image is None:
        return None
    if of_text == of_image or of_image == NEUTRAL:
        return of_text
    return of_image if of_text == NEUTRAL else None


def open_layout(settings: Corpus, places: Sequence[Path]) -> Mvsa:
    """The layout at its one place."""
    return Mvsa(places[0])
