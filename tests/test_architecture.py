"""The house: imports run one way, light stages stay light, DVC's deps cover what a stage imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SRC = ROOT / "src" / "assay"
LEVEL = {
    "errors": 0,
    "config": 1,
    "progress": 1,
    "places": 1,
    "authors": 2,
    "text": 2,
    "images": 2,
    "posts": 2,
    "store": 2,
    "durable": 2,
    "machine": 2,
    "reads": 2,
    "colours": 2,
    "measure": 2,
    "corpora": 3,
    "sampling": 3,
    "teacher": 3,
    "splits": 3,
    "student": 3,
    "scoring": 4,
    "audit": 4,
    "cli": 5,
    "serve": 5,
}
# config: its effect arrives through params. The others say things, measure the machine or tell where things are; they
# decide no result.
EXEMPT = {"errors", "config", "progress", "places", "machine", "reads", "__init__"}
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py"))


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, as dotted name below assay."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = list(path.relative_to(SRC).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"] = path
    return found


@cache
def imports(path: Path) -> tuple[str, ...]:
    """The assay modules that a file imports, anywhere in it; names are resolved to modules where they are one."""
    known, found = modules(), []
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            base = (node.module or "").removeprefix("assay").lstrip(".")
            names = [f"{base}.{a.name}".lstrip(".") for a in node.names] + [base]
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("assay.") for a in node.names if a.name.startswith("assay.")]
        found += [name for name in names if name in known]
    return (*found, *(name.rpartition(".")[0] for name in found if "." in name))


def closure(start: Path) -> set[str]:
    seen: set[str] = set()
    todo = list(imports(start))
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(modules()[name])
    return seen


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_one_way(name: str) -> None:
    top = name.split(".")[0]
    if top == "__init__":
        return
    for other in imports(modules()[name]):
        assert LEVEL[other.split(".")[0]] <= LEVEL[top], f"{name} imports {other}"
    if top == "measure":
        allowed = {"measure", "config", "errors"}
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
        f"for stage in {STAGES!r}:\n"
        "    sys.argv = [stage, '--help']\n"
        "    try: runpy.run_path(f'stages/{stage}.py', run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, stage\n"
        f"    if heavy := {HEAVY!r} & set(sys.modules): sys.exit(f'{{stage}} imports {{heavy}}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"usage: {stage}.py " in done.stdout for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_of_a_stage_cover_what_it_imports(stage: str) -> None:
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    deps = [dep for dep in definition.get("do", definition).get("deps", []) if isinstance(dep, str)]
    if stage == "scan":  # always changed: needs no deps
        return
    assert f"stages/{stage}.py" in deps
    missing = []
    for name in sorted(closure(ROOT / "stages" / f"{stage}.py")):
        if name.split(".")[0] in EXEMPT:
            continue
        path = modules()[name].relative_to(ROOT).as_posix()
        if path.endswith("__init__.py") and len(modules()[name].read_text().splitlines()) <= 3:
            continue  # a docstring
        if not any(path == dep or path.startswith(f"{dep}/") for dep in deps):
            missing.append(path)
    assert not missing, f"add to the deps of {stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_wiring(stage: str) -> None:
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 60


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
