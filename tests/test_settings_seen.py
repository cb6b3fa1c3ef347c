"""DVC notices every setting of a task, with a warm run cache: seen by what then stands in the outputs."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from assay import config
from assay.config.params import UNSEEN, Params
from assay.errors import SettingsError
from tests.conftest import ROOT

TASK = "sentiment"
COPIES = 12
SECTIONS = ("sample", "annotate", "split", "train", "evaluate", "infer", "report", "target", "student")
RECORD = """
import json, sys
raw = json.load(open("params.yaml"))
found = {}
for key in sys.argv[2:]:
    here = raw
    for part in key.split("."):
        here = here[part]
    found[key] = here
open(sys.argv[1], "w").write(json.dumps(found))
"""


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


def resolved() -> dict[str, Any]:
    """params.yaml with every setting of the task, its student and its corpus written out."""
    params = config.load(ROOT / "params.yaml")
    return params.model_dump(by_alias=True, mode="json")


@pytest.mark.slow
def test_every_setting_of_a_task_reaches_an_output_through_a_warm_run_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages' own lists of params; their commands only write down what they are given.

    Each setting is the only one of its section that is changed, in one of several copies of the task, so
    that a few runs of DVC see them all.
    """
    from dvc.repo import Repo

    raw = resolved()
    task = raw["tasks"][TASK]
    task["annotate"]["second_teacher"] = copy.deepcopy(task["annotate"]["teacher"])
    copies = [f"copy{i}" for i in range(COPIES)]
    raw["tasks"] = {name: copy.deepcopy(task) for name in copies}
    stages = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for own in copies if "${tasks}" in str(stage.get("foreach")) else ():
            text = json.dumps(stage["do"]["params"]).replace("${key}", own)
            text = text.replace("${item.corpus}", task["corpus"]).replace("${item.student}", task["student"])
            keys = json.loads(text)
            cmd = f"{sys.executable} record.py {name}-{own}.json {' '.join(keys)}"
            stages[f"{name}-{own}"] = {
                "cmd": cmd,
                "deps": ["record.py"],
                "params": keys,
                "outs": [f"{name}-{own}.json"],
            }
    assert len(stages) >= 9 * COPIES
    (tmp_path / "record.py").write_text(RECORD)
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    Repo.init(no_scm=True).close()

    def outputs(settings: dict[str, Any]) -> dict[str, Any]:
        """What stands in the outputs, by the key of each section."""
        (tmp_path / "params.yaml").write_text(json.dumps(settings))
        with contextlib.redirect_stdout(io.StringIO()), Repo() as repo:
            repo.reproduce()
        found: dict[str, Any] = {}
        for name in stages:
            found |= json.loads((tmp_path / f"{name}.json").read_text())
        return found

    before = outputs(raw)
    todo = {section: list(leaves(task[section], section)) for section in SECTIONS}
    unnoticed = []
    while any(todo.values()):
        changed, made = copy.deepcopy(raw), []
        for own in copies:
            for left in todo.values():
                if left:
                    key, value = left.pop()
                    put(changed, f"tasks.{own}.{key}", other(value))
                    made.append((f"tasks.{own}.{key.split('.')[0]}", f"tasks.{own}.{key}"))
                    if key == "student":
                        changed["students"][other(value)] = raw["students"][value]
        found = outputs(changed)
        unnoticed += [key for section, key in made if found[section] == before[section]]
    assert not unnoticed
    assert outputs(raw) == before  # and back, from the run cache


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
