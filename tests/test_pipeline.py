"""The pipeline as a user runs it: real `dvc repro` in a temporary repository, kills and experiments included."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from cryptography.fernet import Fernet
from dvc.repo import Repo
from PIL import Image

from assay.errors import DataError, SettingsError
from assay.posts import read
from assay.remote.answers import Answer, AnswerStore
from assay.scoring.compare import compare
from tests.conftest import CHROMIUM, ROOT, Repository, StubTeacher, faultless, picture
from tests.test_readme import PAGES, printed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

AFTER = ["train", "evaluate", "infer", "report"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Repository:
    """A small pipeline that has run once, committed."""
    folder = tmp_path_factory.mktemp("repository")
    return Repository(folder / "work", folder / "home", like=small_run)


OWN = "predict explain ablate push doctor answers settings plan compare report plots keep"
RUN = tuple(f"assay {name}" for name in OWN.split())


def kept_with(status: str, reason: str) -> Answer:
    return Answer(reason, status, reason, "{" if status == "invalid" else None, "m", "plain", None, None, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_are_printed(
    page: Path, repository: Repository, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One after the other, in one shell; servers and experiments have tests of their own."""
    lines = [one for one in printed(page) if one.startswith((*RUN, "dvc metrics diff", "dvc exp show", "export ASSAY"))]
    if not lines:
        return
    shutil.copytree(repository.home, tmp_path / "home")
    (repository.folder / "picture.jpg").write_bytes(picture())
    (repository.folder / "posts.jsonl").write_text('{"id": 1, "text": "a day", "image": "picture.jpg"}\n')
    env = repository.env | {"ASSAY_HOME": str(tmp_path / "home"), "NEW_KEY": Fernet.generate_key().decode()}
    if any("$DATABASE" in line for line in lines):
        env["DATABASE"] = request.getfixturevalue("postgres").address(page.stem)
    together = any(line.startswith("export") for line in lines)  # else each stands for itself
    try:
        for script in ["\n".join(lines)] if together else lines:
            if not together:
                with AnswerStore(tmp_path / "home" / "answers.sqlite") as store:  # so that there are such answers
                    store.put([kept_with("failed", "http_403: no"), kept_with("invalid", "cut_answer: {")])
            words = ["bash", "-exc", script]
            done = subprocess.run(words, cwd=repository.folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        repository.run("git", "clean", "-fdq")
        restored(repository)


def answers(repository: Repository) -> int:
    with sqlite3.connect(repository.home / "answers.sqlite") as db:
        return int(db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def test_first_run_makes_everything_and_a_second_runs_nothing(repository: Repository, small_run: Path) -> None:
    assert len(json.loads((small_run / "ran.json").read_text())) == 2 + 9 * 3
    assert repository.repro() == []
    assert repository.run("git", "status", "--porcelain").stdout == ""
    for task in ("gender_bias", "sentiment", "hateful"):
        for name in ("evaluate.json", "findings.json", "brands.csv"):
            assert repository.run("git", "ls-files", f"metrics/{task}/{name}").stdout
        assert 'id="comparison-spec"' in (repository.folder / f"metrics/{task}/report.html").read_text()
    assert not repository.run("git", "ls-files", "data/sample", "models", "data/corpora").stdout


def test_every_row_is_accounted_for(repository: Repository) -> None:
    accounting = repository.json("metrics/corpora/demo.json")
    posts = read(repository.folder / "data/corpora/demo/posts")
    problems = pq.read_table(repository.folder / "data/corpora/demo/problems.parquet").to_pylist()
    lines = (repository.folder / "data/raw/demo/post_info.txt").read_text().splitlines()
    dropped = sum(p["severity"] == "dropped" for p in problems)
    assert len(lines) == accounting["source_rows"] == posts.num_rows + dropped
    for task in ("gender_bias", "sentiment", "hateful"):
        predictions = read(repository.folder / f"data/predictions/{task}")
        assert predictions["post_id"].to_pylist() == posts["post_id"].to_pylist()
        assert set(predictions["status"].to_pylist()) <= {"ok", "text_only", "image_only", "failed"}
        labels = pq.read_table(repository.folder / f"data/labels/{task}.parquet")
        assert labels.num_rows == repository.json(f"metrics/{task}/annotate.json")["posts"] == 160


def test_figures_stand_beside_their_baselines_and_intervals(repository: Repository) -> None:
    figure = {"value", "low", "high"}
    for task, names in (
        ("gender_bias", {"mae", "rmse", "r2", "spearman", "within_0_5", "within_1", "within_2"}),
        ("sentiment", {"accuracy", "f1_macro", "f1_weighted", "auroc"}),
        ("hateful", {"f1_macro", "f1_micro", "auroc_macro", "average_precision", "f1_macro_at_half", "exact_match"}),
    ):
        found = repository.json(f"metrics/{task}/evaluate.json")
        assert all(set(found[name]) == figure for name in names)
        assert set(found["baselines"]) == {"constant", "text", "image", "both", "tfidf"}
        assert all(set(b) >= names for b in found["baselines"].values())
        assert {"value", "low", "high", "against"} == set(found["gap"]) == set(found["gap_probe"])
        assert set(found["gaps"]) == set(found["baselines"])
        assert found["slices"]["figure"] in names
        assert repository.json(f"metrics/machine/{task}/evaluate.json")["posts_per_s"] > 0
    assert repository.json("metrics/hateful/split.json")["leaking_groups"] == 0


def test_dvc_answers_metrics_and_plots(repository: Repository, browser: Browser) -> None:
    shown = json.loads(repository.run("dvc", "metrics", "show", "--json").stdout)
    assert "metrics/gender_bias/student.json" in shown[""]["data"]
    for stage in ("annotate", "train", "evaluate", "infer"):
        place = f"metrics/machine/gender_bias/{stage}.json"  # of this machine, untracked, when asked for
        assert place in json.loads(repository.run("dvc", "metrics", "show", place, "--json").stdout)[""]["data"]
    rates = repository.json("metrics/machine/gender_bias/infer.json") | repository.json(
        "metrics/machine/gender_bias/evaluate.json"
    )
    assert rates["student_to_teacher"] > 0
    assert rates["success_rate"] == 1
    assert not list((repository.folder / "metrics").glob("*/progress.json"))
    assert "infer/log.tsv" in repository.run("dvc", "plots", "show", "metrics/curves", "--json").stdout
    repository.run("assay", "plots")
    repository.run("dvc", "plots", "diff", "HEAD~1", "HEAD", "-o", "plots")
    page = repository.folder / "plots" / "index.html"
    for name in ("predicted.csv", "confusion.csv", "calibration.csv", "errors.csv", "val_loss.tsv"):
        assert name in page.read_text()
    drawn = ".vega-embed svg.marks:not([width='0'])"
    shown = faultless(browser, page, 3000, drawn)  # DVC's page has no narrow form
    wanted = page.read_text().count("vegaEmbed('#")
    shown.wait_for_function(f"document.querySelectorAll('.vega-embed svg.marks').length == {wanted}", timeout=30_000)
    assert shown.locator(drawn).count() > 20  # of the others HEAD~1 and HEAD have no rows
    shutil.rmtree(repository.folder / "plots")


def test_a_diff_of_metrics_is_ten_lines_a_task_and_names_what_is_measured(repository: Repository) -> None:
    shown = json.loads(repository.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    for task in ("gender_bias", "sentiment", "hateful"):
        own = {name: one["data"] for name, one in shown.items() if f"/{task}/" in name}
        assert set(own) == {f"metrics/{task}/student.json", f"metrics/{task}/corpus.json"}
        assert 5 < sum(map(len, own.values())) <= 10
        evaluated = repository.json(f"metrics/{task}/evaluate.json")
        for name, value in own[f"metrics/{task}/student.json"].items():
            assert value == (evaluated["gap_probe"]["value"] if name.endswith("_over_probe") else
                             evaluated["gap_probe"][name.rsplit("_", 1)[1]] if "_over_probe_" in name else
                             evaluated[name]["value"])  # fmt: skip
    assert len(shown) == 6


@pytest.mark.parametrize("width", [1280, 390])
def test_a_report_is_whole_without_network(repository: Repository, browser: Browser, width: int) -> None:
    page = repository.folder / "metrics/gender_bias/report.html"
    assert page.stat().st_size < 3_000_000
    shown = faultless(browser, page, width, "html[data-drawn=yes]")
    assert shown.locator(".chart .main-svg").count() >= 8
    assert shown.locator(".chart").count() == shown.locator(".chart > .plot-container").count()
    titles = shown.locator("h2").all_inner_texts()
    assert shown.locator("nav a").all_inner_texts() == titles
    table = shown.locator('[data-name="figures"]')
    assert "on average" in (table.locator("tbody abbr").first.get_attribute("title") or "")
    numbers = lambda: [float(one.split()[0]) for one in table.locator("tbody td:nth-child(2)").all_inner_texts()]  # noqa: E731
    table.locator("th").nth(1).click()
    assert numbers() == sorted(numbers(), reverse=True)
    table.locator("th").nth(1).click()
    assert numbers() == sorted(numbers())
    with shown.expect_download() as got:
        table.get_by_role("button", name="CSV").click()
    lines = Path(got.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("figure,student,constant")
    assert len(lines) == 1 + table.locator("tbody tr").count()
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    find = shown.locator("input[type=search]").first
    rows = find.locator("xpath=ancestor::div[@class='table']").locator("tbody tr")
    find.fill(rows.last.locator("td").nth(2).inner_text())
    assert 0 < rows.locator("visible=true").count() < rows.count()
    shown.context.close()


def test_a_report_to_send_is_masked_and_stamped(repository: Repository, tmp_path: Path) -> None:
    repository.run("assay", "report", "--task", "gender_bias", "--out", str(tmp_path / "a.html"))
    page, commit = (tmp_path / "a.html").read_text(), repository.run("git", "rev-parse", "HEAD").stdout
    assert f"from commit <code>{commit[:12]}</code>.</p>" in page
    assert "<!--stamp-->" not in page
    worst = page[page.index("Largest errors") :]
    assert not re.search(r"(?<![\w/])@(?!\[)\w", re.sub(r"data:image/[^\"]*|<script.*", "", worst, flags=re.DOTALL))
    for found in re.findall(r"data:image/png;base64,([^\"]+)", worst):
        picture = Image.open(io.BytesIO(base64.b64decode(found)))
        assert len(picture.getcolors(2**24) or []) <= 144, "no more than a mosaic of 12 by 12"
    if CHROMIUM:
        repository.run(
            "assay",
            "report",
            "--task",
            "gender_bias",
            "--out",
            str(tmp_path / "a.html"),
            "--pdf",
            str(tmp_path / "a.pdf"),
        )
        assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "a.pdf").stat().st_size > 100_000


def restored(repository: Repository) -> None:
    """Back to the committed state, workspace and cache."""
    repository.run("git", "reset", "-q", "--hard")  # DVC has staged its lock file
    repository.run("dvc", "checkout", "-q", "--force")
    assert repository.repro() == []


def test_a_rubric_word_reruns_annotate_and_later(repository: Repository) -> None:
    path = repository.folder / "rubrics" / "gender_bias.md"
    path.write_text(path.read_text().replace("side by side", "next to each other"))
    before = answers(repository)
    ran = [name for name in repository.repro() if not name.startswith("choose@")]  # looks, and finds nothing to do
    assert ran[0] == "annotate@gender_bias"
    assert not [name for name in ran if name.split("@")[0] in ("demo", "ingest", "sample", "embed")]
    assert {name.split("@")[1] for name in ran if "@" in name} == {"gender_bias"}  # nobody else reads this rubric
    assert answers(repository) == before + repository.json("metrics/machine/gender_bias/annotate.json")["asked"]
    found = compare("HEAD", "workspace", "gender_bias", root=repository.folder)
    assert found["question"] == "another rubric"
    assert {row["verdict"] for row in found["metrics"]} == {None}
    assert found["findings"][0]["difference"]["value"] is not None
    restored(repository)


def test_a_learning_rate_reruns_train_and_later(repository: Repository) -> None:
    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(lr=0.002))
    assert repository.repro() == [f"{name}@sentiment" for name in AFTER]
    diff = json.loads(repository.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(diff) <= {"metrics/sentiment/student.json", "metrics/sentiment/corpus.json"}
    found = compare("HEAD", "workspace", "sentiment", root=repository.folder)
    assert found["changed"]["settings"] == [{"key": "tasks.sentiment.train.lr", "a": 0.0001, "b": 0.002}]
    assert not found["changed"]["code"]
    assert (found["question"], found["notes"]) == (None, [])
    judged = found["judged"]
    assert judged["a"] == judged["b"] == judged["both"] == repository.json("metrics/sentiment/evaluate.json")["n"]
    f1 = next(row for row in found["metrics"] if row["metric"] == "f1_weighted")
    committed = json.loads(repository.run("git", "show", "HEAD:metrics/sentiment/evaluate.json").stdout)
    assert f1["a"] == committed["f1_weighted"]  # the very figure, with the very interval, of evaluate.json
    assert f1["b"] == repository.json("metrics/sentiment/evaluate.json")["f1_weighted"]
    assert f1["verdict"] in ("better", "worse", "equivalent", "not decided")
    assert [row["name"] for row in found["findings"]] == ["all"] * 3
    with pytest.raises(DataError, match=r"HEAD~1 has no data/labels/sentiment\.parquet: the pipeline had not come"):
        compare("HEAD~1", "workspace", "sentiment", root=repository.folder)
    restored(repository)


def test_a_changed_default_reruns_what_it_changes_and_a_comment_nothing(repository: Repository) -> None:
    """Also where params.yaml does not write the setting out; seen by what `dvc status` would run."""

    def would_run(stage: str, path: str, old: str, new: str) -> set[str]:
        source = repository.folder / path
        text = source.read_text()
        assert text.count(old) == 1
        source.write_text(text.replace(old, new))
        assert stage in json.loads(repository.run("dvc", "status", "--json").stdout)
        repository.run("dvc", "repro", stage)
        return set(json.loads(repository.run("dvc", "status", "--json").stdout)) - {"settings", "digests"}

    tasks = ("gender_bias", "sentiment", "hateful")
    was = "text_similarity: Annotated[float, Field(gt=0, le=1)] = 0.8"
    assert would_run("settings", "src/assay/config/tasks.py", was, was.replace("0.8", "0.2")) == {
        f"{name}@{task}"
        for name in ("split", "report")
        for task in tasks  # the page prints all settings
    }
    restored(repository)
    line = "def decode("
    assert would_run("digests", "src/assay/images.py", line, f"# a remark\n{line}") == set()
    line = "MAX_PIXELS = "
    assert would_run("digests", "src/assay/images.py", line, f"MORE = 1\n{line}") >= {
        "embed@sentiment",
        "sample@hateful",
    }
    restored(repository)


def test_a_kind_of_target_in_two_files_goes_from_rubric_to_findings(repository: Repository) -> None:
    """Ranks: the same mood, as an order."""
    repository.params(
        lambda raw: raw["tasks"]["sentiment"]["target"].update(kind="ranks", names=["negative", "neutral", "positive"])
    )
    ran = repository.repro("report@sentiment")
    assert next(name for name in ran if not name.startswith("choose")) == "annotate@sentiment"
    found = repository.json("metrics/sentiment/evaluate.json")
    assert {"value", "low", "high"} == set(found["kappa_quadratic"])
    assert found["rank_error"]["value"] < found["baselines"]["constant"]["rank_error"]["value"]
    assert found["gap"]["against"] in found["baselines"]
    assert list(found["confusion"]) == ["negative", "neutral", "positive"]
    findings = repository.json("metrics/sentiment/findings.json")
    assert set(findings["corrected"]) == set(findings["shares"]) == {"negative", "neutral", "positive"}
    assert 'id="comparison-spec"' in (repository.folder / "metrics/sentiment/report.html").read_text()
    said = repository.run("assay", "predict", "--model", "models/sentiment", "--text", "what a lovely day").stdout
    assert set(json.loads(said)["probabilities"]) == {"negative", "neutral", "positive"}
    restored(repository)


def test_a_joint_student_answers_two_tasks_in_one_pass(repository: Repository) -> None:
    repository.params(lambda raw: raw.update(joint={"both": ["gender_bias", "hateful"]}))
    ran = repository.repro()
    assert ran == [f"{name}@both" for name in ("join", "joint_train", "joint_evaluate", "joint_infer", "joint_report")]
    posts = read(repository.folder / "data/corpora/demo/posts", ["post_id"])["post_id"].to_pylist()
    for task in ("gender_bias", "hateful"):
        table = read(repository.folder / f"data/predictions/both/{task}")
        assert table["post_id"].to_pylist() == posts
        assert repository.json("metrics/joint/both/evaluate.json")[task]["n"] > 10
        assert repository.json("metrics/joint/both/findings.json")[task]["scored"] > 100
        page = (repository.folder / f"metrics/joint/both/report/{task}.html").read_text()
        assert 'id="comparison-spec"' in page
        assert task in page
        assert (repository.folder / f"metrics/joint/both/brands/{task}.csv").read_text().startswith("brand,posts,")
    found = compare("workspace", "workspace:both", "hateful", root=repository.folder)
    changed = [row["key"] for row in found["changed"]["settings"]]  # it learns as its first task says
    assert changed == ["tasks.hateful.train.metric", "answered by"]
    assert found["notes"] == []
    assert found["question"] is None
    assert found["judged"]["both"] > 100
    assert {row["verdict"] for row in found["metrics"]} <= {"better", "worse", "equivalent", "not decided"}
    assert found["findings"]
    with pytest.raises(SettingsError, match=r"no joint student 'other' answers hateful; allowed: both"):
        compare("workspace", "workspace:other", "hateful", root=repository.folder)
    post = ["--text", "Old people should stay off the road", "--task", "hateful"]
    said = repository.run("assay", "predict", "--model", "models/both", *post).stdout
    assert set(json.loads(said)["probabilities"]) == {"racist", "sexist", "homophobe", "religion", "otherhate"}
    refused = repository.run("assay", "predict", "--model", "models/both", "--text", "x", check=False)
    assert "answers several tasks: gender_bias, hateful; name one" in refused.stderr
    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(lr=0.002))
    assert repository.repro("joint_train@both") == ["join@both"]  # which looks at all tasks; nothing of its own changed
    restored(repository)


def test_experiments_share_the_store_and_find_the_corpus(repository: Repository) -> None:
    # one task: each experiment copies all there is
    repository.params(lambda raw: raw.update(tasks={"sentiment": raw["tasks"]["sentiment"]}))
    assert repository.repro() == []
    repository.commit("one task")
    before = answers(repository)
    repository.run("dvc", "exp", "run", "--temp", "-n", "faster", "-S", "tasks.sentiment.train.lr=0.003")
    for seed in (11, 12):
        repository.run(
            "dvc",
            "exp",
            "run",
            "--queue",
            "-n",
            f"seed{seed}",
            "-S",
            f"tasks.sentiment.train.seed={seed}",
            "-S",
            "+tasks.sentiment.sample.image_px=200",
        )
    repository.start(
        "dvc", "queue", "start", "-j", "2", forked=True
    ).wait()  # its workers would hold a captured pipe open
    queue = Repo(str(repository.folder)).experiments.celery_queue
    deadline = time.time() + 900
    while {one["status"] for one in queue.status()} & {"Queued", "Running"}:
        assert time.time() < deadline
        time.sleep(1)
    repository.start("dvc", "queue", "stop").wait()
    assert repository.run("dvc", "queue", "status").stdout.count("Success") == 2
    shown = repository.run("dvc", "exp", "show", "--csv").stdout
    assert all(name in shown for name in ("faster", "seed11", "seed12"))
    found = compare("HEAD", "faster", "sentiment", root=repository.folder)
    assert [row["key"] for row in found["changed"]["settings"]] == ["tasks.sentiment.train.lr"]
    assert len(found["metrics"]) == 4
    packed = answers(repository) - before  # smaller pictures are new questions, asked once for both jobs
    assert 120 <= packed <= 160
    assert not (repository.folder / ".dvc/tmp/exps").exists() or not list(
        (repository.folder / ".dvc/tmp/exps").glob("*/data/raw")
    )
    repository.run("git", "reset", "-q", "--hard", "HEAD~1")
    restored(repository)


def killed(repository: Repository, stage: str, ready: Callable[[], bool]) -> None:
    """Start `dvc repro stage` and kill -9 the whole group once `ready` says so."""
    repository.run("dvc", "repro", "settings")  # which -s leaves out
    process = repository.start("dvc", "repro", "-s", stage)
    deadline = time.time() + 120
    while not ready():
        assert process.poll() is None, f"{stage} ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_kill_9_in_train_goes_on_from_the_last_epoch(repository: Repository) -> None:
    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(epochs=4000, patience=4000, batch_size=8))
    checkpoints = repository.home / "checkpoints"
    killed(repository, "train@sentiment", lambda: bool(list(checkpoints.glob("*.pt"))) and _epochs(checkpoints) >= 20)
    reached = _epochs(checkpoints)
    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(epochs=4000))
    process = repository.start("dvc", "repro", "train@sentiment")
    deadline = time.time() + 120
    while _epochs(checkpoints) <= reached and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    curve = repository.folder / "metrics/sentiment/train/plots/metrics/val_loss.tsv"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert _epochs(checkpoints) > reached >= 20
    steps = [line.split("\t") for line in curve.read_text().splitlines()]
    assert steps[1][steps[0].index("step")] == "0"  # epochs before the kill are in the curves
    shutil.rmtree(checkpoints)
    restored(repository)


