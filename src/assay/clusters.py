"""Ray: how a run connects to it, and how what a worker refuses comes back as one line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assay.code import reach_digest
from assay.errors import DataError, SettingsError
from assay.places import with_extra
from assay.progress import cores

TOLD = "assay says: "  # begins what a worker refuses with, within what Ray says of it


@contextmanager
def connected(setting: str, cpus: int) -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names or started on this machine, and let go again.

    `setting` is what asked for it, `cpus` how many a worker wants. SettingsError where it cannot be had.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingsError(f"{setting}: ray is not installed; {with_extra('cluster')}, or engine: local") from error
    address = os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {} if address else {"num_cpus": max(cores(), cpus), "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except Exception as error:  # ConnectionError, RuntimeError of versions, and what its transports raise
        said = " ".join(str(error).split())[:160]
        raise SettingsError(
            f"RAY_ADDRESS={address or ''}: no Ray cluster that can be used ({type(error).__name__}: {said}); start one "
            "with `ray start --head`, or unset it to use this machine"
        ) from error
    quiet = ray.data.DataContext.get_current()
    quiet.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def check_version(file: str, code: str) -> None:
    """RuntimeError in a worker whose code, as far as the module of `file` reaches, is not that which asks."""
    if (own := reach_digest(file)) != code:
        raise RuntimeError(f"{TOLD}this worker has another version of assay ({own}, not {code}); install the same")


def told(error: Exception) -> DataError:
    """The one line in what Ray says of a worker's end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line.split(TOLD, 1)[1] for line in lines if TOLD in line), lines[-1] if lines else repr(error))
    return DataError(f"a worker of the Ray cluster: {said[:300]}")
