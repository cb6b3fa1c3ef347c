"""What README and docs print is taken as it is printed: experiments by DVC's own parser, commands by ours."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from assay import config
from assay.cli import call
from assay.cli.app import EXAMPLES, build
from assay.progress import progress
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def printed(page: Path) -> list[str]:
    """The lines of a page's code blocks of commands, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def commands(start: str) -> Iterator[str]:
    """The lines of code blocks, and the inline code, that begin with a command."""
    for page in PAGES:
        text = page.read_text()
        lines = [part.strip() for line in printed(page) for part in line.split("&&")]
        lines += re.findall(rf"`({start} [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        for line in lines:
            if line.startswith(f"{start} "):
                yield line.split("   #")[0].strip()


EXPERIMENTS = sorted({line for line in commands("dvc exp run") if "-S" in line and "…" not in line})
MENTIONED = {f"assay {name}" for name in EXAMPLES}  # in prose, not as they are typed
OWN = sorted({line for line in commands("assay") if not re.search(r"[…<]|ID|NAME|REASON", line)} - MENTIONED)


@pytest.mark.parametrize("line", EXPERIMENTS)
def test_experiments_of_the_documents_change_settings_that_are_there(line: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    words = shlex.split(line)
    settings = [words[i + 1] for i, word in enumerate(words) if word == "-S"]
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    for setting in settings:
        for one in [setting] if "--queue" not in words else [setting.split(",")[0]]:
            apply_overrides(tmp_path / "params.yaml", [one])
    config.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("line", [*OWN, *(line for lines in EXAMPLES.values() for line in lines)])
def test_commands_of_the_documents_and_of_help_are_understood(line: str) -> None:
    idle(command := get_command(build()))
    with contextlib.redirect_stdout(io.StringIO()):
        command.main(shlex.split(line.split(" > ")[0])[1:], prog_name="assay", standalone_mode=False)


def idle(command: Any) -> None:
    """Let a command, and those below it, do nothing but understand its words."""
    command.callback = None
    for one in getattr(command, "commands", {}).values():
        idle(one)


def test_there_are_commands_at_all() -> None:
    assert len(EXPERIMENTS) >= 5
    assert len(OWN) >= 10


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import time

    monkeypatch.setattr("assay.progress.EVERY_S", 0.1)
    for _ in progress(range(6), what="work", total=6):
        time.sleep(0.06)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert re.search(r"work.*/6 .*post", lines[-1])
    monkeypatch.setattr("assay.progress.EVERY_S", 30.0)
    for _ in progress(range(6), what="quick", total=6):
        pass
    assert capsys.readouterr().err == ""


def test_help_has_every_command_in_one_group_and_an_example_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    command: Any = get_command(build())
    assert sorted(command.commands) == sorted(EXAMPLES)
    for name, one in command.commands.items():
        assert one.rich_help_panel in ("Begin", "Labels", "Students", "Findings", "Elsewhere")
        assert all(line in one.epilog for line in EXAMPLES[name])
        assert one.help.strip()
        assert all(option.help for option in one.params), name
    call(["--help"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(re.search(rf" {name} +\S", text) for name in command.commands)
    assert text.index(" Begin ") < text.index(" Students ") < text.index(" Elsewhere ")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("predic", "assay: No such command 'predic'. Did you mean 'predict'? See: assay --help"),
        ("nothing-like-it", "assay: No such command 'nothing-like-it'. See: assay --help"),
        ("predict --model m --tabel a", "assay predict: No such option: --tabel (Possible options: --table"),
        ("answers pln", "assay answers: No such command 'pln'. Did you mean 'plan'? See: assay answers --help"),
        ("export m --weights huge", "assay export: Invalid value for '--weights': 'huge' is not one of 'auto', 'fast'"),
        ("plan --task a --width wide", "assay plan: Invalid value for '--width': "),
        ("compare", "assay compare: Missing argument 'REV_A'. See: "),
        ("plan --task", "assay plan: Option '--task' requires an argument. See: assay plan --help"),
        ("answers plan --task", "assay answers plan: Option '--task' requires an argument. See: "),
        ("report --task t --out --pdf", "assay report: Option '--out' needs a value, and '--pdf' is another option. "),
    ],
)
def test_what_was_mistyped_is_one_line(typed: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(typed.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert said.count("\n") == 1


def test_the_site_is_built_and_no_link_of_it_leads_nowhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    library = (tmp_path / "library" / "index.html").read_text()
    assert all(
        f'id="{name}"' in library for name in ("assay.frames.rate", "assay.scoring.predict.Predictor.predict_table")
    )
    fetched = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)"', (tmp_path / "index.html").read_text())
    assert fetched == []


def test_the_readme_fits_and_its_picture_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    places = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert places
    assert not [place for place in places if not (ROOT / place).exists()]
