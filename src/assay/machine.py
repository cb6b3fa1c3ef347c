"""What a stage took on this machine: rates, resources, curves. It differs from run to run, so DVC does not track it.

`metrics/machine/<task>/<stage>.json`  figures, which `dvc metrics show` prints
`metrics/curves/<task>/<stage>/*.tsv`  curves over the seconds of a run, which `dvc plots show` draws
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from assay.posts import write_json

EVERY_S = 0.1  # between two looks at the machine
LOOKS = 10  # that a row of the curves is the mean of


@contextmanager
def watched(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Watch CPU, memory, disk and memory of GPUs by DVCLive's monitor; curves below `folder`/resources.

    The yielded dict has the figures after the block: means in per cent, the most memory in GB. None: not watched.
    """
    figures: dict[str, Any] = {}
    if folder is None:
        yield figures
        return
    from dvclive.live import Live

    place = folder / "resources"
    shutil.rmtree(place, ignore_errors=True)
    _spare_the_gpu()
    started, before = time.time(), psutil.Process().cpu_times()
    with Live(str(place), report=None, dvcyaml=None, save_dvc_exp=False) as live:
        others = set(threading.enumerate())
        live.monitor_system(interval=EVERY_S, num_samples=LOOKS)
        try:
            yield figures
        finally:
            figures["seconds"] = round(time.time() - started, 1)
            after = psutil.Process().cpu_times()
            figures["cpu_seconds"] = round(after.user - before.user + after.system - before.system, 1)
    for thread in set(threading.enumerate()) - others:  # it writes once more after it was told to end
        if thread.name.endswith("(_monitoring_loop)"):
            thread.join()
    figures |= _tidied(place, started)


def _spare_the_gpu() -> None:
    """Where there is no driver DVCLive's monitor fails with the GPU, and loses all else (3.49): tell it so."""
    import pynvml
    from dvclive import monitor_system

    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        monitor_system.GPU_AVAILABLE = False


def _tidied(place: Path, started: float) -> dict[str, Any]:
    """DVCLive's files as curves over seconds, in one folder; returns means and largest values.

    Its last row is a mean over fewer looks, divided as if there were all: it is left out.
    """
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("system/**/*.tsv")):
        parts = path.relative_to(place).with_suffix("").parts
        name = re.sub(r"[\W_]+", "_", "_".join(parts[parts.index("system") + 1 :])).strip("_").removesuffix("_main")
        if name.startswith("gpu_usage"):  # DVCLive 3.49 gives memory's share of it, which is no use of the GPU
            continue
        head, *lines = path.read_text().splitlines() or [""]
        if "timestamp" not in head:
            continue
        at, value = head.split("\t").index("timestamp"), len(head.split("\t")) - 1
        rows = [line.split("\t") for line in lines][:-1]
        points = [(round(int(cells[at]) / 1000 - started, 1), float(cells[value])) for cells in rows]
        if points:
            write_curve(place / f"{name}.tsv", [{"seconds": s, name: round(v, 3)} for s, v in points])
            values = [v for _, v in points]
            figure = max(values) if "_GB" in name else sum(values) / len(values)
            found[f"{'most' if '_GB' in name else 'mean'}_{name}"] = round(figure, 2)
    for extra in ("plots", "metrics.json", "params.yaml"):
        path = place / extra
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return {"resources": found} if found else {}


def write_curve(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table of numbers for DVC to draw."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(rows[0]), *("\t".join(str(value) for value in row.values()) for row in rows)] if rows else []
    path.write_text("".join(f"{line}\n" for line in lines))


def write_figures(folder: Path | None, stage: str, found: Mapping[str, Any]) -> None:
    """Write the figures of a stage; nothing without a folder or without figures."""
    if folder is not None and found:
        write_json({name: value for name, value in found.items() if value is not None}, folder / f"{stage}.json")


def read_figures(folder: Path | None, stage: str) -> dict[str, Any]:
    """The figures of a stage as its last run here wrote them; {} where there are none."""
    try:
        found = json.loads((folder / f"{stage}.json").read_text()) if folder else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
