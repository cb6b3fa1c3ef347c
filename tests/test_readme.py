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

import pytest

from assay import config
from assay.cli import _parser
from assay.cli.parser import EXAMPLES, GROUPS
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
    words = shlex.split(line.split(" > ")[0])[1:]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            _parser().parse_args(words)
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == 0, said.getvalue()


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


def test_help_has_every_command_in_one_group_and_an_example_of_each() -> None:
    commands = set(_parser()._commands().choices)
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(commands) == sorted(EXAMPLES)
    text = _parser().format_help()
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in commands)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("predic", "assay: no command 'predic'; did you mean predict? See: assay --help"),
        ("nothing-like-it", "assay: no command 'nothing-like-it'; allowed: init, check, "),
        ("predict --model m --tabl a", None),  # a beginning that is clear is taken
        ("predict --model m --tabel a", "assay predict: no option --tabel; did you mean --table or --text? See: "),
        ("answers pln", "assay answers: no ACTION 'pln'; did you mean plan? See: assay answers --help"),
        ("completion fish", "assay completion: no shell 'fish'; allowed: bash, zsh, tcsh. See: "),
        ("compare", "assay compare: the following arguments are required: REV_A, REV_B, --task. See: "),
    ],
)
def test_what_was_mistyped_is_one_line(typed: str, told: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    if told is None:
        _parser().parse_args(typed.split())
        return
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(typed.split())
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
