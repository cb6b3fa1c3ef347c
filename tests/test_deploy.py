"""Container files: linted, and what they copy and install is what the package declares."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import yaml

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


def test_an_installed_package_has_its_templates(tmp_path: Path) -> None:
    """As a container installs it: built, not editable."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {
        p.relative_to(ROOT / "src").as_posix() for kind in ("html", "css") for p in (ROOT / "src").rglob(f"*.{kind}")
    }
    assert wanted
    assert wanted <= names
