"""Templates of pages and sheets, and files that they become."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import jinja2

from assay.measure.words import explained, plain

HERE = Path(__file__).parent
CONTENTS = "<!--contents-->"
STAMP = "<!--stamp-->"  # where a copy that is sent says when it was made, and from which commit
_HEAD = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)


def template(name: str, *folders: Path) -> jinja2.Template:
    """One of the templates of this folder, or of others; what is put into HTML is escaped, and a name that is not
    given an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, HERE]),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"plain": plain, "explained": explained, "page_file": page_file, "plotly": plotly}
    return environment.get_template(name)


def page_file(name: str) -> str:
    """The style or the script of all pages."""
    return (HERE / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def plotly() -> str:
    """Plotly's own script as the page unpacks it: gzip in base64, a third of its size."""
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()


def with_contents(page: str, least: int = 3) -> str:
    """The page with a list of its parts where CONTENTS stands, each part an anchor."""
    names: list[str] = []

    def anchored(found: re.Match[str]) -> str:
        names.append(found[1])
        return f'<h2 id="part-{len(names)}">{found[1]}</h2>'

    page = _HEAD.sub(anchored, page)
    return page.replace(CONTENTS, _links(names) if len(names) >= least else "", 1)


def _links(names: Sequence[str]) -> str:
    links = "".join(f'<a href="#part-{i}">{name}</a> ' for i, name in enumerate(names, 1))
    return f'<nav aria-label="Contents">{links}</nav>'


def write_text(text: str, path: Path) -> None:
    """Write a text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
