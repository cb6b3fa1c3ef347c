"""Labelled meme and tweet corpora, and data sets of the hub library: official splits, gold labels, broken rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.config import Columns, Demo, HubCorpus, Mmhs150kCorpus
from assay.corpora.hateful_memes import HatefulMemes
from assay.corpora.hub import export_folder
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.corpora.mmhs150k import Mmhs150k, hateful, majority, open_layout
from assay.corpora.table import FILE, Table
from assay.errors import CorpusError, RowError
from assay.posts import read
from tests.conftest import picture
from tests.test_corpora import codes, parsed

# ---------------------------------------------------------------------------------------- MMHS150K


@pytest.mark.parametrize(
    ("votes", "names", "most"),
    [
        ([0, 0, 1], [], "not_hate"),
        ([0, 1, 1], ["racist"], "racist"),
        ([2, 5, 2], ["sexist", "otherhate"], "sexist"),
        ([3, 4, 5], ["homophobe", "religion", "otherhate"], None),
        ([0, 0, 1, 1], [], None),
        ([0], [], "not_hate"),
        ([1, 2, 3, 4, 5], ["racist", "sexist", "homophobe", "religion", "otherhate"], None),
    ],
)
def test_codes_mean_what_the_data_set_says(votes: list[int], names: list[str], most: str | None) -> None:
    """All six codes; a public reader is off by one and takes 0 for racist."""
    assert hateful(votes) == names
    assert majority(votes) == most


@pytest.fixture
def mmhs(tmp_path: Path) -> Path:
    entries: dict[str, Any] = {
        str(i): {"labels": [0, code, code], "tweet_text": f"text {i} https://t.co/abc{i}", "labels_str": []}
        for i, code in enumerate([0, 1, 2, 3, 4, 5])
    }
    entries["6"] = {"labels": [7, 0, 0], "tweet_text": "a code that does not exist"}
    entries["7"] = {"tweet_text": "no labels"}
    entries["8"] = {"labels": [], "tweet_text": "nobody voted"}
    (tmp_path / "MMHS150K_GT.json").write_text(json.dumps(entries))
    for folder in ("splits", "img_resized", "img_txt"):
        (tmp_path / folder).mkdir()
    (tmp_path / "splits" / "train_ids.txt").write_text("0\n1\n2\n")
    (tmp_path / "splits" / "val_ids.txt").write_text("3\n4\n")
    (tmp_path / "splits" / "test_ids.txt").write_text("5\n")
    (tmp_path / "img_resized" / "1.jpg").write_bytes(picture())
    (tmp_path / "img_txt" / "1.json").write_text(json.dumps({"img_text": "WORDS IN IT"}))
    return tmp_path


def test_mmhs_raw_release(mmhs: Path) -> None:
    found = parsed(Mmhs150k(mmhs, ocr=True))
    assert codes(found) == {"MMHS150K_GT.json:6": "bad_line", "MMHS150K_GT.json:7": "bad_line"}
    posts = {source.split(":")[1]: post for source, post in found.items() if not isinstance(post, RowError)}
    assert posts["1"].text == "text 1\nWORDS IN IT"
    assert posts["0"].text == "text 0"
    assert [posts[str(i)].gold["hateful"] for i in range(6)] == [
        "[]",
        '["racist"]',
        '["sexist"]',
        '["homophobe"]',
        '["religion"]',
        '["otherhate"]',
    ]
    assert posts["8"].gold["hateful"] is None
    assert [posts[str(i)].split for i in (0, 3, 5, 8)] == ["train", "val", "test", None]
    assert posts["1"].images == ["img_resized/1.jpg"]


def test_mmhs_splits_that_overlap_are_refused(mmhs: Path) -> None:
    (mmhs / "splits" / "test_ids.txt").write_text("0\n1\n2\n")
    with pytest.raises(CorpusError, match=r"3 of 3 ids stand in train_ids\.txt too"):
        Mmhs150k(mmhs, ocr=False)


def test_mmhs_table_form(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(picture())
    (tmp_path / "train.csv").write_text('text,image_path,labels\nhello,1.jpg,"sexist,otherhate"\nplain,2.jpg,\n')
    (tmp_path / "test.csv").write_text("text,image_path,labels\nx,3.jpg,nonsense\ny,,racist\n")
    layout = open_layout(Mmhs150kCorpus(kind="mmhs150k", path="x"), [tmp_path])
    found = parsed(layout)
    one, two = found["train.csv:2"], found["train.csv:3"]
    assert not isinstance(one, RowError)
    assert not isinstance(two, RowError)
    assert (one.post_id, one.gold["hateful"], one.split) == ("1", '["sexist", "otherhate"]', "train")
    assert two.gold["hateful"] == "[]"
    assert codes(found) == {"test.csv:2": "bad_line", "test.csv:3": "no_id"}
    rules = Rules("m", b"k", "header")
    counts = ingest(layout, rules, posts=tmp_path / "posts", problems=tmp_path / "p.parquet")
    assert counts["source_rows"] == counts["posts"] + counts["dropped"]["total"] == 4
    (tmp_path / "test.csv").write_text("text,image,labels\nx,3.jpg,racist\n")
    with pytest.raises(CorpusError, match="needs the columns text, image_path, labels"):
        parsed(open_layout(Mmhs150kCorpus(kind="mmhs150k", path="x"), [tmp_path]))


# ----------------------------------------------------------------------------------- Hateful Memes


def test_hateful_memes_phase_one_and_lines_that_are_no_json(tmp_path: Path) -> None:
    lines = [
        '{"id":42,"img":"img\\/00042.png","label":1,"text":"a"}',
        '{"id":43,"img":"img/00043.png","label":0,"text":"say "hi""}',
        '{"id":44,"img":"img/00044.png","label":0,"text":"b"}{"id":45,"img":"x","label":0,"text":"c"}',
        "",
        '{"img":"img/00046.png","label":0,"text":"no id"}',
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "test.jsonl").write_text('{"id":1726,"img":"img/01726.png","text":"no label"}\n')
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "00042.png").write_bytes(picture())  # JPEG bytes under a PNG's name
    layout = HatefulMemes(tmp_path)
    found = parsed(layout)
    assert layout.gold == ("label", "hateful")
    assert codes(found) == {"train.jsonl:2": "bad_line", "train.jsonl:3": "bad_line", "train.jsonl:5": "no_id"}
    first, last = found["train.jsonl:1"], found["test.jsonl:1"]
    assert not isinstance(first, RowError)
    assert not isinstance(last, RowError)
    assert (first.post_id, first.images, first.gold) == (
        "00042",
        ["img/00042.png"],
        {"label": "1", "hateful": '["hateful"]'},
    )
    assert last.gold == {"label": None, "hateful": None}
    assert last.split == "test"
    counts = ingest(layout, Rules("h", b"k", "full"), posts=tmp_path / "posts", problems=tmp_path / "p.parquet")
    assert (counts["source_rows"], counts["posts"], counts["dropped"]["total"]) == (5, 2, 3)


def test_hateful_memes_phase_two_and_fine_grained(tmp_path: Path) -> None:
    def line(number: int, **more: Any) -> str:
        return json.dumps({"id": f"{number:05d}", "img": f"img/{number:05d}.png", "text": f"t {number}", **more}) + "\n"

    (tmp_path / "train.jsonl").write_text(
        line(1, gold_hate=["hateful"], gold_pc=["religion"], gold_attack=["mocking"])
        + line(2, gold_hate=["not_hateful"], gold_pc=["pc_empty"], gold_attack="None")
    )
    (tmp_path / "dev_seen.jsonl").write_text(line(3, label=0))
    (tmp_path / "dev_unseen.jsonl").write_text(line(3, label=0) + line(4, label=1))
    layout = HatefulMemes(tmp_path)
    assert layout.gold == ("label", "hateful", "pc", "attack")
    counts = ingest(layout, Rules("h", b"k", "none"), posts=tmp_path / "posts", problems=tmp_path / "p.parquet")
    assert counts["dropped"]["duplicate_id"] == 1
    rows = {row["post_id"]: row for row in read(tmp_path / "posts").to_pylist()}
    assert {i: r["split"] for i, r in rows.items()} == {
        "00001": "train",
        "00002": "train",
        "00003": "dev_seen",
        "00004": "dev_unseen",
    }
    assert rows["00001"]["gold_pc"] == '["religion"]'
    assert rows["00002"]["gold_pc"] == rows["00002"]["gold_attack"] == "[]"
    with pytest.raises(CorpusError, match=r"none of train\.jsonl"):
        HatefulMemes(tmp_path / "img_nowhere")


def test_a_table_takes_its_split_from_a_column_or_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": "1", "text": "a", "part": "x"}\n')
    (tmp_path / "test.jsonl").write_text('{"id": "2", "text": "b", "part": "y"}\n')
    by_file = parsed(Table(tmp_path, None, Columns(image=None, split=FILE)))
    by_column = parsed(Table(tmp_path, None, Columns(image=None, split="part")))
    assert [p.split for p in by_file.values() if not isinstance(p, RowError)] == ["test", "train"]
    assert [p.split for p in by_column.values() if not isinstance(p, RowError)] == ["y", "x"]


# --------------------------------------------------------------------------------------------- hub


def _pictures() -> list[Image.Image]:
    return [Image.open(io.BytesIO(picture((40 * i, 20, 90)))) for i in range(4)]


def test_a_data_set_of_the_hub_library_from_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr("assay.corpora.hub.corpus_root", lambda path: tmp_path / path)
    features = datasets.Features(
        {
            "caption": datasets.Value("string"),
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=["calm", "loud"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["red", "blue"])),
        }
    )
    rows = {
        "caption": ["one", "two", "three", "four"],
        "photo": _pictures(),
        "kind": [0, 1, 1, -1],
        "tags": [[0], [], [0, 1], [1]],
    }
    whole = datasets.Dataset.from_dict(rows, features=features)
    both = datasets.DatasetDict({"train": whole.select([0, 1, 2]), "validation": whole.select([3])})
    both.save_to_disk(str(tmp_path / "set"))
    columns = Columns(text="caption", image="photo", gold={"kind": "kind", "tags": "tags"})
    corpus = HubCorpus(kind="hub", path="set", columns=columns)
    layout = open_corpus(corpus, Demo())
    counts = ingest(layout, Rules("h", b"k", "full"), posts=tmp_path / "posts", problems=tmp_path / "p.parquet")
    assert counts["posts"] == counts["source_rows"] == 4
    found = read(tmp_path / "posts").to_pylist()
    assert [row["split"] for row in found] == ["train", "train", "train", "validation"]
    assert [row["gold_kind"] for row in found] == ["calm", "loud", "loud", None]
    assert found[2]["gold_tags"] == '["red", "blue"]'
    assert all(len(row["images"]) == 1 for row in found)
    before = (export_folder(corpus) / "posts.jsonl").stat().st_mtime_ns
    open_corpus(corpus, Demo())
    assert (export_folder(corpus) / "posts.jsonl").stat().st_mtime_ns == before  # written out once


@pytest.mark.parametrize(
    ("path", "columns", "message"),
    [
        ("no-one/no-such-data-set", Columns(), "no-one/no-such-data-set: cannot be loaded"),
        ("set", Columns(text="capton", image=None), "columns.text: no column 'capton'; it has: caption"),
    ],
)
def test_hub_names_and_columns_that_do_not_exist(
    path: str, columns: Columns, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr("assay.corpora.hub.corpus_root", lambda path: tmp_path / path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.Dataset.from_dict({"caption": ["a"]}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(CorpusError, match=message) as caught:
        open_corpus(HubCorpus(kind="hub", path=path, columns=columns), Demo())
    assert "\n" not in str(caught.value)
