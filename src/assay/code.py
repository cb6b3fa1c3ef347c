"""What code a stage can reach, and a digest of it that comments and docstrings do not change.

A digest counts the syntax tree: names, calls, constants, in their order. Prose and layout are free, so that a comment
makes no stage run again and throws no kept feature away.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
# Modules that import others by name, and the package whose modules these are.
REGISTRIES = {
    "assay.targets": "assay.targets",
    "assay.student.outputs": "assay.student.outputs",
    "assay.corpora.layouts": "assay.corpora",
    "assay.audit.generate": "assay.audit.sources",
}
TEMPLATES = (".html", ".css", ".js", ".md")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Settings arrive by the files of stages/settings.py. The others say things, measure the machine or tell where things
# are; they decide no result.
EXEMPT = (
    "assay",
    "assay.code",
    "assay.config",
    "assay.errors",
    "assay.machine",
    "assay.places",
    "assay.plugins",
    "assay.progress",
    "assay.reads",
)


def digest(path: Path) -> str:
    """Sixteen hex digits of a file: of its syntax tree if it is Python, else of its bytes."""
    data = path.read_bytes()
    if path.suffix == ".py":
        data = _shape(ast.parse(data)).encode()
    return hashlib.sha256(data).hexdigest()[:16]


@cache
def code_digest(*paths: str) -> str:
    """Sixteen hex digits of several source files: part of the key of whatever they compute."""
    return hashlib.sha256(" ".join(digest(Path(path)) for path in paths).encode()).hexdigest()[:16]


def reached(script: Path, root: Path = ROOT) -> dict[str, str]:
    """The digest of a script, and of every module of the package at `root` that it can import, by name.

    Imports count wherever they stand. Templates beside a module belong to it. What is exempt is left
    out, as nothing that a stage writes depends on it.
    """
    known = modules(root)
    found = {script.name: digest(script)}
    for name in sorted(closure(script, root)):
        if not is_exempt(name):
            found[name] = _digest(known[name])
    folders = {known[name].parent for name in found if name in known}
    templates = [path for folder in sorted(folders) for path in sorted(folder.iterdir()) if path.suffix in TEMPLATES]
    return found | {path.relative_to(root.parent).as_posix(): _digest(path) for path in templates}


@cache
def reach_digest(module: str) -> str:
    """Sixteen hex digits of a module's file and all that it can reach: part of the key of whatever it computes."""
    return hashlib.sha256(" ".join(reached(Path(module)).values()).encode()).hexdigest()[:16]


_digest = cache(digest)  # of files that do not change while a run looks at them


def is_exempt(module: str) -> bool:
    """Whether no output depends on a module."""
    return module in EXEMPT or module.startswith("assay.config.")


@cache
def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package at `root`, by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """The package's modules that a file imports, anywhere in it, and the packages that these lie in."""
    known, found = modules(root), []
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [name for name in names if name in known and name != root.name]  # its own imports are lazy
    for registry, package in REGISTRIES.items():
        if registry in found:
            found += [name for name in known if name.startswith(f"{package}.")]
    return tuple(dict.fromkeys([*found, *(name.rpartition(".")[0] for name in found if name.count(".") > 1)]))


def closure(start: Path, root: Path = ROOT) -> set[str]:
    """All modules of the package that a file imports, and those that these import."""
    seen: set[str] = set()
    todo: list[str] = list(imports(start, root))
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(modules(root)[name], root)
    return seen


def _shape(node: object) -> str:
    """A syntax tree as text, the same on every version of Python that parses it the same."""
    if isinstance(node, ast.AST):
        return f"{type(node).__name__}({','.join(_fields(node))})"
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    return repr(node)


def _fields(node: ast.AST) -> Iterator[str]:
    """The fields of a node that hold something; a later Python has more of them, which are empty here."""
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, DOCUMENTED):
            value = [one for one in value if prose(one) is None]
        if value not in (None, []):
            yield f"{name}={_shape(value)}"


def prose(statement: ast.stmt) -> str | None:
    """The text of a docstring, of whatever stands above it; None of any other statement."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return None
    return statement.value.value if isinstance(statement.value.value, str) else None
