"""Are real faces told apart by age, and by nothing when the bands are dealt at random?

    python benchmarks/audit_faces.py --path /data/faces_by_age [--pairings 200] [--quick]

The folder holds young/, middle/ and older/ with images. A pairing is drawn by lot, again and again: 40 units of one
face of every band, and another young (or older) face as the reference, so that the lean must be toward young (or
older). With a reference that is half young and half older there is nothing to find, and neither where the four faces
of each unit are dealt at random. Prints one JSON object as its last line: how often each test decides at 5 %, of the
leans also whether the interval leaves zero out, as a verdict wants it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from assay import config, images
from assay.audit.measures import Measures
from assay.audit.probe import Probe
from assay.audit.spaces import _space
from assay.config import Audit, ImageBranch, Student
from assay.encode.extract import Extractor, PostInputs
from assay.encode.seeding import seed_everything
from assay.progress import progress

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("neutral", "young", "middle", "older")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--pairings", type=int, default=200, help="of each kind")
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="10 pairings")
    args = parser.parse_args()
    pairings = 10 if args.quick else args.pairings
    shipped = config.load(ROOT / "params.yaml").audits["age"].model_dump(by_alias=True)
    audit = Audit.model_validate(shipped | {"use": ["portrait"], "perceived": None})
    with tempfile.TemporaryDirectory(prefix="assay-faces-") as folder:
        os.environ["ASSAY_HOME"] = folder
        faces = {band: vectors_of(args.path / band, audit) for band in GROUPS[1:]}
    result: dict[str, Any] = {"faces": {band: len(found) for band, found in faces.items()}, "units": args.units}
    for kind in ("young", "older", "half", "dealt"):
        rng = np.random.default_rng(1)
        told: dict[str, list[bool]] = {}
        values: dict[str, list[float]] = {}
        for at in progress(range(pairings), what=f"pairings, {kind}", unit="pairing"):
            raw = pairing(faces, kind, args.units, rng)
            for name, figure in tests(raw, audit, seed=at + 1).items():
                zero = "lean" in name and figure["low"] <= 0 <= figure["high"]
                told.setdefault(name, []).append(figure["p"] < 0.05 and not zero)
                values.setdefault(name, []).append(figure["value"])
        result[kind] = {
            "decided": {name: round(float(np.mean(found)), 4) for name, found in told.items()},
            "median": {name: round(float(np.median(found)), 4) for name, found in values.items()},
        }
    print(json.dumps(result | {"pairings": pairings}))


def vectors_of(folder: Path, audit: Audit) -> np.ndarray:
    """Vectors [n, d] of a band's faces."""
    student = Student(image=ImageBranch(encoder="packaged/efficientnet-lite0"))
    posts = [
        PostInputs("", [(images.content_hash(data), data)])
        for data in (file.read_bytes() for file in sorted(folder.glob("*.jpg")))
    ]
    features, _ = Extractor(student, image_px=audit.image_px)(posts)
    return features.image


def pairing(faces: dict[str, np.ndarray], kind: str, units: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors [units, groups, 1, d] by lot; no face stands in two places."""
    dealt = {band: found[rng.permutation(len(found))] for band, found in faces.items()}
    used = {"young": (units, 0), "dealt": (units, 0), "older": (0, units), "half": (units // 2, units - units // 2)}[
        kind
    ]
    for band, of_reference in zip(("young", "older"), used, strict=True):
        if len(dealt[band]) < units + of_reference:
            raise SystemExit(f"{band}: {len(dealt[band])} faces are too few for {units} units")
    reference = np.concatenate([dealt["young"][: used[0]], dealt["older"][: used[1]]])
    groups = [dealt["young"][used[0] :], dealt["middle"], dealt["older"][used[1] :]]
    raw = np.stack([reference, *(group[:units] for group in groups)], axis=1)
    if kind == "dealt":
        raw = np.stack([unit[rng.permutation(len(GROUPS))] for unit in raw])
    return raw[:, :, None].astype(np.float32)


def tests(vectors: np.ndarray, audit: Audit, *, seed: int) -> dict[str, Any]:
    """The tests of young against older."""
    statistics = audit.statistics.model_copy(update={"seed": seed, "probe_permutations": 199})
    there = np.ones((len(vectors), 1), dtype=bool)
    space = _space("faces", "images", audit.encoders["efficientnet"], ["portrait"], vectors, there)
    measures = Measures(space, statistics)
    return {
        "lean": measures.lean(0, 1, 3),
        "lean_all": measures.lean_all(0, 1, 3),
        "sc_weat": measures.single_category(0, 1, 3),
        "centroids": measures.centroids(1, 3),
        "probe": Probe(measures.space, measures.draws, statistics).accuracy([1, 3]),
        "dispersion_across": measures.dispersion_gap(1, 3)["across"],
    }


if __name__ == "__main__":
    seed_everything(1)
    main()
