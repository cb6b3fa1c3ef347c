"""The rule of ingest: every row, every file and every mapped field is read, or counted with a code."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import unicodedata
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.config import Brand, Columns, TableCorpus
from assay.corpora import cells
from assay.corpora.brand_file import brand_rules
from assay.corpora.delimited import Counts, look, records
from assay.corpora.encodings import find
from assay.corpora.hateful_memes import HatefulMemes
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.corpora.sheets import open_sheet
from assay.corpora.table import Table
from assay.errors import CorpusError, RowError
from assay.posts import read
from tests.conftest import picture

TEXT = Columns(image=None)
Found = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


def ingested(layout: Any, out: Path) -> Found:
    """The figures, the posts and the problems of a corpus."""
    figures = ingest(layout, Rules("x", b"k"), posts=out / "p", problems=out / "q.parquet")
    return figures, read(out / "p").to_pylist(), pq.read_table(out / "q.parquet").to_pylist()


# ------------------------------------------------------------------------------ lines of delimited files


def texts(path: Path, **options: Any) -> list[str]:
    form = look(path, ["id", "text"], **options)
    return [record.cells[1] for record in records(path, form, Counts()) if isinstance(record.cells, list)]


ENCODINGS = {
    "utf-8": "naïve “quote” 情感 😀",
    "utf-8-sig": "naïve",
    "utf-16": "bye café",
    "utf-16-le": "hello you and all of them",
    "utf-16-be": "hello you and all of them",
    "utf-32": "bye café",
    "cp1252": "I don’t like “naïve” cafés, à bientôt",
    "gb18030": "今天天气很好我们去公园",
    "cp1251": "Привет мир, сегодня хороший день для всех",
    "cp932": "こんにちは世界、今日はいい天気です",
    "cp1250": "Zażółć gęślą jaźń, dobrze że jesteś",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_encodings_are_found_from_the_whole_file(encoding: str, end: str, tmp_path: Path) -> None:
    said = ENCODINGS[encoding].replace(",", "")
    plain = [f"{i},plain line {i}" for i in range(200)]
    (tmp_path / "t.csv").write_bytes(end.join(["id,text", *plain, f"x,{said}", f"y,{said}"]).encode(encoding))
    assert texts(tmp_path / "t.csv")[-2:] == [said, said]
    assert texts(tmp_path / "t.csv", encoding=encoding)[-1] == said


def test_a_few_lines_in_another_encoding_are_read_too(tmp_path: Path) -> None:
    lines = [f"{i},schön {i}".encode() for i in range(20)]
    lines[7] = "7,caf\xe9 au lait, d\xe9j\xe0".replace(", ", " ").encode("cp1252")
    (tmp_path / "t.csv").write_bytes(b"id,text\n" + b"\n".join(lines))
    assert find(tmp_path / "t.csv").fallback == "cp1252"
    assert texts(tmp_path / "t.csv")[7] == "café au lait déjà"
    assert texts(tmp_path / "t.csv")[8] == "schön 8"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_delimiters_are_found(delimiter: str, suffix: str, tmp_path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([["id", "text", "n"], *([i, f"one; two, three|{i}", "x"] for i in range(9))])
    (tmp_path / f"t.{suffix}").write_text(out.getvalue())
    assert texts(tmp_path / f"t.{suffix}") == [f"one; two, three|{i}" for i in range(9)]


QUOTES: dict[str, tuple[str, str, list[str]]] = {
    "tsv, never closed": ("tsv", 'a\t"never\nb\tx\nc\t"again\nd\ty\n', ['"never', "x", '"again', "y"]),
    "csv, never closed": ("csv", '1,"never\n2,x\n3,y\n', ['"never', "x", "y"]),
    "csv, closed by a later cell": ("csv", '1,"never\n2,x\n3,"a, b"\n4,y\n', ['"never', "x", "a, b", "y"]),
    "csv, closed by its own kind": ("csv", '1,"never\n2,x\n3,"\n4,"a, b"\n', ['"never', "x", '"', "a, b"]),
    "csv, quotes inside": ("csv", '1,"say ""hi"", you"\n2,"say "hi" you"\n', ['say "hi", you', '"say "hi" you"']),
    "csv, text behind a quote": ("csv", '1,"a" b\n2,"c, d"\n', ['"a" b', "c, d"]),
    "csv, cells of many lines": ("csv", '1,"a\n\n7, b\nc"\n2,"d"\n', ["a\n\n7, b\nc", "d"]),
    "csv, blank lines and trailing delimiters": ("csv", "1,a,,\n\n2,b\n\n", ["a", "b"]),
}


@pytest.mark.parametrize("name", QUOTES)
def test_no_quote_swallows_rows(name: str, tmp_path: Path) -> None:
    suffix, body, wanted = QUOTES[name]
    path = tmp_path / f"t.{suffix}"
    path.write_text("id\ttext\n" + body if suffix == "tsv" else "id,text\n" + body)
    figures, posts, problems = ingested(Table(path, None, TEXT), tmp_path)
    assert [post["text"].strip() for post in posts] == [text.strip() for text in wanted], problems
    counts = figures["files"][path.name]
    assert counts["lines"] == len(path.read_text().splitlines())
    assert counts["lines"] == sum(counts[n] for n in ("header", "rows", "inside_cells", "blank"))


def test_five_thousand_rows_behind_a_stray_quote(tmp_path: Path) -> None:
    lines = [f'{i},"in quotes, {i}"' if i % 50 == 0 else f"{i},row {i}" for i in range(5000)]
    lines[17] = '17,"never closed'
    (tmp_path / "t.csv").write_text("id,text\n" + "\r\n".join(lines))
    figures, posts, problems = ingested(Table(tmp_path / "t.csv", None, TEXT), tmp_path)
    assert figures["source_rows"] == len(posts) == 5000
    assert posts[17]["text"] == '"never closed'
    assert posts[50]["text"] == "in quotes, 50"
    assert [(p["post_id"], p["code"], p["severity"]) for p in problems] == [("17", "stray_quote", "degraded")]


def test_how_a_file_is_read_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('id:text\n1:"caf\xe9"\n2:b\n'.encode("cp1252"))
    assert texts(tmp_path / "t.csv", encoding="cp1252", delimiter=":", quoting="none") == ['"café"', "b"]
    with pytest.raises(ValueError, match="encoding 'klingon' is unknown"):
        TableCorpus(kind="table", path="x", encoding="klingon")
    with pytest.raises(ValueError, match="delimiter '::' must be one character"):
        TableCorpus(kind="table", path="x", delimiter="::")


# ------------------------------------------------------------------------------------- forms of tables

ROWS = [{"id": "a", "text": "one, two"}, {"id": "b", "text": "three"}]


def written(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.name.endswith(".xlsx"):
        book = openpyxl.Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.append(list(rows[0]))
        for row in rows:
            sheet.append(list(row.values()))
        book.create_sheet("more")
        book.save(path)
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ".json" in path.name:
        lines = path.name.removesuffix(".gz").endswith(("l", "lines.json"))
        data = "\n".join(map(json.dumps, rows)) if lines else json.dumps({"meta": 1, "data": rows})
        path.write_bytes(gzip.compress(data.encode()) if path.suffix == ".gz" else data.encode())
    else:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        data = out.getvalue().encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_an_excel_file_that_is_damaged_further_down_is_read_up_to_there(tmp_path: Path) -> None:
    written(tmp_path / "whole.xlsx", [{"id": f"p{i}", "text": f"text {i}"} for i in range(50)])
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as book, zipfile.ZipFile(tmp_path / "cut.xlsx", "w") as cut:
        for name in book.namelist():
            data = book.read(name)
            cut.writestr(name, data[: len(data) // 2] if name.endswith("sheet1.xml") else data)
    lines = list(open_sheet(tmp_path / "cut.xlsx", ["id", "text"]).rows)
    assert 10 < len(lines) < 49
    assert all(isinstance(line.data, dict) for line in lines[:-1])
    assert isinstance(lines[-1].data, RowError)
    assert "all behind it cannot be read" in lines[-1].data.detail


@pytest.mark.parametrize(
    "name", ["t.csv", "T.CSV", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.json", "lines.json", "t.parquet", "t.xlsx"]
)
def test_every_form_of_a_table_is_read(name: str, tmp_path: Path) -> None:
    written(tmp_path / name, ROWS)
    figures, posts, problems = ingested(Table(tmp_path / name, None, TEXT), tmp_path / "out")
    assert [(post["post_id"], post["text"]) for post in posts] == [("a", "one, two"), ("b", "three")]
    assert not problems
    assert figures["files"][name]["rows"] == 2


def test_a_folder_of_exports_names_what_it_cannot_read(tmp_path: Path) -> None:
    root = tmp_path / "exports"
    (root / "inner").mkdir(parents=True)
    for i, name in enumerate(("a.csv", "b.jsonl", "c.parquet", "d.xlsx", "e.json")):
        written(root / name, [{"id": f"{i}{row['id']}", "text": row["text"]} for row in ROWS])
    (root / "lacks.csv").write_text("number,words\n1,x\n")
    (root / "broken.parquet").write_bytes(b"PAR1")
    (root / "notes.docx").write_bytes(b"PK")
    (root / "meta.json").write_text("[1, 2]")
    (root / "inner" / "more.csv").write_text("id,text\n1,x\n")
    figures, posts, problems = ingested(Table(root, None, TEXT), tmp_path / "out")
    assert len(posts) == 10 == figures["source_rows"]
    named = {p["source"]: p["detail"] for p in problems if p["code"] == "unread_file"}
    assert set(named) == {"lacks.csv", "broken.parquet", "notes.docx", "meta.json", "inner/more.csv"}
    assert "no column 'id'; the file has: number, words" in named["lacks.csv"]
    assert figures["unread"] == {"total": 5, "unread_file": 5}
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "lacks.csv").write_text("number,words\n1,x\n")
    with pytest.raises(CorpusError, match="no column 'id'"):
        ingested(Table(tmp_path / "only", None, TEXT), tmp_path / "out2")


def test_of_two_equal_headers_none_is_silently_lost(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,text\n1,a,\n2,,b\n3,c,d\n4,e,e\n")
    _, posts, problems = ingested(Table(tmp_path / "t.csv", None, TEXT), tmp_path / "out")
    assert [post["text"] for post in posts] == ["a", "b", "c", "e"]
    assert [(p["post_id"], p["code"]) for p in problems] == [("3", "duplicate_column")]


def test_brands_come_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "brands.csv"
    path.write_text("name;words;handles\nBee;bee|bee & sons;@bee.shop\nAnt;=Ant;\n")
    found = brand_rules({"Bee": Brand(hashtags=["beehome"])}, path)
    assert found == {"Bee": (["beehome"], ["@bee.shop"], ["bee", "bee & sons"]), "Ant": ([], [], ["=Ant"])}
    path.write_text("brand,words\nBee,bee\n")
    with pytest.raises(CorpusError, match="columns must be name, words, hashtags, handles; it has brand, words"):
        brand_rules({}, path)
    with pytest.raises(CorpusError, match="set brand_file of the corpus"):
        brand_rules({}, tmp_path / "no.csv")


# --------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ('["a\\/b.jpg", null, "\\ud83d\\ude00.jpg"]', ["a/b.jpg", "😀.jpg"]),
        ("['a.jpg', 'b.jpg']", ["a.jpg", "b.jpg"]),
        ("('a.jpg', 'b.jpg')", ["('a.jpg', 'b.jpg')"]),
        ("['a.jpg' 'b.jpg'\n 'c.jpg']", ["a.jpg", "b.jpg", "c.jpg"]),
        ("['it''s.jpg']", ["its.jpg"]),
        ("[]", []),
        ([None, "a", float("nan")], ["a"]),
        ("[a, b]", None),
        ('["a", {"url": "b"}]', None),
        ([cells.Nested("dict")], None),
    ],
)
def test_lists(value: Any, wanted: list[str] | None) -> None:
    lost: cells.Lost = []
    found = cells.strings(value, "image", lost)
    assert bool(lost) == (wanted is None)
    assert wanted is None or found == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1.0, True), ("1.0", True), ("TRUE", True), ("y", True), (0.0, False), ("No", False), (None, None), ("nan", None)],
)
def test_flags(value: Any, wanted: bool | None) -> None:
    lost: cells.Lost = []
    assert cells.flag(value, "sponsored", lost) is wanted
    assert not lost
    for odd in ("maybe", 2, 0.5, [True]):
        cells.flag(odd, "sponsored", lost)
    assert [code for code, _ in lost] == ["unreadable_sponsored"] * 4


@pytest.mark.parametrize(
    ("value", "wanted"), [("1,234", 1234), ("12", 12), (3.0, 3), ("3.0", 3), (None, None), ("", None), ("null", None)]
)
def test_counts(value: Any, wanted: int | None) -> None:
    lost: cells.Lost = []
    assert cells.whole(value, "likes", lost) == wanted
    assert not lost
    for odd in ("1.5", "12K", -1, float("inf"), "1e400", True, [1]):
        assert cells.whole(odd, "likes", lost) is None
    assert len(lost) == 7


MOMENT = datetime(2020, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        *("2020-12-31", "2020-12-31T00:00:00Z", "20201231", "2020/12/31", "31.12.2020", "31/12/2020", "12/31/2020"),
        *("Thu Dec 31 00:00:00 +0000 2020", "Thu, 31 Dec 2020 00:00:00 GMT", "1609372800", 1609372800, 1609372800.0),
        *(1609372800000, "1609372800000", "31/12/2020 00:00", "2020-12-31T02:00:00+02:00", MOMENT, MOMENT.date()),
    ],
)
def test_moments(value: Any) -> None:
    lost: cells.Lost = []
    assert cells.moment(value, "created_at", lost) == MOMENT
    assert not lost


@pytest.mark.parametrize(
    "value", ["01/02/2020", "31/31/2020", "yesterday", "0001-01-01T00:00:00+05:00", 1e300, "9" * 30, True, [1], -1e15]
)
def test_moments_that_nobody_can_tell_are_named(value: Any) -> None:
    lost: cells.Lost = []
    assert cells.moment(value, "created_at", lost) is None
    assert [code for code, _ in lost] == ["unreadable_created_at"]


def test_ids_and_labels_that_pandas_made_floats_of(tmp_path: Path) -> None:
    rows = [{"id": 17.0, "text": "a", "y": 1.0}, {"id": 1.8558235634800104e18, "text": "b", "y": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    columns = Columns(image=None, gold={"y": "y"})
    _, posts, problems = ingested(Table(tmp_path / "t.parquet", None, columns), tmp_path / "out")
    assert posts[0]["post_id"] == "17"
    assert posts[0]["gold_y"] == "1"
    assert [p["code"] for p in problems] == ["rounded_id"]
    (tmp_path / "t.csv").write_text("id,text,y\n17.0,a,1.0\n1.85e+18,b,0.0\n")
    _, posts, problems = ingested(Table(tmp_path / "t.csv", None, columns), tmp_path / "out2")
    assert [post["post_id"] for post in posts] == ["17", "1.85e+18"]
    assert [post["gold_y"] for post in posts] == ["1", "0"]
    assert [p["code"] for p in problems] == ["rounded_id"]


def test_an_author_that_is_no_name_is_counted(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"id": 1, "text": "a", "user": {"name": "x"}}\n{"id": 2, "text": "b", "user": 7}'
    )
    columns = Columns(image=None, author="user")
    _, posts, problems = ingested(Table(tmp_path / "t.jsonl", None, columns), tmp_path / "out")
    assert [post["author"] is None for post in posts] == [True, False]
    assert [(p["post_id"], p["code"]) for p in problems] == [("1", "unreadable_author")]


def test_hateful_memes_labels_in_every_dress(tmp_path: Path) -> None:
    values = [1, 1.0, True, "1", "1.0", "hateful", [1, 1], 0, 0.0, False, "not_hateful", None, [], 2, "maybe", [0, 1]]
    lines = [{"id": i, "text": "x", "label": value} for i, value in enumerate(values)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, posts, problems = ingested(HatefulMemes(tmp_path), tmp_path / "out")
    assert [post["gold_label"] for post in posts] == ["1"] * 7 + ["0"] * 4 + [None] * 5
    assert [p["code"] for p in problems if p["severity"] == "degraded"] == ["unreadable_label"] * 3


# ------------------------------------------------------------------------------ what nobody foresaw


def test_odd_rows_stop_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep JSON in a column that nobody maps and in one that is, Infinity, a year 1, a pipe as a picture."""
    monkeypatch.setattr("assay.corpora.ingest.CHUNK", 2)
    monkeypatch.setenv("ASSAY_WORKERS", "2")
    root = tmp_path / "raw"
    root.mkdir()
    os.mkfifo(root / "pipe.jpg")
    (root / "ok.jpg").write_bytes(picture())
    deep = "[" * 500 + "]" * 500
    lines = [
        f'{{"id": 1, "text": "deep elsewhere", "other": {deep}}}',
        f'{{"id": 2, "text": {deep}, "image": "ok.jpg"}}',
        '{"id": 3, "text": "inf", "likes": Infinity, "comments": NaN}',
        '{"id": 4, "text": "old", "when": "0001-01-01T00:00:00+05:00"}',
        '{"id": 5, "text": "pipe", "image": "pipe.jpg"}',
        '{"id": {"$oid": 6}, "text": "an id of its own kind"}',
        '{"id": 7, "text": {"en": "x"}}',
        '{"id": 8, "text": "\\ud83d half", "image": ["ok.jpg", {"url": "x"}]}',
    ]
    (root / "t.jsonl").write_text("\n".join(lines))
    columns = Columns(created_at="when", likes="likes", comments="comments")
    figures, posts, problems = ingested(Table(root, None, columns), tmp_path / "out")
    assert [post["post_id"] for post in posts] == ["1", "2", "3", "4", "5", "8"]
    assert figures["source_rows"] == 8
    assert {p["post_id"] or p["source"]: p["code"] for p in problems} == {
        "2": "unreadable_text",
        "3": "unreadable_likes",
        "4": "unreadable_created_at",
        "5": "undecodable_image",
        "t.jsonl:6": "no_id",
        "7": "unreadable_text",
        "8": "unreadable_image",
    }


