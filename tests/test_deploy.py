"""Container files: linted, and what they copy and install is what the package declares."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from assay.cli import call
from assay.errors import SettingsError
from tests import warm
from tests.conftest import ROOT


def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_copies_what_the_build_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "page", "explain"} <= set(extras)
    assert lines[-1].startswith("CMD")
    assert "USER 10001" in lines


def test_compose_and_prometheus_name_the_same_place() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    looked_at = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert looked_at["static_configs"][0]["targets"] == ["assay:8080"]
    assert compose["assay"]["ports"] == ["8080:8080"]
    assert (ROOT / "deploy" / compose["assay"]["build"]["context"]).resolve() == ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a container installs it: built, not editable."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        top = name.split("/")[0]
        if (ROOT / name).is_file() and (top in ("src", "stages", "human", "starts", ".dvc") or top == name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(source), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(source.glob("*.whl"))


def test_an_installed_package_has_its_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        p.relative_to(ROOT / "src").as_posix()
        for kind in ("html", "css", "js")
        for p in (ROOT / "src").rglob(f"*.{kind}")
    }
    assert wanted
    assert wanted <= names


def run(*command: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_a_project_of_ones_own_runs_on_the_installed_package(wheel: Path, tmp_path: Path) -> None:
    """From the built wheel to findings in an empty folder; nothing of this checkout is imported."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    folder = tmp_path / "study"
    env = {**os.environ, "PYTHONPATH": str(site), "ASSAY_HOME": str(tmp_path / "home"), "DVC_NO_ANALYTICS": "1"}
    env["PATH"] = os.pathsep.join([str(warm.folder()), env["PATH"]])
    said = run("assay", "init", str(folder), "--task", "formality", cwd=tmp_path, env=env)
    assert "dvc repro" in said.stderr + said.stdout
    where = run("timeit", "-n1", "-r1", "import assay; print(assay.__file__)", cwd=folder, env=env).stdout
    assert str(site) in where
    assert "PYTHONPATH" not in (folder / "dvc.yaml").read_text()
    text = (folder / "params.yaml").read_text()
    assert "TASK" not in text
    raw = yaml.safe_load(text)
    raw["demo"]["posts"] = 200
    raw["students"]["packaged"]["image"]["views"] = ["crop"]
    raw["tasks"]["formality"]["sample"]["posts"] = 120
    raw["tasks"]["formality"]["train"]["epochs"] = 4
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    run("assay", "check", cwd=folder, env=env)
    run("dvc", "repro", cwd=folder, env=env)
    assert "formality" in (folder / "metrics" / "formality" / "report.html").read_text()
    assert (folder / "metrics" / "formality" / "findings.json").exists()
    again = run("dvc", "repro", cwd=folder, env=env).stdout
    assert {line.split("'")[1] for line in again.splitlines() if line.startswith("Running stage")} == {
        "digests",
        "settings",
    }  # which look at the installed package
    post = ("--model", "models/formality", "--text", "what a lovely day")
    assert "value" in run("assay", "predict", *post, cwd=folder, env=env).stdout


@pytest.mark.slow
def test_a_project_is_not_laid_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def init(*words: str) -> None:
        call(["init", *words])

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".gitignore").write_text("notes/\n")
    init(str(tmp_path / "mine"))
    assert (tmp_path / "mine" / ".gitignore").read_text().startswith("notes/\n.venv/")
    assert (tmp_path / "mine" / ".dvc" / "config").exists()
    with pytest.raises(SettingsError, match=r"dvc\.yaml, \.dvcignore, .* there already; name a new folder"):
        init(str(tmp_path / "mine"))
    with pytest.raises(SettingsError, match="--task a/b: a name of letters"):
        init(str(tmp_path / "other"), "--task", "a/b")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file/?: "):
        init(str(tmp_path / "file"))
    inside = tmp_path / "mine" / "deeper"
    init(str(inside))  # in a repository of git that is there already
    assert not (inside / ".git").exists()
    assert (inside / ".dvc" / "config").exists()
