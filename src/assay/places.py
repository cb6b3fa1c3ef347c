"""Where things live outside the repository: the home folder and raw corpora."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from assay.errors import SettingsError

_TEMPORARY = f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}"


def home() -> Path:
    """The folder that outlives every run: answers, features, resume files, the author key.

    `$ASSAY_HOME`, else the platform's data folder. Made when absent.
    """
    named = os.environ.get("ASSAY_HOME")
    folder = Path(named).expanduser() if named else Path(platformdirs.user_data_dir("assay", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"ASSAY_HOME={folder}: {error.strerror}; set ASSAY_HOME to a folder that can be written"
        ) from error
    return folder.resolve()


def main_checkout(start: Path | None = None) -> Path:
    """The user's own checkout, also from inside `dvc exp run --temp` or a queued experiment.

    DVC runs those in `<checkout>/.dvc/tmp/exps/<name>`, where raw corpora do not exist.
    """
    here = str((start or Path.cwd()).resolve()) + os.sep
    at = here.find(_TEMPORARY)
    return Path(here[:at] if at >= 0 else here)


def start_folder(name: str) -> Path:
    """Where a student that others start from is kept, see `assay keep`."""
    return Path("starts") / name


def with_extra(name: str) -> str:
    """How to install what an extra brings: in a checkout from there, else from the registry."""
    checkout = Path(__file__).parents[2]
    if not (checkout / "pyproject.toml").exists():
        return f"pip install 'assay[{name}]'"
    return f"pip install -e '{'.' if checkout == Path.cwd() else checkout}[{name}]'"


def corpus_root(path: str) -> Path:
    """The absolute folder of a corpus; a relative path counts from the main checkout."""
    if "://" in path:
        raise SettingsError(f"{path}: only a table and its pictures may lie in object storage (kind: table)")
    given = Path(path).expanduser()
    return given if given.is_absolute() else main_checkout() / given
