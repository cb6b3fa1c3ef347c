"""assay models: what is trained, beside its figures, and what cannot be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.cli.models import models
from assay.errors import DataError
from assay.scoring.models import trained_models
from assay.student.trained import model_digest
from tests.serving import BIAS, MOODS, make_model


def evaluated(root: Path, name: str, model: Path, metric: str) -> None:
    """Figures of a model as the stage leaves them."""
    folder = root / "metrics" / name
    folder.mkdir(parents=True)
    figure = {"value": 0.81, "low": 0.7, "high": 0.9}
    gap = {"value": 0.01, "low": -0.02, "high": 0.04, "against": "both"}
    found = {metric: figure, "gap_probe": gap, "n": 1200, "model": model_digest(model)[:16]}
    (folder / "evaluate.json").write_text(json.dumps(found))


def test_students_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moods = make_model(tmp_path / "models/moods", MOODS)
    bias = make_model(tmp_path / "models/bias", BIAS)
    evaluated(tmp_path, "moods", moods, MOODS.headline)
    evaluated(tmp_path, "bias", moods, BIAS.headline)  # another model's figures
    machine = tmp_path / "metrics/machine/moods"
    machine.mkdir(parents=True)
    (machine / "evaluate.json").write_text(json.dumps({"posts_per_s": 24.8}))
    broken = make_model(tmp_path / "models/old", MOODS) / "config.json"
    broken.write_text(broken.read_text().replace('"format": 3', '"format": 1'))
    rows = {row["task"]: row for row in trained_models(tmp_path)}
    assert rows["moods"]["figure"] == {"value": 0.81, "low": 0.7, "high": 0.9}
    assert rows["moods"]["posts_per_s"] == 24.8
    assert rows["moods"]["note"] is None
    assert "efficientnet-lite0 + minilm-l6" in rows["moods"]["made_of"]
    assert rows["bias"]["figure"] is None
    assert "trained again since" in rows["bias"]["note"]
    assert "train again with this version" in rows["old"]["note"]
    (tmp_path / "metrics/bias/evaluate.json").unlink()
    assert {row["task"]: row["note"] for row in trained_models(tmp_path)}["bias"] == "not evaluated"
    assert bias.exists()
    models(tmp_path)
    said = capsys.readouterr().out
    assert "0.810 [0.700, 0.900]" in said
    assert "+0.010 (both, not decided)" in said
    assert "1,200" in said
    models(tmp_path, as_json=True)
    assert len(json.loads(capsys.readouterr().out)) == 3
    with pytest.raises(DataError, match="no trained student"):
        models(tmp_path / "elsewhere")
