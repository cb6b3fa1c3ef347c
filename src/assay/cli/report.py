"""assay report: the page of a task as a file to send, stamped with when and from what it was made; as PDF too."""

from __future__ import annotations

import datetime
import html
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

from typer import Option

from assay import __version__, config
from assay.errors import DataError, SettingsError
from assay.progress import say

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
SECONDS = 120  # that a browser may take


def report(
    task: Annotated[str, Option(help="A task, an audit, or JOINT/TASK.")],
    out: Annotated[Path | None, Option(metavar="FILE", help="The file to write; by default TASK.html.")] = None,
    pdf: Annotated[Path | None, Option(metavar="FILE", help="Print it to this file, by an installed Chromium.")] = None,
) -> None:
    """Write the page of a task or audit as a file to send, with date and commit; --pdf where a browser is.

    Copies metrics/TASK/report.html (or an audit's page), which `dvc repro` made, and writes into it when and from which
    commit. What it shows of posts is masked unless report.share is full.
    """
    from assay.measure.pages import STAMP, write_text

    page = _page(task)
    out = out or Path(f"{task.replace('/', '-')}.html")
    try:
        write_text(page.read_text(encoding="utf-8").replace(STAMP, _stamp(), 1), out)
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror or error}") from error
    say(f"report: {out}, {out.stat().st_size / 2**20:.1f} MiB")
    if pdf:
        try:
            _print(out, pdf)
        except OSError as error:
            raise SettingsError(f"--pdf {pdf}: {error.strerror or error}") from error
        say(f"report: {pdf}, {pdf.stat().st_size / 2**20:.1f} MiB")


def _page(task: str) -> Path:
    """Where the page of a task, a task of a joint student or an audit lies; DataError where there is none."""
    first, _, second = task.partition("/")
    root = Path("metrics")
    places = [root / "joint" / first / "report" / f"{second}.html"] if second else []
    places += [root / task / "report.html", root / task / "audit.html"]
    for place in places:
        if place.is_file():
            return place
    params = config.load()
    stage = "audit" if task in params.audits else "joint_report" if first in params.joint else "report"
    known = [*params.tasks, *params.audits, *(f"{one}/{member}" for one, own in params.joint.items() for member in own)]
    if task not in known:
        raise SettingsError(f"--task {task}: allowed: {', '.join(known)}")
    raise DataError(f"{places[0]} is not there; run `dvc repro {stage}@{first}`")


def _stamp() -> str:
    """When, by which version, and from which commit."""
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = ", with changes that are not committed" if commit and _git("status", "--porcelain") else ""
    from_what = f" from commit <code>{html.escape(commit)}</code>{changed}" if commit else ""
    return f'<p class="muted">Made {made} by assay {__version__}{from_what}.</p>'


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if not git:
        return ""
    done = subprocess.run([git, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else ""


def _print(page: Path, out: Path) -> None:
    """Print a page to PDF; SettingsError where no browser is, or where it does not do it."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SettingsError(f"--pdf: no browser found; install one of {', '.join(BROWSERS[:3])}, or print it by hand")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="assay-pdf-") as profile:
        command = [browser, "--headless=new", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # root has none
        command += ["--no-pdf-header-footer", "--virtual-time-budget=20000", f"--print-to-pdf={out.resolve()}"]
        try:
            command.append(page.resolve().as_uri())
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise SettingsError(f"--pdf: {Path(browser).name} took more than {SECONDS} s") from error
    if not out.is_file():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SettingsError(f"--pdf: {Path(browser).name} wrote nothing: {said[-1][:160] if said else done.returncode}")
