"""The web page in a real browser: post, corpus and comparison, wide and narrow, with hostile content."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from assay.config import LabelsTarget
from assay.errors import CorpusError, DataError, RowError
from assay.measure.csvfile import write_csv
from assay.measure.findings import brand_table, findings
from assay.posts import read, schema, write_table
from assay.sampling import sample_schema
from assay.scoring.prediction import prediction_schema
from assay.serve.options import Options, posts_shown
from assay.serve.page.corpus import Query, ScoredCorpus
from assay.serve.page.given import MOST_POSTS, File, Given, read_apart, read_given
from assay.teacher.corrections import keep
from assay.teacher.quality import read_humans
from tests.conftest import ROOT, picture
from tests.estimators import estimator, posts_of
from tests.serving import BIAS, KEY, MOODS, Server, make_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LABELS = LabelsTarget(kind="labels", names=["x", "y", "z"])
HOSTILE = '<img src=x onerror="document.title=1"> <script>document.title=2</script> caption'


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two models, and a scored corpus of 60 posts with pictures."""
    root = tmp_path_factory.mktemp("page") / "work"
    make_model(root / "models" / "sentiment", MOODS, {"set_q90": 0.8})
    make_model(root / "models" / "gender_bias", BIAS, {"residual_q90": 2.0})
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw = root / "raw"
    raw.mkdir()
    params["corpora"]["demo"]["path"] = str(raw)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    rng = np.random.default_rng(1)
    posts: list[dict[str, Any]] = []
    for i in range(60):
        (raw / f"{i}.jpg").write_bytes(picture((4 * i, 90, 200 - 3 * i)))
        row: dict[str, Any] = {field.name: None for field in schema()} | {
            "hashtags": [],
            "mentions": [],
            "image_sig": [],
        }
        text = HOSTILE if i == 7 else f"post number {i} about the {['sea', 'city'][i % 2]}"
        own = {
            "post_id": str(i),
            "text": text,
            "images": [f"{i}.jpg"],
            "brands": [["Aldo", "Zed & <b>Sons</b>"][i % 2]],
        }
        posts.append(row | own)
    for half, name in ((posts[:35], "part-00000.parquet"), (posts[35:], "part-00001.parquet")):
        write_table(pa.Table.from_pylist(half, schema=schema()), root / "data/corpora/demo/posts" / name)
    for task, target in (("sentiment", MOODS), ("gender_bias", BIAS)):
        rows = []
        for i in range(60):
            shares = rng.dirichlet(np.ones(3)).tolist()
            value = round(i / 6, 3) if task == "gender_bias" else MOODS.names[int(np.argmax(shares))]
            shown = None if task == "gender_bias" else shares
            rows.append({"post_id": str(i), "status": "ok", "value": value, "probabilities": shown, "in_train": False})
        table = pa.Table.from_pylist(rows, schema=prediction_schema(target))
        write_table(table.slice(0, 35), root / "data/predictions" / task / "part-00000.parquet")
        write_table(table.slice(35), root / "data/predictions" / task / "part-00001.parquet")
        values, brands = table["value"].to_pylist(), [post["brands"] for post in posts]
        labels = [value if i < 40 else None for i, value in enumerate(values)]
        est = estimator(values, labels, target, p=2 / 3, brands=brands)
        named, rankings = brand_table(est, posts_of(60, brands=brands), min_posts=5)
        told = findings(est, table, named, rankings, min_posts=5)
        folder = root / "metrics" / task
        folder.mkdir(parents=True)
        (folder / "findings.json").write_text(json.dumps(told))
        write_csv(named, folder / "brands.csv")
        judged(task, target, root, posts[:40], labels[:40])
    return root


