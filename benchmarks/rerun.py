"""How long a user waits after a change: a no-op `dvc repro`, and an experiment with another learning rate.

    python benchmarks/rerun.py [--runs 3] [--quick]

Clones the committed project into a temporary folder with a home folder of its own, runs the whole
pipeline there once (the baseline), then measures. An experiment trains, evaluates, scores the whole
corpus from kept features and reports. Figures are medians in seconds. Prints one JSON object as its
last line: full_s, noop_s, experiment_s and their ratios to the full run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run, a corpus of 260 posts")
    args = parser.parse_args()
    runs = 1 if args.quick else args.runs
    with tempfile.TemporaryDirectory(prefix="assay-rerun-") as folder:
        clone = Path(folder) / "clone"
        env = {
            **os.environ,
            "ASSAY_HOME": str(Path(folder) / "home"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(clone / "src"),
        }

        def timed(*command: str) -> float:
            started = time.perf_counter()
            subprocess.run(command, cwd=clone, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            return time.perf_counter() - started

        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        if args.quick:
            params = clone / "params.yaml"
            text = params.read_text().replace("posts: 1500", "posts: 260").replace("posts: 900", "posts: 160")
            params.write_text(text)
        full = timed("dvc", "repro")
        subprocess.run(["git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qam", "ran"], cwd=clone)
        noop = [timed("dvc", "repro") for _ in range(runs)]
        rates = [0.0004 + 0.0001 * run for run in range(runs)]
        experiment = [timed("dvc", "exp", "run", "-S", f"tasks.gender_bias.train.lr={rate:.4f}") for rate in rates]
    found = {"full_s": full, "noop_s": statistics.median(noop), "experiment_s": statistics.median(experiment)}
    ratios = {"noop_ratio": found["noop_s"] / full, "experiment_ratio": found["experiment_s"] / full}
    print(json.dumps({name: round(value, 4) for name, value in (found | ratios).items()}))


if __name__ == "__main__":
    main()
