"""Settings: the shipped file is in order, and every mistake is one line with key, value and what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay import config
from assay.cli import call
from assay.config import manual
from assay.errors import SettingsError
from tests.conftest import ROOT

SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text())


def test_shipped_params_are_in_order() -> None:
    params = config.load(ROOT / "params.yaml")
    assert params.scan == []
    assert set(params.tasks) == {"gender_bias", "sentiment", "hateful"}
    assert params.joint == {}
    assert set(params.audits) == {"age"}


def test_the_manual_tells_of_every_setting_and_is_not_stale() -> None:
    assert not [one.key for one in manual.settings() if not one.about or not one.values]
    assert (ROOT / "docs" / "settings.md").read_text() == manual.as_markdown(), "run `make manual`"
    assert len((ROOT / "params.yaml").read_text().splitlines()) < 150


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("train.lr", ["tasks.<task>.train.lr", "number above 0; default 0.0001", "AdamW"]),
        ("tasks.train.lr", ["tasks.<task>.train.lr\n"]),
        (
            "tasks.sentiment.sample.posts",
            ["whole number 1 or more; default 1000", "tasks.sentiment.sample.posts = 900"],
        ),
        ("target", ["only kind score", "tasks.gender_bias.target.bands = [3.5, 6.5]"]),
        ("generators.drawn", ["generators.<generator>.kind", "generators.drawn.lean = {young: 0.55"]),
        ("audits.age.perceived.annotate.teacher.model", ["text; default assay-demo-1"]),
    ],
)
def test_a_setting_is_explained(query: str, said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    call(["settings", query, "--params", str(ROOT / "params.yaml")])
    printed = capsys.readouterr().out
    assert not [one for one in said if one not in printed]
    assert "hateful" not in printed or "sentiment" not in query


def test_an_unknown_setting_is_one_line_with_the_likeliest() -> None:
    with pytest.raises(SettingsError, match=r"no setting 'tasks\.train\.lrr'; did you mean tasks\.train\.lr, "):
        manual.find("tasks.train.lrr")


CASES: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "unknown key": (
        lambda r: r["tasks"]["sentiment"]["train"].update(lrr=1),
        ["tasks.sentiment.train.lrr", "1", "lr, "],
    ),
    "unknown section": (lambda r: r.update(task={}), ["task:", "allowed: scan, deploy, demo"]),
    "text for a number": (
        lambda r: r["tasks"]["sentiment"]["train"].update(lr="1e-3"),
        ["train.lr", "'1e-3'", "write 0.001"],
    ),
    "fraction for a whole": (
        lambda r: r["tasks"]["sentiment"]["train"].update(epochs=1.5),
        ["train.epochs", "1.5", "integer"],
    ),
    "negative rate": (lambda r: r["tasks"]["sentiment"]["train"].update(lr=-1.0), ["train.lr", "-1", "greater than 0"]),
    "missing corpus": (
        lambda r: r["tasks"]["sentiment"].update(corpus="dem"),
        ["tasks.sentiment.corpus", "'dem'", "demo"],
    ),
    "missing student": (
        lambda r: r["tasks"]["sentiment"].update(student="x"),
        ["tasks.sentiment.student", "'x'", "packaged"],
    ),
    "missing section": (
        lambda r: r["tasks"]["sentiment"].pop("annotate"),
        ["tasks.sentiment.annotate: missing", "from, column"],
    ),
    "wrong choice": (
        lambda r: r["tasks"]["sentiment"]["sample"].update(design="some"),
        ["sample.design", "'some'", "'random'"],
    ),
    "wrong kind": (
        lambda r: r["corpora"].update(x={"kind": "tabel", "path": "a"}),
        ["corpora.x.kind", "'tabel'", "table"],
    ),
    "no kind": (lambda r: r["corpora"].update(x={"path": "a"}), ["corpora.x.kind: missing"]),
    "wrong column": (
        lambda r: r["corpora"].update(x={"kind": "table", "path": "a", "columns": {"idd": "x"}}),
        ["corpora.x.columns.idd", "allowed: id, text, image"],
    ),
    "bands that fall": (
        lambda r: r["tasks"]["gender_bias"]["target"].update(bands=[6, 3]),
        ["gender_bias.target:", "must rise"],
    ),
    "shares over 1": (
        lambda r: r["tasks"]["gender_bias"].update(split={"train": 0.9}),
        ["gender_bias.split", "1.3", "must be 1"],
    ),
    "metric of the other kind": (
        lambda r: r["tasks"]["gender_bias"]["train"].update(metric="f1_macro"),
        ["f1_macro", "allowed:", "mae"],
    ),
    "scan of nothing": (lambda r: r.update(scan=["x"]), ["scan", "'x'", "demo"]),
    "deployed of nothing": (lambda r: r.update(deploy=["x"]), ["deploy", "'x'", "sentiment"]),
    "scan of the drawn corpus": (lambda r: r.update(scan=["demo"]), ["scan: demo", "leave it out"]),
    "student of nothing": (lambda r: r["students"].update(x={}), ["students.x", "image branch"]),
    "sampled by author": (
        lambda r: r["tasks"]["gender_bias"]["sample"].update(by="author"),
        ["gender_bias.sample", "author"],
    ),
    "task named like a folder": (
        lambda r: r["tasks"].update(corpora=r["tasks"]["sentiment"]),
        ["tasks.corpora", "choose another"],
    ),
    "loss of another kind": (
        lambda r: r["tasks"]["hateful"]["train"].update(loss="mse"),
        ["train.loss mse", "labels", "allowed: auto, bce, focal, asymmetric"],
    ),
    "lora on frozen layers": (
        lambda r: r["students"]["packaged"]["text"].update(lora={"rank": 4}),
        ["students.packaged.text", "frozen: false"],
    ),
    "distilled from nobody": (
        lambda r: r["tasks"]["hateful"]["train"].update(self_distil=0.5),
        ["hateful.train", "inner_folds"],
    ),
    "joint of one": (lambda r: r.update(joint={"j": ["hateful"]}), ["joint.j", "two or more"]),
    "joint of strangers": (
        lambda r: (r["tasks"]["hateful"].update(student="text_only"), r.update(joint={"j": ["hateful", "sentiment"]})),
        ["joint.j", "same student"],
    ),
    "joint named like a task": (lambda r: r.update(joint={"hateful": ["hateful", "sentiment"]}), ["joint.hateful"]),
    "lexical without text": (
        lambda r: r["students"]["image_only"].update(lexical={}),
        ["students.image_only", "lexical reads the text"],
    ),
    "augmented but frozen": (
        lambda r: r["tasks"]["hateful"]["train"].update(augment="meme"),
        ["tasks.hateful.train.augment", "frozen"],
    ),
    "column without a name": (
        lambda r: r["tasks"]["sentiment"].update(annotate={"from": "column"}),
        ["annotate", "column is missing"],
    ),
}


@pytest.mark.parametrize(("change", "parts"), CASES.values(), ids=CASES)
def test_a_mistake_is_one_line(change: Callable[[dict[str, Any]], Any], parts: list[str], tmp_path: Path) -> None:
    raw = copy.deepcopy(SHIPPED)
    change(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError) as caught:
        config.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: [")
    with pytest.raises(SettingsError, match="not valid YAML"):
        config.load(path)
    with pytest.raises(SettingsError, match="repository's root"):
        config.load(tmp_path / "none.yaml")