def judged(task: str, target: Any, root: Path, posts: list[dict[str, Any]], labels: list[Any]) -> None:
    """What evaluate and sample write of labelled posts: post i has weight 1 + i % 3 and the error i / 10."""
    truth = [[float(target.groups.index(one))] if isinstance(one, str) else [one] for one in labels]
    said = ["positive" if isinstance(one, str) else 5.0 for one in labels]
    ids = [post["post_id"] for post in posts]
    told = {"post_id": ids, "student": said, "truth": truth}
    told |= {"error": [i / 10 for i in range(len(ids))], "weight": [1.0 + i % 3 for i in range(len(ids))]}
    write_table(pa.table(told), root / "metrics" / task / "errors.parquet")
    rows = [dict.fromkeys(sample_schema(()).names) | {"inclusion_p": 0.5, "stratum": "all"} for _ in posts]
    for i, (row, post) in enumerate(zip(rows, posts, strict=True)):
        row |= {"post_id": post["post_id"], "text": post["text"], "brands": post["brands"], "image_sig": [], "lost": []}
        row |= {"images": [picture((4 * i, 90, 200))], "image_hashes": ["x"]}
    sample = pa.Table.from_pylist(rows, schema=sample_schema(()))
    write_table(sample, root / "data/sample" / task / "part-00000.parquet")


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = [word for name in ("sentiment", "gender_bias") for word in ("--model", str(repository / "models" / name))]
    found = Server(tmp_path_factory.mktemp("page-home") / "home", *models, "--max-pixels", "10000000", keys=None)
    yield found
    found.stop()


