"""Raw layouts: each adapter on hand-made files in its own layout, quirks included."""

from __future__ import annotations

import json
import lzma
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.config import Columns
from assay.corpora.base import Layout, RawPost
from assay.corpora.ingest import ingest
from assay.corpora.instagram import Instagram
from assay.corpora.mapper import Rules
from assay.corpora.mvsa import Mvsa, merge
from assay.corpora.table import Table
from assay.errors import CorpusError, RowError
from assay.posts import read
from tests.conftest import picture

Outcome = dict[str, RawPost | RowError]


def parsed(layout: Layout) -> Outcome:
    """Every row's post or error, by source."""
    found: Outcome = {}
    for row in layout.rows():
        try:
            if isinstance(row.data, RowError):
                raise row.data
            found[row.source] = layout.parse(row)
        except RowError as error:
            found[row.source] = error
    return found


def codes(found: Outcome) -> dict[str, str]:
    return {source: one.code for source, one in found.items() if isinstance(one, RowError)}


def node(caption: str | None = "A day #out", **changes: Any) -> dict[str, Any]:
    edges = [] if caption is None else [{"node": {"text": caption}}]
    return {
        "__typename": "GraphImage",
        "id": "77",
        "taken_at_timestamp": 1_500_000_000,
        "is_video": False,
        "edge_media_to_caption": {"edges": edges},
        "edge_media_preview_like": {"count": 12},
        "edge_media_to_parent_comment": {"count": 3},
        "owner": {"id": "5", "username": "ann"},
        **changes,
    }


# --------------------------------------------------------------------------------------- instagram


