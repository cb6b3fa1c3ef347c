"""The names of losses, known without importing torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from assay.plugins import brought_losses

OUTPUTS = Path(__file__).parent.parent / "student" / "outputs"


@cache
def known_losses(kind: str) -> tuple[str, ...]:
    """The losses of a kind of target, as the dict `losses` of its file in student/outputs names them, and packages'.

    Empty for a kind whose output comes from a package: what it knows is seen when it trains.
    """
    path = OUTPUTS / f"{kind}.py"
    if not path.is_file():
        return ()
    found = [
        ast.literal_eval(key)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "losses"
        if isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if key is not None
    ]
    return ("auto", *found, *brought_losses(kind))
