"""Pictures, tables and shards in object storage, on a real S3 server: as on a disk, and nothing taken for missing."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay import cli
from assay.buckets import Bucket, Root, Versions
from assay.config import Demo, TableCorpus
from assay.corpora import manifest, where
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.errors import CorpusError, ImageProblem, SettingsError
from assay.images import load_many
from assay.posts import read, shards
from assay.scoring import corpus as module
from tests.conftest import picture
from tests.test_scoring import corpus, model, score  # noqa: F401 - fixtures

moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket of the test's own, with a folder in it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    forget_connections()
    urllib.request.urlopen(urllib.request.Request(f"{s3}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{s3}/posts-of-a-test", method="PUT")).close()
    yield Bucket("s3://posts-of-a-test/folder")
    forget_connections()


def forget_connections() -> None:
    """fsspec keeps a file system by its options, with the endpoint of the test that made it."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder: Path, bucket: Bucket) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.write(path.relative_to(folder).as_posix(), path.read_bytes())


def raw(folder: Path) -> Path:
    """A table of posts with pictures: one is missing, one broken, one empty, one outside, one that no row names."""
    (folder / "photos").mkdir(parents=True)
    names = [f"photos/p {i}.jpg" for i in range(8)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(picture((20 * i, 40, 90)))
    (folder / names[2]).unlink()
    (folder / names[3]).write_bytes(b"no picture" * 9)
    (folder / names[4]).write_bytes(b"")
    (folder / "photos" / "large.png").write_bytes(picture(size=(900, 900), kind="PNG", compress_level=0))
    (folder / "notes.md").write_text("nothing that is read")
    names[5] = "photos/../../elsewhere.jpg"
    rows = [
        {"id": f"r{i}", "text": f"caption {i}", "image": name} for i, name in enumerate([*names, "photos/large.png"])
    ]
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def ingested(settings: TableCorpus, out: Path) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Figures, posts and problems of a corpus."""
    rules = Rules("c", b"k", settings.check_images)
    found = ingest(open_corpus(settings, Demo()), rules, posts=out / "posts", problems=out / "problems.parquet")
    import pyarrow.parquet as pq

    return found, read(out / "posts").to_pylist(), pq.read_table(out / "problems.parquet").to_pylist()


@pytest.mark.parametrize("check", ["none", "header", "full"])
def test_a_table_and_its_pictures_are_what_they_are_on_a_disk(check: Any, bucket: Bucket, tmp_path: Path) -> None:
    folder = raw(tmp_path / "raw")
    upload(folder, bucket)
    on_disk = TableCorpus(kind="table", path=str(folder / "posts.jsonl"), images_root=str(folder), check_images=check)
    stored = TableCorpus(kind="table", path=f"{bucket}/posts.jsonl", check_images=check)
    here, there = ingested(on_disk, tmp_path / "a"), ingested(stored, tmp_path / "b")
    assert here[0] == there[0]
    assert here[1] == there[1]
    plain = [[(p["source"], p["code"], p["post_id"]) for p in found[2]] for found in (here, there)]
    assert plain[0] == plain[1]
    assert here[0]["unread"]["total"] == 2  # the notes, and the picture that the row does not name
    assert {"r2", "r5"} <= {p["post_id"] for p in there[2]}


def test_a_folder_of_tables_with_pictures_elsewhere(bucket: Bucket, tmp_path: Path) -> None:
    folder = raw(tmp_path / "raw")
    upload(folder, bucket)
    both = Bucket(f"{bucket}/tables")
    lines = (folder / "posts.jsonl").read_text().splitlines(keepends=True)
    both.write("a.jsonl", "".join(lines[:4]).encode())
    both.write("b.jsonl", "".join(lines[4:]).replace("photos/p", f"{bucket}/photos/p").encode())
    settings = TableCorpus(kind="table", path=str(both), images_root=str(bucket))
    figures, rows, problems = ingested(settings, tmp_path / "out")
    assert [row["post_id"] for row in rows] == [f"r{i}" for i in range(9)]
    assert sum(len(row["images"]) for row in rows) == 5
    assert figures["files"].keys() == {"a.jsonl", "b.jsonl"}
    unread = sorted(p["source"] for p in problems if p["code"] == "unread_file")
    assert unread == [
        "notes.md",
        "photos/p 5.jpg",
        "posts.jsonl",
    ]


def test_a_manifest_sees_a_change_and_is_that_of_another_machine(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(raw(tmp_path / "raw"), bucket)
    settings = TableCorpus(kind="table", path=f"{bucket}/posts.jsonl")
    before = manifest.scan(where.places(settings))
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "another machine"))
    assert manifest.scan(where.places(settings)) == before
    bucket.write("photos/p 0.jpg", picture((1, 2, 3)))
    changed = manifest.scan(where.places(settings))
    assert changed["digest"] != before["digest"]
    table = bucket.read("posts.jsonl")
    bucket.write("posts.jsonl", table.replace(b"caption 0", b"caption X"))  # as long as before
    assert manifest.scan(where.places(settings))["digest"] != changed["digest"]


def test_names_that_look_like_patterns_and_odd_ones(bucket: Bucket) -> None:
    names = ["a[1].jpg", "b?.jpg", "c*.jpg", "d#e.jpg", "f%20g.jpg", "h i+j.jpg", "ä.jpg"]
    for name in names:
        bucket.write(name, name.encode())
    assert bucket.read_many(names) == [name.encode() for name in names]
    assert bucket.read_many(names[:1]) == [b"a[1].jpg"]
    assert sorted(file.relative for file in bucket.files()) == sorted(names)
    versions = Versions(bucket)
    assert all(versions[name] is not None and bucket.file(name).size for name in names)
    assert bucket.read_many(["./a[1].jpg", "no//../b?.jpg"])[0] == b"a[1].jpg"
    assert load_many(bucket, [["x" * 2000], ["\ud800.jpg"], ["data:image/png;base64," + "A" * 3000]], limit=1)[1].lost
    bucket.write("folder/one.jpg", b"1")
    with pytest.raises(FileNotFoundError):
        bucket.file("folder")


def test_a_folder_that_cannot_be_listed_is_no_empty_one(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.write("a.jpg", b"1")
    bucket.write("deep/b.jpg", b"2")
    files = bucket._there[0]
    listed = files.ls

    def ls(path: str, **given: Any) -> Any:
        if path.endswith("deep"):
            raise PermissionError("Access Denied")
        return listed(path, **given)

    monkeypatch.setattr(files, "ls", ls)
    with pytest.raises(SettingsError, match="no right to it"):
        list(bucket.files())


def test_listings_of_many_folders_and_versions(bucket: Bucket) -> None:
    names = [f"im/{i % 7}/deep/{i}.jpg" for i in range(40)]
    for name in names:
        bucket.write(name, name.encode())
    assert sorted(file.relative for file in bucket.files()) == sorted(names)
    versions = Versions(bucket)
    assert all(versions[name] is not None for name in names)
    assert versions["im/0/deep/nothing.jpg"] is None
    before = versions[names[3]]
    bucket.write(names[3], b"another")
    assert Versions(bucket)[names[3]] != before
    assert Versions(bucket)[names[4]] == versions[names[4]]
    got = bucket.read_many([names[0], "gone", "../out", names[1], names[0]])
    assert [one if isinstance(one, bytes) else type(one) for one in got] == [
        names[0].encode(),
        FileNotFoundError,
        ImageProblem,
        names[1].encode(),
        names[0].encode(),
    ]


# ----------------------------------------------------------------------------------------- scoring


def rows_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in shards(folder)]


def test_a_corpus_is_scored_from_a_bucket_as_from_a_disk_and_a_new_picture_costs_its_shard(
    model: Path,  # noqa: F811
    corpus: Path,  # noqa: F811
    drawn: Path,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score(model, corpus, drawn, tmp_path / "here")
    upload(drawn, bucket)
    stored: Root = bucket
    score(model, corpus, stored, tmp_path / "there")  # type: ignore[arg-type]
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    again: list[int] = []
    real = module.score_shard

    def counted(predictor: Any, place: Any, shard: Any, tick: Any) -> Any:
        again.append(shard.number)
        return real(predictor, place, shard, tick)

    monkeypatch.setattr(module, "score_shard", counted)
    named = next(path for path in read(corpus, ["images"])["images"].to_pylist()[190] if (drawn / path).is_file())
    bucket.write(named, picture((9, 9, 9)))
    score(model, corpus, stored, tmp_path / "there")  # type: ignore[arg-type]
    assert again == [3]


@pytest.mark.slow
def test_workers_get_posts_and_give_shards_by_object_storage(
    model: Path,  # noqa: F811
    corpus: Path,  # noqa: F811
    drawn: Path,
    bucket: Bucket,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    whole = score(model, corpus, drawn, tmp_path / "whole")
    upload(drawn, bucket)
    shared = {"engine": "ray", "cpus": 1, "share": f"{bucket}/share"}
    read_here = module.score_shard  # the driver itself scores nothing
    monkeypatch.setattr(module, "score_shard", None)
    forget(home)
    assert score(model, corpus, bucket, tmp_path / "ray", **shared) == whole  # type: ignore[arg-type]
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "whole")
    there = [file.relative for file in Bucket(f"{bucket}/share").files()]
    assert sum(name.startswith("posts/") for name in there) == 5
    assert sum(name.startswith("predictions/") for name in there) == 5
    forget(home)  # the driver's disk is gone: what workers finished is still there, and no cluster is asked
    assert score(model, corpus, bucket, tmp_path / "again", **shared | {"cpus": 9999}) == whole  # type: ignore[arg-type]
    assert rows_of(tmp_path / "again") == rows_of(tmp_path / "whole")
    assert read_here is not None


def forget(home: Path) -> None:
    for path in (home / "inference").iterdir():
        path.unlink()


def test_predict_takes_tables_and_pictures_from_a_bucket(
    model: Path,  # noqa: F811
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = raw(tmp_path / "raw")
    upload(folder, bucket)

    def said(*words: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["assay", "predict", "--model", str(model), *words])
        cli.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    here = said(str(folder / "posts.jsonl"), "--images-root", str(folder))
    there = said(f"{bucket}/posts.jsonl", "--images-root", str(bucket))
    assert len(there) == 9
    for one, other in zip(here, there, strict=True):
        assert one.get("value") == pytest.approx(other.get("value"), abs=1e-4)  # another batch, another last digit
        assert (one["id"], one["status"]) == (other["id"], other["status"])
    for words, message in {
        ("--follow", f"{bucket}/posts.jsonl"): "cannot be watched",
        (f"{bucket}/photos",): "allowed in object storage: a table",
        (f"{bucket}/gone.csv",): "gone.csv: not there",
        (f"{bucket}/posts.jsonl", "--out", f"{bucket}/out.jsonl"): "allowed: a file of this machine",
    }.items():
        with pytest.raises(SystemExit):
            said(*words)
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- bad input


@pytest.fixture
def locked(s3: str) -> Iterator[Callable[[], None]]:
    """Lets the server ask for rights from now on, which nobody has."""

    def send(count: str) -> None:
        request = urllib.request.Request(f"{s3}/moto-api/reset-auth", data=count.encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        urllib.request.urlopen(request).close()

    yield lambda: send("0")
    send("1000000")


def test_a_bucket_without_rights_ends_the_run_and_takes_nothing_for_missing(
    bucket: Bucket, tmp_path: Path, locked: Callable[[], None]
) -> None:
    upload(raw(tmp_path / "raw"), bucket)
    settings = TableCorpus(kind="table", path=str(tmp_path / "raw" / "posts.jsonl"), images_root=str(bucket))
    layout = open_corpus(settings, Demo())
    locked()
    rights = r"s3://posts-of-a-test/folder/.*: no right to it .*AWS_ACCESS_KEY_ID"
    for work in (
        lambda: ingest(layout, Rules("c", b"k"), posts=tmp_path / "p", problems=tmp_path / "q.parquet"),
        lambda: load_many(bucket, [["photos/p 0.jpg"], ["photos/p 1.jpg"]], limit=4),
        lambda: Bucket(f"{bucket}/").fetched(["posts.jsonl"]),
    ):
        with pytest.raises(SettingsError, match=rights) as error:
            work()
        assert "\n" not in str(error.value)
        assert "a secret" not in str(error.value)


def test_what_is_no_storage_is_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="nosuch"):
        Bucket("nosuch://bucket/folder").read("a")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SettingsError, match=r"gs:// is not installed; pip install -e '.*\[gs\]'"):
        Bucket("gs://bucket/folder").read("a")
    with pytest.raises(CorpusError, match="empty, or not there"):
        where.ensure(TableCorpus(kind="table", path=__file__, images_root=f"{bucket}/nothing"), Demo())
    with pytest.raises(CorpusError, match=r"posts\.csv: not there"):
        where.places(TableCorpus(kind="table", path=f"{bucket}/posts.csv"))
    with pytest.raises(SettingsError, match="only a table"):
        where.corpus_root("s3://bucket/instagram")
