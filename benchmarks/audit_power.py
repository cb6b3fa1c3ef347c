"""Does the audit find what is planted, and nothing where nothing is? Drawn images, the real encoder, the real tests.

Each replication draws new images of the same activities, embeds them and tests young against older, as an audit does.
With `visible: 0` no prompt changes a picture, so that every rejection is a false one. With a planted lean the share of
rejections is the power, beside the one that the audit itself would state for an effect of this size.

    python benchmarks/audit_power.py            # 400 + 200 replications, about half an hour on two cores
    python benchmarks/audit_power.py --quick    # a minute: shows that it runs, too few to say anything

The last line is one JSON object: false_positive_rate and power are of the headline test (the lean over all images,
level 5 %); those of the other measures, and the share of replications in which any verdict was given (Holm), stand
beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, nct, t

from assay import config
from assay.audit.findings import UNDECIDED, findings
from assay.audit.generate import generate
from assay.audit.measures import Measures
from assay.audit.spaces import Grid, Space, _of_images, _space, read_grid
from assay.config import Audit, DrawnSource, ImageBranch, Student
from assay.encode.extract import Extractor
from assay.encode.seeding import seed_everything
from assay.progress import progress

CHUNK = 20  # replications that are drawn and embedded at a time
ENCODERS = {"efficientnet": "packaged/efficientnet-lite0", "colours": "packaged/colour-grid"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=int, default=400, help="replications with no effect")
    parser.add_argument("--effect", type=int, default=200, help="replications with the planted effect")
    parser.add_argument("--activities", type=int, default=24)
    parser.add_argument("--lean", type=float, default=0.51, help="share of the reference drawn young; the rest is even")
    parser.add_argument("--quick", action="store_true", help="4 + 4 replications")
    args = parser.parse_args()
    null, effect = (4, 4) if args.quick else (args.null, args.effect)
    rest = (1 - args.lean) / 2
    planted = DrawnSource(kind="demo", lean={"young": args.lean, "middle": rest, "older": rest})
    with tempfile.TemporaryDirectory(prefix="assay-power-") as folder:
        os.environ["ASSAY_HOME"] = folder
        nothing = replicate(DrawnSource(kind="demo", visible=0.0), null, args.activities, Path(folder), first=0)
        something = replicate(planted, effect, args.activities, Path(folder), first=10_000)
    rejected = share(nothing, "efficientnet", "lean_all")
    low, high = binomtest(round(rejected * null), null).proportion_ci(method="wilson")
    leans = [one["efficientnet"]["lean_all"] for one in something]
    d = float(np.mean([one["value"] for one in leans]) / np.mean([one["value"] / one["effect"] for one in leans]))
    freedom = args.activities - 1
    stated = float(nct.sf(t.ppf(0.975, freedom), freedom, d * np.sqrt(args.activities)))
    zeros = [one["efficientnet"]["lean_all"] for one in nothing]
    covered = [one["low"] <= 0 <= one["high"] for one in zeros]
    tests = [name for name in nothing[0]["efficientnet"] if name != "any_verdict"]
    result = {
        "false_positive_rate": round(rejected, 4),
        "false_positive_interval": [round(low, 4), round(high, 4)],
        "power": round(share(something, "efficientnet", "lean_all"), 4),
        "stated_power": round(stated, 4),
        "effect_d": round(d, 3),
        "interval_holds_zero_under_null": round(float(np.mean(covered)), 4),
        "any_verdict_under_null": round(float(np.mean([one["efficientnet"]["any_verdict"] for one in nothing])), 4),
        "false_positives_by_test": {
            space: {name: round(share(nothing, space, name), 4) for name in tests} for space in ENCODERS
        },
        "power_by_test": {name: round(share(something, "efficientnet", name), 4) for name in tests},
        "replications": [null, effect],
        "activities": args.activities,
    }
    print(json.dumps(result))


def share(results: list[dict[str, Any]], space: str, name: str) -> float:
    """The share of replications in which a test rejects at 5 %."""
    return float(np.mean([one[space][name]["p"] < 0.05 for one in results]))


def replicate(source: DrawnSource, count: int, activities: int, folder: Path, *, first: int) -> list[dict[str, Any]]:
    """For each replication the tests of young against older in each space, and whether any verdict was given."""
    results = []
    shipped = config.load(Path(__file__).parent.parent / "params.yaml").audits["age"]
    with progress(what="replications", total=count, unit="replication") as bar:
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            seeds = list(range(1 + first + 2 * start, 1 + first + 2 * (start + size)))
            audit = Audit.model_validate(
                shipped.model_dump(by_alias=True)
                | {"use": ["portrait"], "images": {"take": activities, "seeds": seeds}, "perceived": None}
            )
            out = folder / "images"
            generate(audit, source, Path("data/audits/age/activities.csv"), out)
            grid = read_grid(out, audit.groups)
            raw = {name: vectors(encoder, out, grid) for name, encoder in ENCODERS.items()}
            for at in range(size):
                results.append(one(audit, grid, raw, slice(2 * at, 2 * at + 2), start + at))
                bar.update(1)
            for file in folder.glob("**/*.sqlite*"):
                file.unlink()
            print(f"{start + size} of {count} replications", file=sys.stderr, flush=True)
    return results


def vectors(encoder: str, images: Path, grid: Grid) -> np.ndarray:
    """Uncentred vectors [A, G, R, d] of all images."""
    return _of_images(Extractor(Student(image=ImageBranch(encoder=encoder)), image_px=512), images, grid, encoder)


def one(audit: Audit, grid: Grid, raw: dict[str, np.ndarray], part: slice, number: int) -> dict[str, Any]:
    """The audit of one replication: two seeds of every prompt, with random draws of its own."""
    statistics = audit.statistics.model_copy(update={"seed": number + 1, "probe_permutations": 199})
    own = audit.model_copy(update={"statistics": statistics})
    there = grid.there[:, part]
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, values in raw.items():
        space: Space = _space(name, "images", audit.encoders[name], ["portrait"] * 2, values[:, :, part], there)
        space.control = False
        told = findings(own, grid, [Measures(space, statistics)], {})
        comparison = told["spaces"][name]["comparisons"]["young_vs_older"]
        for test in ("lean", "lean_all", "sc_weat", "separation", "centroids", "probe"):
            found[name][test] = comparison[test]
        for test, figure in comparison["dispersion"].items():
            found[name][f"dispersion_{test}"] = figure
        found[name]["any_verdict"] = any(one["verdict"] != UNDECIDED for one in told["verdicts"].values())
    return found


if __name__ == "__main__":
    seed_everything(1)
    main()
