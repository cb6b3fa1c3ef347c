"""How scoring went over time on this machine: rate, success, and the student beside its teacher."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.machine import read_figures, write_curve, write_figures
from assay.scoring.prediction import STATUSES


def beside_teacher(machine: Path | None, posts_per_s: float | None) -> dict[str, Any]:
    """The teacher's rate on this machine, and how many times as fast a student of this rate is; null: not known."""
    teacher = read_figures(machine, "annotate").get("posts_per_s")
    ratio = round(posts_per_s / teacher, 2) if posts_per_s and teacher else None
    return {"teacher_posts_per_s": teacher, "student_to_teacher": ratio}


class RunLog:
    """What one run scored; posts of shards that an earlier run finished do not count."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._seconds = 0.0
        self._spent: dict[str, float] = {}
        self._status: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []

    def add(self, status: Sequence[str]) -> None:
        """Take the status of each post of a shard that was just scored."""
        now = time.perf_counter()
        shard = Counter(status)
        self._status.update(shard)
        took, self._last = now - self._last, now
        self._rows.append(
            {
                "seconds": round(now - self._started, 2),
                "posts": sum(self._status.values()),
                **{name: shard[name] for name in STATUSES},
                "success_rate": round(1 - shard["failed"] / max(1, len(status)), 4),
                "posts_per_s": round(len(status) / took, 2) if took > 0 else 0.0,
            }
        )

    def end(self, spent: Mapping[str, float]) -> None:
        """Scoring is over, what comes then is copying; `spent`: seconds of all threads by what they did."""
        self._seconds, self._spent = time.perf_counter() - self._started, dict(spent)

    def write(self, machine: Path | None, curves: Path | None, taken: Mapping[str, Any]) -> None:
        """Write `infer.json` below `machine`, `log.tsv` and `success_rate.tsv` below `curves`.

        `taken`: what machine.watched measured. The teacher's rate comes from annotate's figures of this machine, and
        the student's with nothing kept from earlier runs from evaluate's; without these there is no ratio.
        """
        if curves is not None:
            write_curve(curves / "log.tsv", self._rows)  # DVC draws the last column of a file
            rates = [{name: row[name] for name in ("seconds", "success_rate")} for row in self._rows]
            write_curve(curves / "success_rate.tsv", rates)
        posts = sum(self._status.values())
        fresh = read_figures(machine, "evaluate").get("posts_per_s")
        found = {
            "posts": posts,
            "seconds": round(self._seconds, 2),
            "posts_per_s": round(posts / self._seconds, 2) if posts and self._seconds > 0 else None,
            "success_rate": round(1 - self._status["failed"] / posts, 6) if posts else None,
            "by_step": self._by_step(posts),
            "bound_by": max(self._spent, key=lambda step: self._spent[step], default=None),
            "end_to_end_posts_per_s": fresh,
            **beside_teacher(machine, fresh),
            "resources": taken.get("resources"),
            "cpu_seconds": taken.get("cpu_seconds"),
        }
        write_figures(machine, "infer", found)

    def _by_step(self, posts: int) -> dict[str, dict[str, float]]:
        """Of each step its part of the threads' time, and how many posts a second one core does of it alone."""
        whole = sum(self._spent.values())
        return {
            step: {"share": round(took / whole, 4), "posts_per_s_a_core": float(f"{posts / took:.3g}")}
            for step, took in self._spent.items()
            if took > 0 and posts
        }
