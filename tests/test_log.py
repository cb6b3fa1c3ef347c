"""Figures of every epoch: DVCLive always, TensorBoard where asked for, nothing from a second process."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.student.log import curve_log


@pytest.mark.parametrize("tensorboard", [True, False])
def test_curves_are_logged(tensorboard: bool, tmp_path: Path) -> None:
    with curve_log(tmp_path / "live", tensorboard=tensorboard) as on_epoch:
        assert on_epoch
        for epoch in range(3):
            on_epoch({"epoch": epoch, "train_loss": 1.0 / (epoch + 1), "val_loss": 0.5})
    lines = (tmp_path / "live" / "plots" / "metrics" / "val_loss.tsv").read_text().splitlines()
    assert len(lines) == 4
    assert len(list((tmp_path / "live").glob("tensorboard/events*"))) == int(tensorboard)


def test_a_second_process_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with curve_log(tmp_path / "live", tensorboard=True) as on_epoch:
        assert on_epoch is None
    assert not (tmp_path / "live").exists()