def _epochs(folder: Path) -> int:
    import torch

    for path in folder.glob("*.pt"):
        try:
            return int(torch.load(path, weights_only=True)["state"]["epoch"])
        except (OSError, RuntimeError, EOFError):
            return 0
    return 0


def test_kill_9_in_infer_computes_no_finished_shard_twice(repository: Repository) -> None:
    shutil.rmtree(repository.home / "features")  # so that there is time to be killed
    waiting = repository.home / "inference"
    shutil.rmtree(waiting)
    repository.params(lambda raw: raw["tasks"]["sentiment"].update(infer={"batch_size": 16, "shard_posts": 60}))
    killed(repository, "infer@sentiment", lambda: len(list(waiting.glob("*.parquet"))) >= 2)
    finished = {path: path.stat().st_mtime_ns for path in waiting.glob("*.parquet")}
    assert 2 <= len(finished) < 6
    assert "infer@sentiment" in repository.repro()
    assert all(path.stat().st_mtime_ns == written for path, written in finished.items())
    restored(repository)


def test_kill_9_in_annotate_pays_for_no_answer_twice(repository: Repository, stub: StubTeacher) -> None:
    stub.delay_s = 0.02

    def ask_stub(raw: dict[str, Any]) -> None:
        raw["tasks"]["sentiment"]["annotate"]["teacher"].update(base_url=stub.url, model="stub-1", concurrency=4)

    repository.params(ask_stub)
    killed(repository, "annotate@sentiment", lambda: sum(stub.asked.values()) >= 60)
    time.sleep(0.2)
    assert repository.repro("annotate@sentiment")[-1] == "annotate@sentiment"
    figures = repository.json("metrics/sentiment/annotate.json")
    assert figures["answered"] == 160
    assert repository.json("metrics/machine/sentiment/annotate.json")["from_store"] >= 60 - 4
    assert sum(stub.asked.values()) - len(stub.asked) <= 4  # those in flight when it was killed
    restored(repository)