NAMES = st.text("abcdef", min_size=1, max_size=4)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=2), max_leaves=6)
POSTS = st.lists(
    st.fixed_dictionaries({"id": SCALARS}, optional=dict.fromkeys(("text", "image", "when", "likes", "flag"), VALUES)),
    min_size=1,
    max_size=12,
)
OTHER_FILES = st.dictionaries(
    st.tuples(NAMES, st.sampled_from([".txt", ".docx", ".jpg", ".mp4", ".csv", ".json", ""])),
    st.binary(max_size=40),
    max_size=4,
)
SLOWLY = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def rule_holds(found: Found, root: Path) -> None:
    """Rows: posts and dropped. Files: read, or named once."""
    figures, posts, problems = found
    codes = Counter(p["severity"] for p in problems)
    assert figures["source_rows"] == len(posts) + codes["dropped"]
    assert figures["dropped"]["total"] == codes["dropped"]
    assert figures["unread"]["total"] == codes["unread"]
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    named = [p["source"] for p in problems if p["severity"] == "unread"]
    assert len(named) == len(set(named))
    assert set(named) <= there
    assert all(is_one_line(p["detail"]) and p["code"] for p in problems)


def is_one_line(said: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in said)


def one_line(error: CorpusError) -> None:
    assert is_one_line(str(error))


