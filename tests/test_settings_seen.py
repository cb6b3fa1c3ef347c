"""DVC notices every setting of a task, with a warm run cache: seen by what then stands in the outputs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import shlex
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel

from assay import config
from assay.cli.check import stale_samples
from assay.config.params import UNSEEN, Params, sections
from assay.errors import RubricError, SettingsError
from assay.posts import write_table
from assay.teacher.rubric import Rubric
from tests.conftest import ROOT

TASK = "sentiment"
RECORD = "import pathlib, sys; pathlib.Path('out.json').write_text(pathlib.Path(sys.argv[1]).read_text())"


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a section, by its dotted key."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, "more"]
    return {"more": 1} if isinstance(value, dict) else 1


def put(raw: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        raw = raw[part]
    raw[last] = value


def depended_on() -> set[str]:
    """The places below data/settings that the stages of the task, its student and its corpus depend on."""
    places = {"${key}": TASK, "${item.corpus}": "demo", "${item.student}": "packaged"}
    found = set()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for dep in stage.get("do", stage).get("deps", ()):
            if dep.startswith("data/settings/"):
                plain = reduce(lambda text, one: text.replace(*one), places.items(), dep)
                found.add(plain.removeprefix("data/settings/").removesuffix(".json"))
    return found


def test_some_stage_depends_on_every_setting() -> None:
    """By the file of its section, which is other when the setting is, written out or left to its default."""
    whole = config.load(ROOT / "params.yaml").model_dump(by_alias=True, mode="json")
    before, known, unnoticed = sections(whole), depended_on(), []
    for group, name in (("tasks", TASK), ("students", "packaged"), ("corpora", "demo")):
        for key, value in leaves(whole[group][name], f"{group}.{name}"):
            changed = copy.deepcopy(whole)
            put(changed, key, other(value))
            differ = [place for place, section in sections(changed).items() if section != before[place]]
            if len(differ) != 1 or differ[0] not in known:
                unnoticed.append(key)
    assert not unnoticed


@pytest.mark.slow
def test_a_setting_reaches_an_output_through_a_warm_run_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the stage that writes settings down, also for one that params.yaml leaves out."""
    from dvc.repo import Repo

    place = f"data/settings/tasks/{TASK}/split.json"
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    settings = stages["settings"] | {"deps": ["params.yaml"]}
    settings["cmd"] = settings["cmd"].replace("python stages", f"{sys.executable} {ROOT}/stages")
    cmd = [sys.executable, "-S", "record.py", place]
    record = {"cmd": shlex.join(cmd), "deps": [place], "outs": ["out.json"]}
    (tmp_path / "record.py").write_text(RECORD)
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"settings": settings, "record": record}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    Repo.init(no_scm=True).close()

    def output(**split: Any) -> str:
        raw = yaml.safe_load((ROOT / "params.yaml").read_text())
        raw["tasks"][TASK]["split"] = split
        (tmp_path / "params.yaml").write_text(json.dumps(raw))
        with contextlib.redirect_stdout(io.StringIO()), Repo() as repo:
            repo.reproduce()
        return (tmp_path / "out.json").read_text()

    before = output()
    after = output(text_similarity=0.25)
    assert '"text_similarity": 0.25' in after
    assert after != before
    assert output() == before  # and back, from the run cache
    assert output(text_similarity=0.25) == after
    assert output(seed=1) == before  # the default, written out


def names(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """The names of all settings that a section of params.yaml may have."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield field.alias or name
        todo = [field.annotation]
        while todo:
            here = todo.pop()
            if isinstance(here, type) and issubclass(here, BaseModel):
                yield from names(here, seen)
            else:
                todo += get_args(here)


def test_no_setting_has_a_name_that_dvc_drops() -> None:
    from dvc.stage import cache
    from dvc_data.hashfile.meta import Meta

    assert {Meta.PARAM_SIZE, Meta.PARAM_NFILES} == set(UNSEEN)
    assert "exclude=[Meta.PARAM_SIZE, Meta.PARAM_NFILES]" in Path(str(cache.__file__)).read_text()  # a later DVC?
    assert not set(UNSEEN) & set(names(Params, set()))
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert not [key for key, _ in leaves(raw) if set(key.split(".")) & set(UNSEEN)]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tasks.sentiment.sample.size", "it is called posts now"),
        ("generators.gpt_image.size", "it is called image_size now"),
        ("tasks.sentiment.annotate.teacher.extra_body.size", "choose another name"),
        ("corpora.demo.brands.Alderby.nfiles", "choose another name"),
    ],
)
def test_such_a_name_is_refused_wherever_it_stands(key: str, said: str, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["tasks"]["sentiment"]["annotate"]["teacher"]["extra_body"] = {}
    put(raw, key, 5)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError, match=rf"{key}: DVC does not notice .*; {said}"):
        config.load(tmp_path / "params.yaml")


def test_check_says_where_a_sample_has_other_rows_than_its_settings_ask_for(tmp_path: Path) -> None:
    """Whoever went from a pilot to thousands of labels with `sample.size` has the pilot."""
    params = config.load(ROOT / "params.yaml")
    rows = pa.table({"post_id": [str(i) for i in range(1500)]})
    write_table(rows, tmp_path / "data/corpora/demo/posts/part-00000.parquet")
    write_table(rows.slice(0, 300), tmp_path / "data/sample/sentiment/part-00000.parquet")
    write_table(rows.slice(0, 900), tmp_path / "data/sample/hateful/part-00000.parquet")
    (said,) = stale_samples(params, tmp_path)
    assert "tasks.sentiment.sample" in said
    assert "has 300 posts, the settings ask for 900 of 1500; `dvc repro` draws it anew" in said


def test_a_rubric_that_git_does_not_know_is_told_in_an_experiments_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "x"
    copied.mkdir(parents=True)
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "rubrics" / "mine.md").write_text("# mine")
    monkeypatch.chdir(copied)
    target = config.load(ROOT / "params.yaml").tasks[TASK].target
    with pytest.raises(RubricError, match=r"run `git add rubrics/mine\.md` first"):
        Rubric.load(Path("rubrics/mine.md"), target)
