"""Where the figures of every epoch go: DVCLive always, TensorBoard where params ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvclive.live import Live

from assay.errors import SettingsError
from assay.places import with_extra
from assay.student.resume import Curve
from assay.student.team import Team


@contextmanager
def curve_log(folder: Path, *, tensorboard: bool) -> Iterator[Callable[[Curve], None] | None]:
    """A function that takes the figures of an epoch and logs them below `folder`; None where others log."""
    if not Team().is_main:
        yield None
        return
    writer = _writer(folder / "tensorboard") if tensorboard else None
    with Live(str(folder), report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False) as live:

        def on_epoch(curve: Curve) -> None:
            live.step = int(curve["epoch"])
            for name, value in curve.items():
                if name != "epoch":
                    live.log_metric(name, value)
                    if writer:
                        writer.add_scalar(name, value, live.step)
            live.make_summary()

        try:
            yield on_epoch
        finally:
            if writer:
                writer.close()


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(f"train.tensorboard needs the package tensorboard: {with_extra('tune')}") from error
    return SummaryWriter(str(folder))
