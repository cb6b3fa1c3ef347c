"""Imported first by every stage: this copy's own sources come before those that are installed, in its workers too.

An experiment in a temporary copy runs its own code, not that of the main checkout; a project has no sources of ours.
"""

import os
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
if (SOURCES / "assay").is_dir():
    sys.path.insert(0, str(SOURCES))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