def opened(browser: Browser, url: str, width: int = 1280) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(url)
    page.wait_for_selector("#score", timeout=60_000)
    return page


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def looks_drawn(page: Page) -> bool:
    """A screenshot of the whole page has many colours and more than its ground."""
    found = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    colours = found.getcolors(2**24) or []
    return len(colours) > 200 and max(n for n, _ in colours) < 0.97 * found.width * found.height


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_post_is_uploaded_scored_and_explained(server: Server, browser: Browser, tmp_path: Path, width: int) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(size=(400, 300)))
    page = opened(browser, server.url, width)  # the root leads to the page
    assert page.url.rstrip("/").endswith("/ui")
    page.set_input_files("input[type=file] >> nth=0", tmp_path / "a.jpg")
    page.get_by_label("Caption").first.fill(HOSTILE)
    page.wait_for_selector("#score:enabled")
    page.wait_for_timeout(1000)  # the upload
    page.click("#score")
    page.wait_for_selector("#result .a-answer", timeout=30_000)
    said = page.locator("#result").inner_text()
    assert any(name in said for name in MOODS.names)
    assert "text and picture" in said
    assert "90 % set" in said
    page.wait_for_selector("#why .a-words", timeout=60_000)
    assert "caption" in page.locator("#why .a-words").inner_text()
    assert page.locator("#why img.a-heat").count() == 1
    assert page.title() == "assay"  # nothing of the caption ran
    assert page.locator("#why script, #why .a-words img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert looks_drawn(page)
    page.close()


def test_what_cannot_be_scored_is_said(server: Server, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"this is no picture at all")
    page = opened(browser, f"{server.url}/ui/")
    page.click("#score")
    page.wait_for_selector("#result .a-refused", timeout=30_000)
    assert "a text, a picture or both" in page.locator("#result").inner_text()
    page.set_input_files("input[type=file] >> nth=0", tmp_path / "no.jpg")
    page.wait_for_timeout(1000)
    page.click("#score")
    page.wait_for_function("document.querySelector('#result').innerText.includes('not a picture')", timeout=30_000)
    assert page.locator("#why .a-card").count() == 0
    page.close()


def test_a_score_has_its_interval(server: Server, browser: Browser) -> None:
    page = opened(browser, f"{server.url}/ui/")
    choose(page, "Model", "gender_bias")
    page.get_by_label("Caption").first.fill("calm sea")
    page.click("#score")
    page.wait_for_selector("#result .a-scale", timeout=30_000)
    said = page.locator("#result").inner_text()
    assert "90 % interval" in said
    assert "text alone" in said
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_corpus_is_browsed(server: Server, browser: Browser, width: int) -> None:
    page = opened(browser, f"{server.url}/ui/", width)
    page.get_by_role("tab", name="Corpus").click()
    page.wait_for_selector("#findings .a-brands", timeout=30_000)
    page.wait_for_selector("#posts article", timeout=30_000)  # as it opens, before anything is touched
    assert page.locator("#posts article").count() == 15
    assert page.get_by_text("Error", exact=True).count() == 0
    assert "Zed & <b>Sons</b>" in page.locator("#findings").inner_text()
    assert page.locator("#findings .a-brands small").count() == 2  # two brands, each with its interval
    choose(page, "Question", "gender_bias")
    page.wait_for_function("document.querySelector('#posts').innerText.includes('9.83')", timeout=30_000)
    assert "mean score" in page.locator("#findings").inner_text()
    page.locator("#words textarea, #words input").first.fill("city number")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#a-count').innerText.startsWith('29 ')", timeout=30_000)
    page.locator("#words textarea, #words input").first.fill("caption")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#a-count').innerText.startsWith('1 ')", timeout=30_000)
    assert "onerror" in page.locator("#posts article").inner_text()
    assert page.locator("#posts article img").count() == 1  # the thumbnail, nothing of the text
    assert page.title() == "assay"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert looks_drawn(page)
    page.close()


def codes(repository: Path, task: str) -> list[str]:
    path = repository / "human" / f"{task}.csv"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_label_is_corrected_and_kept_with_name_and_time(
    server: Server, browser: Browser, repository: Path, width: int
) -> None:
    """The posts come by weight times error; what is kept is what Label Studio's import would have written."""
    task = "sentiment" if width == 1280 else "gender_bias"
    shutil.rmtree(repository / "human", ignore_errors=True)
    page = opened(browser, server.url, width)
    page.get_by_role("tab", name="Review").click()
    page.wait_for_selector("#review .a-review", timeout=30_000)
    if task == "gender_bias":
        page.locator("#review-question input").click()
        page.get_by_role("option", name="gender_bias", exact=True).click()
        page.wait_for_selector("#review dd:has-text('of 10')", timeout=30_000)
    first = max(range(40), key=lambda i: (1 + i % 3) * i / 10)
    page.wait_for_selector(f"#review .a-foot:has-text('post {first};')")
    if task == "sentiment":
        page.locator("#right-name").get_by_label("neutral", exact=True).check()
    else:
        page.locator("#right-number input[type=number]").fill("7.5")
    page.click("#keep")
    page.wait_for_selector("#review .a-warn:has-text('say who you are')", timeout=30_000)
    assert codes(repository, task) == []
    page.get_by_label("Your name or number").fill("anna")
    page.click("#keep")  # the answer is still there
    page.wait_for_selector("#review [role=status]:has-text('Kept.')", timeout=30_000)
    lines = codes(repository, task)
    assert lines[0] == "post_id,coder,value,p,at"
    assert re.fullmatch(rf"{first},anna,{'neutral' if task == 'sentiment' else '7.5'},,20\d\d-[-\dT:]+Z", lines[1])
    second = page.inner_text("#review .a-foot")
    page.click("#skip")
    page.wait_for_function("before => document.querySelector('#review .a-foot').textContent !== before", arg=second)
    page.get_by_label("A post by its id").fill("7")
    page.get_by_label("A post by its id").press("Enter")
    page.wait_for_selector("#review .a-foot:has-text('post 7;')", timeout=30_000)
    assert page.title() not in ("1", "2"), "a hostile caption stays text"
    page.click("#agree")
    page.wait_for_selector("#review .a-foot:has-text('2 posts were coded')", timeout=30_000)
    assert any(line.startswith("7,anna,") for line in codes(repository, task))
    page.get_by_label("A post by its id").fill("59")
    page.get_by_label("A post by its id").press("Enter")
    page.wait_for_selector("#review .a-refused:has-text('has no label')", timeout=30_000)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert looks_drawn(page)
    page.close()


def test_corrections_of_many_pages_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "human" / "t.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: keep(path, MOODS, f"p{i % 10}", f"c{i // 10}", "neutral"), range(40)))
    known = read_humans(path, MOODS)
    assert sum(map(len, known.values())) == 40
    keep(path, MOODS, "p0", "c0", "negative")
    assert read_humans(path, MOODS)["p0"]["c0"] == "negative"
    wrong = ("", "neutral", "say who you are"), ("=1+1", "neutral", "say who"), ("a", "nothing", "nothing")
    for coder, value, why in wrong:
        with pytest.raises((DataError, RowError), match=why):
            keep(path, MOODS, "p1", coder, value)
    assert sum(map(len, read_humans(path, MOODS).values())) == 40
    for value in (["x", "z"], []):
        keep(tmp_path / "l.csv", LABELS, "p", "c", value)
        assert read_humans(tmp_path / "l.csv", LABELS)["p"]["c"] == value


@pytest.mark.parametrize("width", [1280, 390])
def test_a_table_with_a_folder_of_pictures_is_scored(
    server: Server, browser: Browser, tmp_path: Path, width: int
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = ["nr;Beitrag text;Bild;note"]
    for i in range(40):
        rows.append(
            f"{i};{HOSTILE if i == 3 else '=1+1 said somebody' if i == 4 else f'a day by the sea {i}'};p{i}.jpg;n"
        )
        if i != 5:
            (pictures / f"p{i}.jpg").write_bytes(b"none" if i == 6 else picture((5 * i, 80, 120), kind="JPEG"))
    rows += ["40;;p0.jpg;n", "41;;;n", '42;;"[""p1.jpg"", ""p6.jpg""]";n']
    for i in range(6):  # together more pixels than a request may have
        Image.new("1", (3000, 3000)).save(pictures / f"big{i}.png")
        rows.append(f"{43 + i};a wide view of the sea;big{i}.png;n")
    (tmp_path / "posts.csv").write_text("\n".join(rows), encoding="cp1252")
    page = opened(browser, server.url, width)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.get_by_role("tab", name="Many", exact=True).click()
    page.locator("#table input[type=file]").set_input_files(tmp_path / "posts.csv")
    page.locator("#folder input[type=file]").set_input_files(pictures)
    page.wait_for_function("document.querySelectorAll('#folder tr.file').length == 45", timeout=30_000)
    page.wait_for_selector("#table tr.file")
    page.click("#score-all")
    page.wait_for_selector("#many .a-many", timeout=60_000)
    said = page.locator("#many").inner_text()
    assert "texts in column 'Beitrag text' and pictures in column 'Bild'" in said
    assert "44 text and picture" in said
    assert "2 text alone" in said
    assert "2 picture alone" in said
    assert "1 failed" in said
    assert "missing_image: p5.jpg" in said
    assert page.locator("#many script, #many img").count() == 0
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["nr"] for row in found] == [str(i) for i in range(49)]
    assert found[3]["Beitrag text"] == HOSTILE
    assert found[4]["Beitrag text"] == "'=1+1 said somebody"  # no formula
    assert all(row["assay_sentiment"] in MOODS.names for row in found[:41])
    assert found[6]["assay_sentiment_status"] == "text_only"
    assert found[6]["assay_sentiment_reason"].startswith("undecodable_image: ")
    assert (found[41]["assay_sentiment_status"], found[41]["assay_sentiment"]) == ("failed", "")
    assert found[41]["assay_sentiment_reason"].startswith("no_content: ")
    assert found[42]["assay_sentiment_status"] == "image_only"  # by the picture that can be read
    assert found[42]["assay_sentiment_reason"].startswith("undecodable_image: p6.jpg: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "assay"
    assert faults == []
    page.close()


def test_an_upload_that_cannot_be_used_is_said_and_a_run_can_be_stopped(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    page = opened(browser, server.url)
    page.get_by_role("tab", name="Many", exact=True).click()
    page.click("#score-all")
    page.wait_for_selector("#many .a-refused", timeout=30_000)
    assert "nothing was uploaded" in page.locator("#many").inner_text()
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    page.locator("#table input[type=file]").set_input_files(tmp_path / "numbers.csv")
    page.wait_for_selector("#table tr.file")
    page.click("#score-all")
    page.wait_for_function("document.querySelector('#many').innerText.includes('neither texts nor')", timeout=30_000)
    assert "/tmp" not in page.locator("#many").inner_text()  # nor where it lies here
    page.locator("#table button[aria-label=Clear]").click()
    long = "\n".join(["text", *(f"a long walk along the sea and back again number {i}" for i in range(4000))])
    (tmp_path / "long.csv").write_text(long)
    page.locator("#table input[type=file]").set_input_files(tmp_path / "long.csv")
    page.wait_for_selector("#table tr.file")
    page.click("#score-all")
    page.wait_for_selector("#many [role=progressbar]", timeout=30_000)
    page.click("#stop-all")
    page.wait_for_function("document.querySelector('#many').innerText.includes('Stopped')", timeout=30_000)

    def scored() -> float:
        found = re.findall(r"^assay_posts_total\{.*?\} (\S+)", server.http.get("/metrics").text, re.MULTILINE)
        return sum(map(float, found))

    until, before = time.monotonic() + 30, scored()
    while True:  # what was in work comes to its end, and nothing more
        time.sleep(1)
        now = scored()
        if now == before:
            break
        assert time.monotonic() < until
        before = now
    assert now < 4000
    page.close()


def test_what_is_given_as_many_posts(tmp_path: Path) -> None:
    def given(name: str, text: str, *pictures: str) -> Given:
        (tmp_path / name).write_text(text)
        return read_given(File(name, tmp_path / name), [File(one, tmp_path / str(i)) for i, one in enumerate(pictures)])

    alone = read_given(None, [File("2.jpg", tmp_path / "2"), File("1.jpg", tmp_path / "1"), File("1.jpg", tmp_path)])
    assert [row.cells["picture"] for row in alone.rows] == ["1.jpg", "1.jpg (2)", "2.jpg"]
    lines = '{"caption": "by the sea again", "image": "1.jpg"}\n{"caption":\n'
    assert "several" in given("a.jsonl", lines, "1.jpg", "1.jpg").rows[0].lost[0]  # of one name
    assert given("a.jsonl", lines, "1.jpg").rows[1].lost[0].startswith("cut_json: line 2")
    lines = "".join(f'{{"caption": "by the sea again", "image": "{place}/1.jpg"}}\n' for place in ("cats", "dogs"))
    assert "several" in given("b.jsonl", lines, "1.jpg").rows[0].lost[0]  # cat or dog?
    found = given("c.jsonl", lines.splitlines()[0], "1.jpg", "2.jpg")
    assert found.rows[0].pictures == [tmp_path / "0"]
    assert "no row names 1 of the pictures" in found.said
    found = given("d.csv", "text,note,note,\na long day by the sea,one,two,7\nanother day by the sea,,,8\n")
    assert found.columns == ["text", "note", ""]
    assert "duplicate_column: note" in found.rows[0].lost[0]
    assert found.rows[1].lost == []  # the column without a name is no picture
    assert given("e.csv", "id,text\n1,Great!\n2,Awful\n").rows[0].text == "Great!"
    odd = given("f.jsonl", '{"caption": "a day \\ud83d by the sea", "image": {"bytes": "x"}, "n": [1, {"a": 2}]}')
    assert odd.rows[0].text == "a day  by the sea"
    assert odd.rows[0].cells["n"] == [1, {"a": 2}]
    for name, text, said in (
        ("a.txt", "x", "a.txt is no table"),
        ("b.csv", "n\n1\n", "neither texts nor pictures .* name one text or image"),
        ("c.csv", "text\n" + "one two three\n" * (MOST_POSTS + 1), "more than 5,000 rows"),
        ("d.parquet", "no parquet", "d.parquet"),
    ):
        with pytest.raises(CorpusError, match=said) as refused:
            given(name, text)
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.slow
def test_small_files_that_are_large_tables_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(tmp_path / "bomb.csv.gz", "wt") as file:
        file.write("text,note\n")
        for _ in range(400):
            file.write("a long day by the sea," + "x" * 2**22 + "\n")
    started = time.monotonic()
    with monkeypatch.context() as bounds:
        bounds.setattr("assay.serve.page.given.LONGEST_S", 2)
        bounds.setattr("assay.serve.page.given.MOST_BYTES", 2**29)
        with pytest.raises(CorpusError, match=r"bomb.csv.gz takes more than 2 s or 0 GiB to read"):
            read_apart(File("bomb.csv.gz", tmp_path / "bomb.csv.gz"), [])
    assert time.monotonic() - started < 30
    (tmp_path / "a.csv").write_text("id,text\n1,a long day by the sea\n2,another day by the sea\n")
    assert len(read_apart(File("a.csv", tmp_path / "a.csv"), []).rows) == 2
    (tmp_path / "n.csv").write_text("n\n1\n")
    with pytest.raises(CorpusError, match=r"^n.csv: neither texts"):
        read_apart(File("n.csv", tmp_path / "n.csv"), [])


def test_two_models_are_compared(server: Server, browser: Browser) -> None:
    page = opened(browser, f"{server.url}/ui/")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Caption").last.fill("a calm day by the sea")
    page.click("#compare")
    page.wait_for_selector("#right .a-answer", timeout=30_000)
    assert "sentiment" in page.locator("#left").inner_text()
    assert "gender_bias" in page.locator("#right").inner_text()
    assert looks_drawn(page)
    page.close()


@pytest.mark.slow
def test_the_page_alone_asks_for_a_key(repository: Path, browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", "--model", str(repository / "models" / "sentiment"), command="page")
    try:
        assert server.http.post("/v1/predict", json={"text": "hello"}).status_code in (404, 405)  # no API here
        assert httpx2.get(f"{server.url}/config").status_code == 401
        page = browser.new_page()
        page.goto(server.url)
        for key in ("not the key", KEY):
            page.get_by_label("username").fill("anybody")
            page.get_by_label("password").fill(key)
            page.get_by_role("button", name="Login").click()
            page.wait_for_timeout(1500)
            assert (page.locator("#score").count() == 1) is (key == KEY)
        assert KEY not in server.log.read_text()
        page.close()
    finally:
        assert server.stop() == 0


def test_the_page_reads_no_path_that_a_client_names(server: Server) -> None:
    """A picture's path must be one of an upload; the page's own protocol is asked for a file of the server."""
    made = server.http.get("/ui/config").json()
    place = next(one for one in made["dependencies"] if len(one["outputs"]) == 3)
    asked = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "orig_name": "a.jpg"}
    body = {"data": [asked, "hello", "sentiment"], "fn_index": place["id"], "session_hash": "abcdefgh"}
    joined = server.http.post("/ui/gradio_api/queue/join", json=body)
    told = joined.text
    if joined.status_code == 200:
        with server.http.stream("GET", "/ui/gradio_api/queue/data", params={"session_hash": "abcdefgh"}) as events:
            for line in events.iter_lines():
                told += line
                if "process_completed" in line or "close_stream" in line:
                    break
    assert "a-answer" not in told
    assert "root:" not in told
    for path in ("/ui/gradio_api/file=/etc/passwd", "/ui/gradio_api/file=../../etc/passwd"):
        assert server.http.get(path).status_code in (403, 404)


def test_search_by_hand(repository: Path) -> None:
    corpus = ScoredCorpus.of(repository / "models" / "gender_bias", "gender_bias", BIAS)
    assert corpus is not None
    found = corpus.search(Query(brand="Aldo", low=5.0, high=6.0, order="lowest first", size=2))
    assert found.total == 4  # posts 30 to 36, the even ones
    assert [hit.value for hit in found.hits] == [5.0, pytest.approx(5.333)]
    assert found.hits[0].picture is not None
    second = corpus.search(Query(brand="Aldo", low=5.0, high=6.0, order="lowest first", size=2, page=1))
    assert [hit.value for hit in second.hits] == [pytest.approx(5.667), 6.0]
    moods = ScoredCorpus.of(repository / "models" / "sentiment", "sentiment", MOODS)
    assert moods is not None
    by_name = [moods.search(Query(name=name, size=60)) for name in MOODS.names]
    assert sum(one.total for one in by_name) == 60
    assert all(hit.value == name for name, one in zip(MOODS.names, by_name, strict=True) for hit in one.hits)
    likely = [hit.probability or 0 for hit in by_name[0].hits]
    assert likely == sorted(likely, reverse=True)


def test_predictions_of_other_posts_are_not_shown_beside_these(repository: Path, tmp_path: Path) -> None:
    corpus = ScoredCorpus.of(repository / "models" / "gender_bias", "gender_bias", BIAS)
    assert corpus is not None
    posts = read(corpus.posts)
    for other in (posts.slice(1), posts.take(pa.array([*range(1, len(posts)), 0]))):
        corpus.posts = tmp_path / str(len(other))
        write_table(other, corpus.posts / "part-00000.parquet")
        with pytest.raises(DataError, match="is of other posts than"):
            corpus.search(Query())


def test_posts_stay_hidden_where_anybody_may_look() -> None:
    here, out = Options(models=[Path("a")]), Options(models=[Path("a")], host="0.0.0.0", open=True)
    assert posts_shown(here, frozenset())
    assert not posts_shown(out, frozenset())
    assert posts_shown(out, frozenset({"a-long-key"}))
    assert posts_shown(out.model_copy(update={"show_posts": True}), frozenset())
