"""assay plots: DVC's pages of plots, made so that they open without network.

DVC's own page loads Vega, Vega-Lite and Vega-Embed from elsewhere. A template with these scripts inside lies beside
DVC's settings (`.dvc/plots-page.html`, which git does not keep), and the settings of this clone name it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Option

from assay.cli.commands import run
from assay.errors import SettingsError
from assay.places import with_extra
from assay.progress import say

PAGE = "plots-page.html"
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>body { font-family: sans-serif; } table { border-spacing: 15px; }</style>
<script>(() => {SCRIPTS})();</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def plots(root: Annotated[Path, Option(help="The repository.")] = Path()) -> None:
    """Make the pages of `dvc plots diff` and `dvc plots show` work without network.

    Writes a template with Vega inside (.dvc/plots-page.html) and names it in this clone's settings of DVC
    (.dvc/config.local). Once a clone; `make install` and `assay init` do it.
    """
    if not can_be_made():
        raise SettingsError(f"plots without network need the package vl-convert-python: {with_extra('plots')}")
    place = make_page(root)
    say(f"{place}: the pages of `dvc plots diff` and `dvc plots show` need no network now")


def can_be_made() -> bool:
    """Whether the package that brings Vega is there."""
    return find_spec("vl_convert") is not None


def make_page(root: Path) -> Path:
    """Write the template of a repository and name it in its local settings; SettingsError where it is none of DVC's."""
    import vl_convert

    folder = root / ".dvc"
    if not folder.is_dir():
        raise SettingsError(f"{root.resolve()} is no repository of DVC: there is no folder .dvc in it; go to one")
    scripts = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    scripts = scripts.replace("</script", "<\\/script")
    try:
        (folder / PAGE).write_text(TEMPLATE.replace("SCRIPTS", scripts), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{folder / PAGE}: {error.strerror or error}") from error
    run(root, sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", PAGE)
    return folder / PAGE
