"""Several processes train the student that one would have trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

SCRIPT = """
import sys
import numpy as np
from assay.config import Head, Train
from assay.student.fit import fit
from assay.student.team import Team
from tests.test_student import CLASSES, SMALL, part

student = SMALL.model_copy(update={"head": Head(hidden=[8], dropout=0.0)})
settings = Train(lr=0.01, epochs=4, batch_size=40, patience=9, device="cpu")
fitted = fit(part(200, CLASSES), part(60, CLASSES, 1), student=student, targets={"t": CLASSES}, settings=settings)
if Team().is_main:
    np.save(sys.argv[1], fitted.model.predict(part(50, CLASSES, 2).features)["t"])
"""


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    for command, out in ((launch, "two.npy"), ([sys.executable], "one.npy")):
        subprocess.run(
            [*command, str(tmp_path / "run.py"), str(tmp_path / out)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}", "ASSAY_WORKERS": "1"},
            check=True,
            capture_output=True,
        )
    assert np.allclose(np.load(tmp_path / "two.npy"), np.load(tmp_path / "one.npy"), atol=1e-4)
