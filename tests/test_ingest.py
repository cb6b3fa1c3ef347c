"""Ingest: every source row is accounted for, in any number of processes, and duplicates are named."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from assay.config import Columns
from assay.corpora.demo import ensure_drawn
from assay.corpora.demo.write import BROKEN
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.manifest import scan
from assay.corpora.mapper import Rules
from assay.corpora.table import Table
from assay.errors import CorpusError
from assay.posts import read, shards
from tests.conftest import picture


def test_drawn_corpus_is_reproducible_to_the_byte(tmp_path: Path, drawn: Path) -> None:
    ensure_drawn(tmp_path / "again", posts=300, seed=7)
    files = sorted(p.relative_to(drawn) for p in drawn.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert all((drawn / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    assert scan([drawn]) == scan([tmp_path / "again"])
    ensure_drawn(tmp_path / "other", posts=300, seed=8)
    assert scan([drawn])["digest"] != scan([tmp_path / "other"])["digest"]


def test_every_drawn_fault_ends_as_its_code(drawn: Path, tmp_path: Path) -> None:
    found = ingest(Instagram(drawn), Rules("demo", b"k", "full"), posts=tmp_path / "p", problems=tmp_path / "q.parquet")
    posts, problems = read(tmp_path / "p").to_pylist(), pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert found["source_rows"] == 300 == len(posts) + sum(p["severity"] == "dropped" for p in problems)
    outside = found["degraded"]["outside_corpus"]  # rows that name another file than their picture
    assert found["unread"] == {"total": 3 + outside, "unread_file": 3 + outside}  # and three files of what was planted
    truth = {row["post_id"]: row for row in csv.DictReader((drawn / "truth.csv").read_text().splitlines())}
    by_id = {p["post_id"]: p["code"] for p in problems if p["post_id"]}
    for post_id, row in truth.items():
        fault = row["fault"]
        if fault in ("missing_image", "undecodable_image", "decompression_bomb", "outside_corpus"):
            assert by_id[post_id] == fault
        elif fault == "cut_image":
            assert by_id[post_id] == "undecodable_image"
    counted = Counter(p["code"] for p in problems)
    assert {fault for fault in BROKEN if fault != "cut_image"} <= set(counted)
    ids = [p["post_id"] for p in posts]
    assert len(set(ids)) == len(ids)


def test_processes_do_not_change_the_result(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.corpora.ingest.CHUNK", 40)
    for workers in ("1", "2"):
        monkeypatch.setenv("ASSAY_WORKERS", workers)
        out = tmp_path / workers
        ingest(
            Instagram(drawn), Rules("demo", b"k", "full", shard_posts=70), posts=out / "p", problems=out / "q.parquet"
        )
    one, two = tmp_path / "1", tmp_path / "2"
    assert len(shards(one / "p")) == 5
    assert [p.read_bytes() for p in shards(one / "p")] == [p.read_bytes() for p in shards(two / "p")]
    assert (one / "q.parquet").read_bytes() == (two / "q.parquet").read_bytes()


def table(tmp_path: Path, rows: str, **rules: object) -> tuple[dict[str, object], list[dict[str, object]]]:
    (tmp_path / "t.csv").write_text("id,text,image\n" + rows)
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "copy.jpg").write_bytes(picture())
    settings = Rules("t", b"k", "full", **rules)  # type: ignore[arg-type]
    found = ingest(
        Table(tmp_path / "t.csv", None, Columns()), settings, posts=tmp_path / "p", problems=tmp_path / "q.parquet"
    )
    return found, read(tmp_path / "p").to_pylist()


def test_duplicates_by_content_and_by_id(tmp_path: Path) -> None:
    found, posts = table(
        tmp_path, "1,hello,a.jpg\n2,hello,copy.jpg\n3,other,a.jpg\n1,again,a.jpg\n4,hello,\n5,hello ,\n"
    )
    assert [(p["post_id"], p["duplicate_of"]) for p in posts] == [
        ("1", None),
        ("2", "1"),
        ("3", None),
        ("4", None),
        ("5", "4"),
    ]
    assert found["dropped"] == {"total": 1, "duplicate_id": 1}


def test_degraded_and_dropped(tmp_path: Path) -> None:
    found, posts = table(tmp_path, "1,text stays,none.jpg\n2,,none.jpg\n3,,\n4,,a.jpg\n5,x,../../a.jpg\n")
    assert [p["post_id"] for p in posts] == ["1", "4", "5"]
    assert found["dropped"] == {"total": 2, "missing_image": 1, "no_text_no_image": 1}
    assert found["degraded"] == {"total": 2, "missing_image": 1, "outside_corpus": 1}
    problems = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [(p["source"], p["code"], p["severity"]) for p in problems] == [
        ("t.csv:2", "missing_image", "degraded"),
        ("t.csv:3", "missing_image", "dropped"),
        ("t.csv:4", "no_text_no_image", "dropped"),
        ("t.csv:6", "outside_corpus", "degraded"),
    ]


def test_odd_but_valid_names_are_kept(tmp_path: Path) -> None:
    names = ["Shot 3.00\u202fPM.png", "a 12:30.png", "naïve 日本.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(picture())
    absolute = str(tmp_path / names[0])
    rows = "".join(f'{i},,"{name}"\n' for i, name in enumerate([*names, absolute]))
    found, posts = table(tmp_path, rows + "a\u00a0b,x,\na\u200db,y,\n")
    assert [p["images"] for p in posts[:4]] == [[names[0]], [names[1]], [names[2]], [names[0]]]
    assert found["posts"] == 6


def test_authors_are_hashed_and_another_key_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,user\n1,x,Ann Example\n2,y,Ann Example\n3,z,\n")
    columns = Columns(image=None, author="user")
    tables = []
    for key in (b"one", b"two"):
        ingest(
            Table(tmp_path / "t.csv", None, columns),
            Rules("t", key),
            posts=tmp_path / "p",
            problems=tmp_path / "q.parquet",
        )
        tables.append(read(tmp_path / "p"))
        assert b"Ann" not in shards(tmp_path / "p")[0].read_bytes()
    a, b = (t["author"].to_pylist() for t in tables)
    assert a[0] == a[1] != b[0]
    assert a[2] is None
    assert tables[0].drop(["author"]).equals(tables[1].drop(["author"]))


def test_hostile_strings_do_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"id": "\\ud800x", "text": "a"}\n{"id": "b\\u0000", "text": "\\udfff", "brands": ["\\ud83d"], "image": null}\n'
        '{"id": "c", "text": "c", "brands": ["\\ud83d", "ok"], "user": "\\ud800", "lang": "\\ud800"}\n'
        '{"id": {"a": 1}, "text": ["x"]}\n{"id": "d", "text": "x", "image": {"a": 1}}\n'
        '{"id": "e", "text": "e", "brands": ["\\ud83d", "ok"], "image": ["\\ud83d.jpg", "a\\u0000.jpg"]}\n'
        '{"id": "f", "text": "f", "l": "\\ud800"}\n{"id": "\\ud800", "text": ""}\n'
    )
    columns = Columns(brands="brands", author="user", language="lang", gold={"l": "l"})
    found = ingest(
        Table(tmp_path / "t.jsonl", None, columns),
        Rules("t", b"k"),
        posts=tmp_path / "p",
        problems=tmp_path / "q.parquet",
    )
    assert found["source_rows"] == 8 == found["posts"] + found["dropped"]["total"]
    assert len(read(tmp_path / "p").to_pylist()) == found["posts"] >= 4


def test_a_corpus_without_rows(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no source rows"):
        table(tmp_path, "")
    with pytest.raises(CorpusError, match=r"none of 2 rows is a usable post, such as t.csv:2: no_id"):
        table(tmp_path, ",x,\n,y,\n")
    with pytest.raises(CorpusError, match="not there"):
        scan([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty"):
        scan([tmp_path / "empty"])
