"""Digests of code: what a comment, a docstring or another layout leaves alone, and what a change of meaning changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.code import closure, digest, reached
from tests.conftest import ROOT

SOURCE = '''"""A module."""

LIMIT = 5


class Thing:
    """A thing."""

    size: int = 3


def double(x):
    """Twice x."""
    return 2 * x
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 5", "LIMIT = 5  # posts"),
        ('"""Twice x."""', '"""x and x."""'),
        ('    """A thing."""\n\n', ""),
        ('"""A module."""', "# nothing"),
        ("return 2 * x", "return (\n        2 * x\n    )"),
    ],
    ids=["comment", "docstring", "no docstring", "no module docstring", "layout"],
)
def test_prose_and_layout_change_nothing(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    before = digest(path)
    path.write_text(SOURCE.replace(old, new))
    assert path.read_text() != SOURCE
    assert digest(path) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("LIMIT = 5", "LIMIT = 6"), ("2 * x", "x * 2"), ("size: int", "width: int"), ("return 2", "return -2")],
)
def test_meaning_changes_it(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    before = digest(path)
    path.write_text(SOURCE.replace(old, new))
    assert digest(path) != before


def test_text_that_is_no_docstring_counts(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('def f():\n    x = "a"\n    return x\n')
    before = digest(path)
    path.write_text('def f():\n    x = "b"\n    return x\n')
    assert digest(path) != before


def test_a_script_reaches_what_its_imports_import(tmp_path: Path) -> None:
    package = tmp_path / "lib"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__.py": "from lib.unused import x\n",
        "inner/__init__.py": "",
        "inner/deep.py": "A = 1\n",
        "late.py": "def f():\n    from lib.inner import deep\n    return deep\n",
        "unused.py": "x = 1\n",
        "inner/page.html": "<p>",
    }.items():
        (package / name).write_text(text)
    script = tmp_path / "stage.py"
    script.write_text("from lib.late import f\n")
    assert closure(script, package) == {"lib.late", "lib.inner", "lib.inner.deep"}
    assert set(reached(script, package)) == {
        "stage.py",
        "lib.late",
        "lib.inner",
        "lib.inner.deep",
        "lib/inner/page.html",
    }


def test_who_imports_a_registry_reaches_all_that_it_finds() -> None:
    assert {"assay.targets.ranks", "assay.student.outputs.ranks"} <= set(reached(ROOT / "stages" / "train.py"))


def test_settings_and_what_only_says_things_do_not_count() -> None:
    found = reached(ROOT / "stages" / "split.py")
    assert "assay.splits" in found
    assert not [name for name in found if name.startswith(("assay.config", "assay.errors", "assay.progress"))]