@pytest.fixture
def brand_release(tmp_path: Path) -> Path:
    for folder in ("json", "img_resized_1", "img_resized_16"):
        (tmp_path / folder).mkdir()
    (tmp_path / "img_resized_1" / "1.jpg").write_bytes(picture())
    (tmp_path / "img_resized_16" / "22.jpg").write_bytes(picture())
    files = {
        "1": json.dumps(node()).encode(),
        "2": json.dumps({"instaloader": {"v": 1}, "node": node("wrapped")}).encode(),
        "3": json.dumps({"GraphImages": [node("scraped")]}).encode(),
        "4": json.dumps({"graphql": {"shortcode_media": node(None, owner={"id": "9"})}}).encode(),
        "5": json.dumps(node())[:90].encode(),
        "6": json.dumps(node("情感"), ensure_ascii=False).encode("gb18030"),
        "7": b'{"id": "7", "x": "\xff\xfe\xff"}',
        "9": json.dumps(
            node(
                "old",
                edge_media_to_parent_comment=None,
                edge_media_to_comment={"count": 8},
                edge_media_to_sponsor_user={"edges": [{"node": {"sponsor": {"username": "Bee"}}}]},
            )
        ).encode(),
        "10": b"[1, 2",
        "11": b'{"id": "11", "edge_media_to_caption": {"edges": [{"node": {"text": "half \\ud83d pair"}}]}}',
    }
    for name, data in files.items():
        (tmp_path / "json" / f"{name}.json").write_bytes(data)
    lines = [
        "0\tann\t0\t1.json\t['1.jpg']",
        "1\tann\t1\t2.json\t['22.jpg', '1.jpg']",
        "2\tbob\t0\t3.json\t['nowhere.jpg']",
        "3\tbob\t0\t4.json\t['1.jpg']",
        "4\tbob\t0\t5.json\t['1.jpg']",
        "5\tbob\t0\t6.json\t[]",
        "6\tbob\t0\t7.json\t[]",
        "7\tbob\t0\t8.json\t['1.jpg']",
        "8\tbob\t0\t9.json\t['1.jpg']",
        "9\tbob\t0\t10.json\t['1.jpg']",
        "10\tbob\t0\t../../secret.json\t['1.jpg']",
        "11\tbob\t0\t1.json\t['../../../etc/hosts.jpg']",
        "12\tbob\t0\t1.json\tnot a list",
        "13\ttoo few",
        "14\tbob\t0\t11.json\t[]",
    ]
    (tmp_path / "post_info.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_brand_release(brand_release: Path) -> None:
    found = parsed(Instagram(brand_release))
    assert len(found) == 15
    first = found["post_info.txt:1"]
    assert isinstance(first, RawPost)
    assert (first.post_id, first.text, first.images) == ("1", "A day #out", ["img_resized_1/1.jpg"])
    assert (first.author, first.sponsored, first.likes, first.comments) == ("ann", False, 12, 3)
    second, third, fourth, sixth, ninth = (found[f"post_info.txt:{i}"] for i in (2, 3, 4, 6, 9))
    assert isinstance(second, RawPost)
    assert second.text == "wrapped"
    assert second.images == ["img_resized_16/22.jpg", "img_resized_1/1.jpg"]
    assert second.sponsored is True
    assert isinstance(third, RawPost)
    assert (third.text, third.lost) == ("scraped", [("missing_image", "nowhere.jpg")])
    assert isinstance(fourth, RawPost)
    assert fourth.text is None
    assert isinstance(sixth, RawPost)
    assert sixth.text == "情感"
    assert isinstance(ninth, RawPost)
    assert (ninth.comments, ninth.handles, ninth.sponsored) == (8, ["Bee"], True)
    outside = found["post_info.txt:12"]
    assert isinstance(outside, RawPost)
    assert outside.lost[0][0] == "outside_corpus"
    assert codes(found) == {
        "post_info.txt:5": "cut_json",
        "post_info.txt:7": "bad_encoding",
        "post_info.txt:8": "missing_json",
        "post_info.txt:10": "cut_json",
        "post_info.txt:11": "outside_corpus",
        "post_info.txt:13": "bad_line",
        "post_info.txt:14": "bad_line",
    }


def test_brand_release_through_ingest(brand_release: Path, tmp_path: Path) -> None:
    found = ingest(Instagram(brand_release), Rules("x", b"k"), posts=tmp_path / "p", problems=tmp_path / "q.parquet")
    assert found["source_rows"] == 15 == found["posts"] + found["dropped"]["total"]
    assert found["dropped"]["duplicate_id"] == 1
    assert read(tmp_path / "p")["text"].to_pylist()[-1] == "half pair"


def test_influencer_release(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "image").mkdir()
    (tmp_path / "info" / "ann.b_c-123.info").write_text(json.dumps(node()))
    (tmp_path / "image" / "ann.b_c-9.jpg").write_bytes(picture())
    (tmp_path / "JSON-Image_files_mapping.txt").write_text(
        "influencer_name\tJSON_PostMetadata_file_name\tImage_file_name\n"
        "ann.b_c\tann.b_c-123.info\t['ann.b_c-9.jpg', 'ann.b_c-10.jpg']\n"
    )
    post = parsed(Instagram(tmp_path))["JSON-Image_files_mapping.txt:2"]
    assert isinstance(post, RawPost)
    assert (post.post_id, post.author, post.images) == ("123", "ann.b_c", ["image/ann.b_c-9.jpg"])
    assert post.lost == [("missing_image", "ann.b_c-10.jpg")]
    assert post.sponsored is None


def test_instaloader_folder(tmp_path: Path) -> None:
    name = "2020-01-02_03-04-05_UTC"
    (tmp_path / f"{name}.json.xz").write_bytes(lzma.compress(json.dumps({"node": node(), "instaloader": {}}).encode()))
    (tmp_path / f"{name} (1).json").write_text("{}")  # a copy, or something else
    for i in (1, 2):
        (tmp_path / f"{name}_{i}.jpg").write_bytes(picture())
    found = parsed(Instagram(tmp_path))
    assert codes(found) == {f"{name} (1).json": "not_a_post"}
    post = found[f"{name}.json.xz"]
    assert isinstance(post, RawPost)
    assert (post.post_id, post.images) == ("77", [f"{name}_1.jpg", f"{name}_2.jpg"])


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="right folder"):
        Instagram(tmp_path)
    with pytest.raises(CorpusError, match="MVSA"):
        Mvsa(tmp_path)


# -------------------------------------------------------------------------------------------- mvsa


@pytest.mark.parametrize(
    ("pair", "wanted"),
    [
        (("positive", "positive"), "positive"),
        (("neutral", "negative"), "negative"),
        (("positive", "neutral"), "positive"),
        (("neutral", "neutral"), "neutral"),
        (("positive", "negative"), None),
        ((None, "positive"), None),
    ],
)
def test_merge_rule(pair: tuple[str | None, str | None], wanted: str | None) -> None:
    assert merge(*pair) == wanted


