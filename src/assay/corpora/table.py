"""A plain table: CSV, TSV, JSON, JSON lines, Parquet or Excel, one post a row, with a column map from params.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.buckets import Bucket, Root, is_address, root_of
from assay.config import Columns, TableCorpus
from assay.corpora import cells
from assay.corpora.base import RawPost, Row
from assay.corpora.sheets import SUFFIXES, Options, Sheet, kind_of, open_sheet
from assay.errors import CorpusError, RowError
from assay.places import corpus_root
from assay.progress import say

FILE = "(file)"  # as columns.split: the name of the file that a row stands in, without suffix
ODD = "(odd)"  # where the reader's remarks on a row stand
SAID_OF = 5  # files of which it is said how they are read


class Table:
    """The layout: one file, or all tables of a folder in the order of their names.

    In a folder, a file that is no table or lacks the columns is named in `unread`.
    """

    images_are_known = False

    def __init__(
        self,
        path: Path,
        images: Root | None,
        columns: Columns,
        options: Options | None = None,
        unneeded: Iterable[Path | str] = (),
    ) -> None:
        listed = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        self.files = [p for p in listed if kind_of(p)]
        if not self.files:
            raise CorpusError(f"{path}: not a table; allowed: a file or folder of {', '.join(SUFFIXES)}")
        self.images: Root = images or (path if path.is_dir() else path.parent)
        self.roots: list[Root] = [path] if images is None else [path, images]
        self.columns, self.options = columns, options
        self._own = {str(file) for file in (*self.files, *unneeded)}
        self.gold = tuple(columns.gold)
        self.unread: dict[str, str] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self.touched: list[str] = []
        self._named = {key: column for key, column in columns.named.items() if column != FILE}

    def is_read(self, path: str) -> bool:
        """Whether a file that is no picture of a post is one of the tables."""
        return path in self._own and path not in self.unread

    def rows(self) -> Iterator[Row]:
        """The rows of all files; a row that cannot be read carries its RowError."""
        said = 0
        for path in self.files:
            try:
                sheet = open_sheet(path, list(self._named.values()), self.options)
                self._check_columns(path, sheet)
            except CorpusError as error:
                self.unread[str(path)] = str(error).removeprefix(f"{path}: ")
                if len(self.unread) == len(self.files):
                    raise
                continue
            said += 1
            if said <= SAID_OF:
                say(f"ingest: {path.name}: {sheet.said}")
            for number, data, odd in sheet.rows:
                yield Row(f"{path.name}:{number}", data if isinstance(data, RowError) else self._kept(data, odd, path))
            self.counts[path.name] = sheet.counts()

    def _kept(self, data: dict[str, Any], odd: tuple[tuple[str, str], ...], path: Path) -> dict[str, Any]:
        """What is mapped of a row, small enough to go to another process."""
        found = {column: cells.flat(data.get(column)) for column in self._named.values()}
        mapped = [(code, detail) for code, detail in odd if code != "duplicate_column" or detail.split(":")[0] in found]
        return found | ({ODD: mapped} if mapped else {}) | ({FILE: path.stem} if self.columns.split == FILE else {})

    def _check_columns(self, path: Path, sheet: Sheet) -> None:
        if sheet.columns is None:  # an object may leave out what it does not have
            return
        for key, column in self._named.items():
            if column not in sheet.columns:
                shown = ", ".join(map(str, sheet.columns))
                raise CorpusError(f"{path}: columns.{key}: no column {column!r}; the file has: {shown}")

    def _relative(self, path: str) -> str:
        """A path as the layout wants it; an absolute one may be given where it lies below the images' folder."""
        if isinstance(self.images, Bucket):
            return path.removeprefix(f"{self.images}/")
        found = Path(path)
        if found.is_absolute() and found.is_relative_to(self.images):
            return found.relative_to(self.images).as_posix()
        return path

    def parse(self, row: Row) -> RawPost:
        """A post from the mapped columns."""
        c, data = self.columns, row.data
        lost: cells.Lost = list(data.get(ODD, ()))

        def get(column: str | None) -> Any:
            return data.get(column) if column else None

        images = [self._relative(path) for path in cells.strings(get(c.image), "image", lost)]
        self.touched += images
        post_id = cells.identifier(get(c.id), lost)
        if post_id is None:
            found = get(c.id)
            shown = found if isinstance(found, cells.Nested) else type(found).__name__
            raise RowError("no_id", f"column {c.id} " + ("is empty" if cells.is_missing(found) else f"holds a {shown}"))
        body = get(c.text)
        return RawPost(
            post_id=post_id,
            text=body if isinstance(body, bytes) else cells.text(body, "text", lost),
            images=images,
            author=cells.identifier(get(c.author), lost, "author"),
            created_at=cells.moment(get(c.date[0]), "created_at", lost, c.date[1]),
            brands=cells.strings(get(c.brands), "brands", lost, separator=","),
            sponsored=cells.flag(get(c.sponsored), "sponsored", lost),
            likes=cells.whole(get(c.likes), "likes", lost),
            comments=cells.whole(get(c.comments), "comments", lost),
            language=cells.text(get(c.language), "language", lost),
            split=cells.text(get(c.split), "split", lost),
            gold={name: cells.label(get(column), f"gold_{name}", lost) for name, column in c.gold.items()},
            lost=lost,
        )


def open_layout(settings: TableCorpus, places: Sequence[Root]) -> Table:
    """The table at the first place; its pictures lie at the second, where there is one."""
    root, *rest = places
    if isinstance(root, Bucket):
        raise CorpusError(f"{root}: no table; allowed: a file or folder of {', '.join(SUFFIXES)}")
    told = {name: getattr(settings, name) for name in ("encoding", "delimiter", "quoting")}
    options = {name: value for name, value in told.items() if value != "auto"}
    own: list[str] = []  # where tables of a bucket came from, which may lie among its pictures
    if is_address(settings.path):
        above, _, last = settings.path.rstrip("/").rpartition("/")
        folder = above if root.name == last else f"{above}/{last}"
        own = [f"{folder}/{path.name}" for path in ([root] if root.is_file() else root.iterdir())]
    return Table(root, rest[0] if rest else None, settings.columns, options, own)


def places(settings: TableCorpus) -> list[Root]:
    """The tables, and where pictures lie; tables in object storage are fetched."""
    named = root_of(settings.images_root) if settings.images_root else None
    if named is not None and not isinstance(named, Bucket):
        named = corpus_root(str(settings.images_root))
    if not is_address(settings.path):
        return [corpus_root(settings.path), *([named] if named else [])]
    above, _, last = settings.path.rstrip("/").rpartition("/")
    if kind_of(Path(last)):
        folder = Bucket(above)
        try:
            return [folder.fetched([last]) / last, named or folder]
        except FileNotFoundError as error:
            raise CorpusError(f"{settings.path}: not there; set `path` of the corpus to where it lies") from error
    folder = Bucket(settings.path)
    tables = [file.relative for file in folder.files() if "/" not in file.relative and kind_of(Path(file.relative))]
    if not tables:
        raise CorpusError(f"{folder}: not a table; allowed: a file or folder of {', '.join(SUFFIXES)}")
    return [folder.fetched(sorted(tables)), named or folder]
