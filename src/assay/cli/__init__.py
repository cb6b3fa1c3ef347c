"""The command line: `assay check`, `predict`, `serve` and the others; `assay --help` lists them."""

from __future__ import annotations

import sys

from assay.cli.app import call
from assay.errors import run_main


def main() -> None:
    """Entry point of `assay`; errors of the user end with one line and status 1."""
    words = sys.argv[1:] or ["--help"]
    run_main(lambda: call(words))