def test_mvsa_single_and_its_quirks(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in (1, 2, 3):
        (tmp_path / "data" / f"{i}.jpg").write_bytes(picture((i, 0, 0)))
    (tmp_path / "data" / "1.txt").write_text("RT fine day")
    (tmp_path / "data" / "2.txt").write_bytes("情感 day".encode("gb18030"))
    (tmp_path / "labelResultAll.txt").write_bytes(
        b"\xef\xbb\xbf\\ID\ttext,image\n1\tpositive,neutral\n2\tpositive,negative\n3\tneutral,neutral\n"
        b"4\tnonsense\n../../x\tpositive,positive\n"
    )
    found = parsed(Mvsa(tmp_path))
    posts = [one for one in found.values() if isinstance(one, RawPost)]
    assert [(p.post_id, p.gold["sentiment"]) for p in posts] == [("1", "positive"), ("2", None), ("3", "neutral")]
    assert posts[1].lost == [("label_conflict", "positive,negative")]
    assert posts[2].lost == [("missing_text", "data/3.txt")]
    assert codes(found) == {"labelResultAll.txt:5": "bad_line", "labelResultAll.txt:6": "outside_corpus"}
    accounting = ingest(Mvsa(tmp_path), Rules("x", b"k", "full"), posts=tmp_path / "p", problems=tmp_path / "q.parquet")
    assert accounting["source_rows"] == 5
    assert read(tmp_path / "p")["text"].to_pylist() == ["RT fine day", "情感 day", ""]


def test_mvsa_multiple_takes_the_majority(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "labelResultAll.txt").write_text(
        "ID\ttext,image\ttext,image\ttext,image\n"
        "1\tpositive,neutral\tpositive,neutral\tnegative,neutral\n"
        "2\tpositive,neutral\tneutral,neutral\tnegative,neutral\n"
    )
    posts = [one for one in parsed(Mvsa(tmp_path)).values() if isinstance(one, RawPost)]
    assert [p.gold["sentiment"] for p in posts] == ["positive", None]


# ------------------------------------------------------------------------------------------- table

COLUMNS = Columns(
    id="id", text="text", image="image", author="user", created_at="when", brands="brands", gold={"sentiment": "label"}
)
ROWS = [
    {
        "id": "a",
        "text": "one, two\nthree",
        "image": "a.jpg",
        "user": "u",
        "when": "2020-01-02T03:04:05Z",
        "brands": "Bee, Ant",
        "label": "positive",
    },
    {
        "id": "b",
        "text": "",
        "image": "['b.jpg', 'a.jpg']",
        "user": None,
        "when": 1577934245,
        "brands": None,
        "label": None,
    },
]


def test_table_from_csv_jsonl_and_parquet_is_the_same(tmp_path: Path) -> None:
    csv_path = tmp_path / "t.csv"
    csv_path.write_text(
        "id,text,image,user,when,brands,label\n"
        'a,"one, two\nthree",a.jpg,u,2020-01-02T03:04:05Z,"Bee, Ant",positive\n'
        "b,,\"['b.jpg', 'a.jpg']\",,1577934245,,\n"
    )
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    pq.write_table(pa.Table.from_pylist([{**row, "when": str(row["when"])} for row in ROWS]), tmp_path / "t.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        found = list(parsed(Table(tmp_path / f"t.{suffix}", None, COLUMNS)).values())
        a, b = found
        assert isinstance(a, RawPost), suffix
        assert isinstance(b, RawPost), suffix
        assert (a.post_id, a.text, a.images, a.brands) == ("a", "one, two\nthree", ["a.jpg"], ["Bee", "Ant"])
        assert a.gold == {"sentiment": "positive"}
        assert b.images == ["b.jpg", "a.jpg"]
        assert b.gold == {"sentiment": None}
        assert b.created_at == datetime.fromtimestamp(1577934245, UTC)


def test_table_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        "id,text\n1,fine\n2,too,many\n3,schön\n".encode()
        + "4,情感很好\n".encode("gb18030")
        + b',no id\n5,"open quote\n'
    )
    found = parsed(Table(path, None, Columns(image=None)))
    assert codes(found) == {"t.csv:3": "bad_line", "t.csv:6": "no_id"}
    texts = [one.text for one in found.values() if isinstance(one, RawPost)]
    assert texts == ["fine", "schön", "情感很好", '"open quote']
    lines = tmp_path / "t.jsonl"
    lines.write_bytes(b'{"id": 1, "text": "x"}\n{"id": 2, "te\n[1]\n{"id": 3, "text": null}\n')
    assert codes(parsed(Table(lines, None, Columns(image=None)))) == {"t.jsonl:2": "cut_json", "t.jsonl:3": "cut_json"}


def test_table_without_a_named_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,caption\n1,x\n")
    with pytest.raises(CorpusError, match=r"columns.text: no column 'text'; the file has: id, caption"):
        list(Table(path, None, Columns(image=None)).rows())
    with pytest.raises(CorpusError, match="not a table"):
        Table(tmp_path / "t.docx", None, COLUMNS)
