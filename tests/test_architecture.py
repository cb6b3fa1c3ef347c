"""The house: imports run one way, light stages stay light, DVC's deps cover what a stage imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assay import code, config
from assay.besides import of_others
from tests.conftest import ROOT

SRC = ROOT / "src" / "assay"
LEVEL = {
    "errors": 0,
    "section": 1,
    "plugins": 1,
    "targets": 1,
    "config": 2,
    "progress": 1,
    "parallel": 1,
    "places": 1,
    "code": 1,
    "authors": 2,
    "text": 2,
    "images": 2,
    "posts": 2,
    "buckets": 1,
    "clusters": 2,
    "database": 2,
    "store": 2,
    "durable": 2,
    "machine": 2,
    "besides": 3,
    "columns": 3,
    "frames": 4,
    "reads": 2,
    "colours": 2,
    "measure": 2,
    "remote": 2,
    "encode": 2,
    "corpora": 3,
    "sampling": 3,
    "teacher": 3,
    "splits": 3,
    "student": 3,
    "scoring": 4,
    "audit": 4,
    "cli": 5,
    "serve": 5,
    "__main__": 6,
}
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))


def modules() -> dict[str, Path]:
    """Every module of the package, as dotted name below assay."""
    return {name.removeprefix("assay").lstrip(".") or "__init__": path for name, path in code.modules().items()}


def imports(path: Path) -> list[str]:
    """The assay modules that a file imports, anywhere in it."""
    return [name.removeprefix("assay.") for name in code.imports(path)]


def closure(start: Path) -> set[str]:
    return {name.removeprefix("assay.") for name in code.closure(start)}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_one_way(name: str) -> None:
    top = name.split(".")[0]
    if top == "__init__":
        return
    for other in imports(modules()[name]):
        assert LEVEL[other.split(".")[0]] <= LEVEL[top], f"{name} imports {other}"
    if top == "measure":
        allowed = {"measure", "config", "targets", "section", "errors"}
        assert {other.split(".")[0] for other in imports(modules()[name])} <= allowed


LIGHT = ("demo", "scan", "ingest", "sample", "annotate", "split", "report")
HEAVY = {"torch", "timm", "transformers", "scipy", "sklearn"}


def test_light_stages_never_import_torch() -> None:
    """By importing all that they can import, in one fresh interpreter."""
    names = sorted({f"assay.{name}" for stage in LIGHT for name in closure(ROOT / "stages" / f"{stage}.py")})
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    if heavy := {'torch', 'timm', 'transformers'} & set(sys.modules): sys.exit(f'{name} imports {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_of_every_stage_is_there_at_once() -> None:
    """In one fresh interpreter; what takes its time is imported after the arguments are read."""
    code = (
        "import runpy, sys\n"
        "sys.path.insert(0, 'stages')\n"
        f"for stage in {STAGES!r}:\n"
        "    sys.argv = [stage, '--help']\n"
        "    try: runpy.run_path(f'stages/{stage}.py', run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, stage\n"
        f"    if heavy := {HEAVY!r} & set(sys.modules): sys.exit(f'{{stage}} imports {{heavy}}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"usage: {stage}.py " in done.stdout for stage in STAGES)


def test_no_circles() -> None:
    """Modules in an order in which each imports only earlier ones, wherever in a file the import stands."""
    known = {name: path for name, path in modules().items() if path.name != "__init__.py"}
    left = {name: {other for other in imports(path) if other in known} for name, path in known.items()}
    while ready := [name for name, wanted in left.items() if not wanted & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, "these import each other"


def test_audit_and_server_take_nothing_from_how_students_learn() -> None:
    """Encoders are in `encode`, a paid service is `remote`."""
    for name, path in modules().items():
        top = name.split(".")[0]
        found = set(imports(path))
        if top == "audit":
            assert not {one for one in found if one.startswith(("student", "teacher")) and one.count(".")} - {
                "teacher.annotate"  # what people are taken for is asked as any other task
            }, name
        if top == "serve" and not name.startswith("serve.sagemaker.train"):
            assert not {one for one in found if one.startswith("student.")} - {"student.model", "student.trained"}, name


EXAMPLES = {"corpus": "demo", "student": "packaged", "generator": "drawn"}


def first(place: str) -> str:
    """A name that params.yaml has in the group of settings that a place below data/settings is of."""
    return {"tasks": "sentiment", "audits": "age", "corpora": "demo"}.get(place.split("/")[2], "")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_code_and_on_each_of_its_settings(stage: str) -> None:
    """By the files that the stages digests and settings write; never on sources, in which a comment would count."""
    definitions = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = config.load(ROOT / "params.yaml")
    known = params.sections() | of_others(params)
    for definition in definitions.values():
        stage_of = definition.get("do", definition)
        if f"stages/{stage}.py" not in stage_of["cmd"] or stage in ("scan", "digests", "settings"):
            continue
        deps = stage_of["deps"]
        assert f"data/code/{stage}.json" in deps
        assert not [dep for dep in deps if dep.startswith(("src/", "stages/"))]
        assert "params" not in stage_of, "settings are seen by their files, with their defaults"
        for dep in deps:
            if dep.startswith("data/settings/") and "joint" not in dep:
                place = dep.removeprefix("data/settings/").removesuffix(".json").replace("${key}", first(dep))
                place = re.sub(r"\$\{item\.(\w+)\}", lambda item: EXAMPLES[item[1]], place)
                assert [name for name in known if name == place or name.startswith(f"{place}/")], dep


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_wiring(stage: str) -> None:
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 60


def test_no_kind_of_target_is_asked_for_outside_its_own_files() -> None:
    """What differs between kinds stands in `targets` and `student/outputs`; all else asks the contract."""
    makes = {"teacher.brands": "LabelsTarget(kind=", "audit.perceived": "ClassesTarget(kind="}  # questions of their own
    for name, path in modules().items():
        if name.startswith(("targets", "student.outputs", "config")):
            continue
        text = path.read_text()
        assert not re.search(r"target\.kind\s*(==|!=|in\b)|isinstance\([^)]*Target|target\.kind\]", text), name
        used = re.findall(r"\b(?:[A-Z][a-z]+)(?<!Any)Target\b.*", re.sub(r"(?m)^from .*$", "", text))
        assert all(one.startswith(makes.get(name, "nothing")) for one in used), name


def test_sql_stands_behind_the_methods_of_stores() -> None:
    own = {"database", "store", "remote.answers", "remote.ledger", "audit.kept", "corpora.ingest", "encode.cache"}
    statement = re.compile(r"\b(SELECT .+ FROM|INSERT (OR \w+ )?INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE)\b")
    assert {name for name, path in modules().items() if statement.search(path.read_text())} <= own


def test_files_stay_short() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SRC.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_no_task_or_label_name_stands_in_code() -> None:
    names = ["gender_bias", "sentiment", "neutral", "hateful", "racist"]
    for name, path in modules().items():
        if not name.startswith("corpora"):
            for word in names:
                assert f'"{word}"' not in path.read_text(), f"{path} names {word}"


def test_nothing_committed_names_a_host_of_packages_or_a_secret() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    pinned = ("constraints.txt", "constraints-hashed.txt", "pyproject.toml", "Makefile")
    text = "\n".join((ROOT / n).read_text(errors="ignore") for n in listed if n in pinned)
    assert "://" not in text