def test_a_clone_pulls_from_a_remote_and_pays_nothing(repository: Repository, tmp_path: Path) -> None:
    remote, clone, home = tmp_path / "remote", tmp_path / "clone", tmp_path / "other-home"
    repository.run("dvc", "remote", "add", "-q", "-f", "-d", "team", str(remote))
    repository.commit("a remote")
    repository.run("dvc", "push", "-q")
    repository.run("git", "clone", "-q", str(repository.folder), str(clone))
    env = {**repository.env, "ASSAY_HOME": str(home)}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("dvc", "pull", "-q")
    assert "Running stage" not in run("dvc", "repro")
    path = clone / "params.yaml"
    path.write_text(path.read_text().replace("posts: 160", "posts: 170"))
    run("dvc", "repro", "annotate@sentiment")
    figures = json.loads((clone / "metrics/sentiment/annotate.json").read_text())
    assert figures["posts"] == 170
    assert json.loads((clone / "metrics/machine/sentiment/annotate.json").read_text())["asked"] == 10


def test_the_notebook_trains_elsewhere_and_dvc_takes_the_model_back(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a rented machine: nothing of this checkout but the archive, and a home of its own."""
    import nbclient
    import nbformat

    repository.params(lambda raw: raw["tasks"]["sentiment"]["train"].update(lr=0.003, epochs=6))
    repository.run("assay", "pack", "--training", "sentiment", "--out", str(tmp_path / "sentiment-training.tar.gz"))
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", repository.env["PATH"])
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "gpu_training.ipynb", 4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    printed = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "image/png" in printed, "the loss curves"
    assert "best baseline" in printed
    trained = tmp_path / "sentiment-training" / "sentiment-trained.tar.gz"
    there = "\n".join("".join(cell["source"]) for cell in notebook.cells if cell.cell_type == "markdown")
    for command in there.split("```sh\n")[1].split("```")[0].strip().splitlines():
        ran = repository.run(*command.replace("sentiment-trained.tar.gz", str(trained)).split())
    stages = [line.split("'")[1] for line in ran.stdout.splitlines() if line.startswith("Running stage")]
    assert stages == ["infer@sentiment", "report@sentiment"], "the model that came back is taken as it is"
    settings = repository.json("models/sentiment/config.json")["training"]["settings"]
    assert (settings["lr"], settings["epochs"]) == (0.003, 6)
    restored(repository)


def test_packing_needs_a_task_that_came_so_far(repository: Repository) -> None:
    for words, said in [(["--training", "mood"], "no such task"), ([], "--training TASK")]:
        done = repository.run("assay", "pack", *words, check=False)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_settings_and_corpora_that_are_wrong_stop_with_one_line(repository: Repository) -> None:
    repository.params(lambda raw: raw["corpora"]["demo"].update(path="data/nowhere", kind="instagram"))
    done = repository.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "assay: " in done.stderr
    assert "not there; set `path` of the corpus" in done.stderr
    assert "Traceback" not in done.stderr
    restored(repository)