@SLOWLY
@given(rows=POSTS, others=OTHER_FILES, kind=st.sampled_from(["posts.jsonl", "posts.json"]))
def test_random_objects_and_folders(
    rows: list[dict[str, Any]],
    others: dict[tuple[str, str], bytes],
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("random")
    for (name, suffix), data in others.items():
        (root / f"{name}{suffix}").write_bytes(data)
    data = "\n".join(map(json.dumps, rows)) if kind.endswith("l") else json.dumps(rows)
    (root / kind).write_text(data)
    columns = Columns(created_at="when", likes="likes", sponsored="flag")
    try:
        found = ingested(Table(root, None, columns), tmp_path_factory.mktemp("out"))
    except CorpusError as error:  # no row is a post
        one_line(error)
        return
    rule_holds(found, root)
    _, posts, problems = found
    named = {p["source"] for p in problems if p["severity"] == "unread"}
    said = json.dumps(rows)
    for path in root.iterdir():  # a file that is not named was read, or a row speaks of it
        assert path.name in named or path.name in said or path.suffix in (".csv", ".json", ".jsonl"), path.name
    told = Counter((p["post_id"], p["code"]) for p in problems)
    if len(rows) == len(posts) == 1 and isinstance(likes := rows[0].get("likes"), list | dict | float | int):
        unread = (posts[0]["post_id"], "unreadable_likes") in told
        assert (posts[0]["likes"] is not None) or unread or likes != likes


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ud800"), max_size=10)


@SLOWLY
@given(
    rows=st.lists(st.tuples(st.integers(0, 10**6), CELL, CELL), min_size=1, max_size=20, unique_by=lambda row: row[0]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_tables_that_a_csv_library_wrote_come_back(
    rows: list[tuple[int, str, str]], delimiter: str, end: str, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("written")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text", "more"), *rows])
    (root / "t.csv").write_bytes(out.getvalue().encode(encoding))
    form = look(root / "t.csv", ["id", "text", "more"])
    counts = Counts()
    found = [record.cells for record in records(root / "t.csv", form, counts)]
    counts.check(root / "t.csv")
    assert [cells for cells in found if isinstance(cells, list)] == [[str(i), a, b] for i, a, b in rows]


@SLOWLY
@given(
    data=st.binary(max_size=300), suffix=st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "xlsx", "csv.gz"])
)
def test_random_bytes_are_read_or_refused_in_one_line(
    data: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("bytes")
    (root / f"t.{suffix}").write_bytes(b"id,text\n" + data if suffix == "csv" else data)
    try:
        rule_holds(ingested(Table(root, None, TEXT), tmp_path_factory.mktemp("out")), root)
    except CorpusError as error:
        one_line(error)


FIELDS = ["id", "code", "caption", "taken_at", "user", "like_count", "usertags", "edge_media_to_caption", "node"]


@SLOWLY
@given(
    files=st.dictionaries(NAMES, VALUES, min_size=1, max_size=5),
    nodes=st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES), max_size=4),
)
def test_random_json_of_instagram(
    files: dict[str, Any], nodes: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("insta")
    (root / "good.json").write_text(json.dumps({"id": "1", "code": "c", "caption": {"text": "fine"}}))
    for name, value in files.items():
        (root / f"{name}.json").write_text(json.dumps(value))
    (root / "items.json").write_text(json.dumps({"items": nodes}))
    found = ingested(Instagram(root), tmp_path_factory.mktemp("out"))
    rule_holds(found, root)
    assert not [p for p in found[2] if p["code"] == "unreadable_row"]
