"""Are real faces told apart by age, and by nothing when the bands are dealt at random?

    python benchmarks/audit_faces.py --path /data/faces_by_age [--shuffles 200] [--quick]

The folder holds young/, middle/ and older/ with images. Each unit is one face of every band, and another young face as
the reference, so that the lean must be toward young. Then the four faces of each unit are dealt at random, again and
again. Prints one JSON object as its last line: the measures as they are, and how often each test rejects at 5 % when
the bands are dealt.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from assay import config
from assay.audit.findings import rounded
from assay.audit.generate import generate
from assay.audit.measures import Measures
from assay.audit.probe import Probe
from assay.audit.spaces import _of_images, _space, read_grid
from assay.config import Audit, FolderSource, ImageBranch, Student
from assay.encode.extract import Extractor
from assay.encode.seeding import seed_everything
from assay.progress import progress

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("neutral", "young", "middle", "older")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--shuffles", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="10 shuffles")
    args = parser.parse_args()
    shuffles = 10 if args.quick else args.shuffles
    shipped = config.load(ROOT / "params.yaml").audits["age"].model_dump(by_alias=True)
    audit = Audit.model_validate(shipped | {"use": ["portrait"], "perceived": None})
    with tempfile.TemporaryDirectory(prefix="assay-faces-") as folder:
        os.environ["ASSAY_HOME"] = folder
        units = mapping(args.path, Path(folder) / "faces")
        source = FolderSource(kind="folder", path=str(Path(folder) / "faces"))
        generate(audit, source, ROOT / audit.activities, Path(folder) / "images")
        grid = read_grid(Path(folder) / "images", audit.groups)
        student = Student(image=ImageBranch(encoder="packaged/efficientnet-lite0"))
        raw = _of_images(Extractor(student, image_px=audit.image_px), Path(folder) / "images", grid, "efficientnet")
    found = tests(raw, grid.there, audit, seed=1)
    rng = np.random.default_rng(1)
    rejected: dict[str, list[bool]] = {name: [] for name in found}
    for at in progress(range(shuffles), what="shuffles", unit="shuffle"):
        dealt = np.stack([unit[rng.permutation(len(GROUPS))] for unit in raw])
        for name, figure in tests(dealt, grid.there, audit, seed=at + 2).items():
            rejected[name].append(figure["p"] < 0.05)
    as_they_are = {name: {k: f[k] for k in ("value", "low", "high", "p")} for name, f in found.items()}
    result = {
        "units": units,
        "as_they_are": rounded(as_they_are),
        "rejected_when_dealt": {name: round(float(np.mean(told)), 4) for name, told in rejected.items()},
        "shuffles": shuffles,
    }
    print(json.dumps(result))


def mapping(faces: Path, root: Path) -> int:
    """Copy the faces to `root` with a mapping table; how many units there are."""
    files = {band: sorted((faces / band).glob("*.jpg")) for band in GROUPS[1:]}
    units = min(len(files["young"]) // 2, len(files["middle"]), len(files["older"]))
    lines = ["file,activity,group,seed"]
    for unit in range(units):
        shown = [files["young"][units + unit], *(files[band][unit] for band in GROUPS[1:])]
        for group, file in zip(GROUPS, shown, strict=True):
            name = f"{group}/{file.name}"
            (root / group).mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(file.read_bytes())
            lines.append(f"{name},face {unit},{group},1")
    (root / "mapping.csv").write_text("\n".join(lines) + "\n")
    return units


def tests(vectors: np.ndarray, there: np.ndarray, audit: Audit, *, seed: int) -> dict[str, dict[str, Any]]:
    """The tests of young against older."""
    statistics = audit.statistics.model_copy(update={"seed": seed, "probe_permutations": 199})
    measures = Measures(
        _space("faces", "images", audit.encoders["efficientnet"], ["portrait"], vectors, there), statistics
    )
    return {
        "lean": measures.lean(0, 1, 3),
        "sc_weat": measures.single_category(0, 1, 3),
        "centroids": measures.centroids(1, 3),
        "probe": Probe(measures.space, measures.draws, statistics).accuracy([1, 3]),
        "dispersion_across": measures.dispersion_gap(1, 3)["across"],
    }


if __name__ == "__main__":
    seed_everything(1)
    main()
