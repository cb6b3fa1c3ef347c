"""The whole report of a large corpus, by the stage itself: seconds and memory of `stages/report.py` from files to page.

    python benchmarks/whole_report.py [--quick] [--posts 1600000] [--brands 5000] [--labels 15000]

The posts of many_brands.py, each with colours and a day, written as the pipeline writes them, 50,000 a shard; the
figures of evaluate are of 900 drawn posts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from many_brands import BANDS, planted

from assay.colours import TYPE
from assay.measure.csvfile import write_csv
from assay.measure.evaluate import evaluate
from assay.measure.judged import Judged, as_columns
from assay.measure.tables import plot_tables
from assay.posts import PROBLEM_SCHEMA, write_json
from assay.targets import KINDS
from assay.teacher.labels import label_schema

ROOT = Path(__file__).resolve().parent.parent
SHARD = 50_000
SCORE = KINDS["score"].model_validate({"kind": "score", **BANDS})


def write(folder: Path, n: int, b: int, m: int) -> None:
    """All that the stage reads, below a folder."""
    posts, predictions, labels, design, _ = planted(n, b, m, 0.25)
    rng = np.random.default_rng(2)
    tones = pa.StructArray.from_arrays([pa.array(rng.random(n).astype(np.float32)) for _ in TYPE], fields=list(TYPE))
    days = pa.array(rng.integers(1_546_300_800, 1_609_459_200, n), pa.int64()).cast(pa.timestamp("s", tz="UTC"))
    posts = posts.append_column("colours", tones).append_column("created_at", days)
    predictions = predictions.append_column("probabilities", pa.nulls(n, pa.list_(pa.float32())))
    predictions = predictions.append_column("fold", pa.array(np.zeros(n, np.int16)))
    predictions = predictions.append_column("reason", pa.nulls(n, pa.string()))
    for place, table in (("corpora/big/posts", posts), ("predictions", predictions)):
        (folder / place).mkdir(parents=True)
        for number, start in enumerate(range(0, n, SHARD)):
            pq.write_table(table.slice(start, SHARD), folder / place / f"part-{number:05d}.parquet")
    pq.write_table(PROBLEM_SCHEMA.empty_table(), folder / "corpora/big/problems.parquet")
    known = {
        one.name: labels[one.name] if one.name in labels.column_names else pa.nulls(m, one.type)
        for one in label_schema(SCORE)
    }
    pq.write_table(pa.table(known), folder / "labels.parquet")
    nobody = pa.table({"post_id": pa.nulls(0, pa.string()), "people": [], "people_p": []})
    pq.write_table(nobody, folder / "people.parquet")
    (folder / "sample").mkdir()
    drawn = design.select(["post_id", "stratum"]).append_column("text", pa.array(["a post"] * m))
    drawn = drawn.append_column("images", pa.array([[]] * m, pa.list_(pa.binary())))
    pq.write_table(drawn, folder / "sample/part-00000.parquet")
    split = design.select(["post_id", "group", "held_out_p"]).append_column("split", pa.array(["train"] * m))
    pq.write_table(split, folder / "split.parquet")
    y = np.clip(rng.normal(5, 2, 900), 0, 10)
    test = Judged(
        y, np.ones(900), np.arange(900), np.clip(y + rng.normal(0, 1, 900), 0, 10), {"constant": np.full(900, 5.0)}
    )
    metrics = folder / "metrics"
    write_json(evaluate(test, SCORE, replicates=100) | {"model": "none"}, metrics / "evaluate.json")
    for name, rows in plot_tables(test, SCORE).items():
        write_csv(rows, metrics / "plots" / f"{name}.csv")
    words = {"post_id": labels["post_id"].to_pylist()[:900], "teacher": ["5"] * 900, "student": ["5"] * 900}
    pq.write_table(pa.table(words | {"error": np.zeros(900)} | as_columns(test)), metrics / "errors.parquet")
    curves = metrics / "train" / "plots" / "metrics"
    curves.mkdir(parents=True)
    for name in ("train_loss", "val_loss"):
        (curves / f"{name}.tsv").write_text(f"step\t{name}\n0\t1.0\n1\t0.5\n")
    task = {"corpus": "big", "student": "packaged", "target": {"kind": "score", **BANDS}}
    task |= {"annotate": {"from": "teacher", "teacher": {"base_url": "demo", "model": "assay-demo-1"}}}
    whole = yaml.safe_load((ROOT / "params.yaml").read_text())
    whole |= {"tasks": {"big": task}, "joint": {}, "scan": [], "audits": {}, "generators": {}}
    whole["corpora"] |= {"big": {"kind": "table", "path": "big.csv"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_600_000)
    parser.add_argument("--brands", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=15_000)
    parser.add_argument("--quick", action="store_true", help="100,000 posts, 500 brands, 2,000 labels")
    args = parser.parse_args()
    n, b, m = (100_000, 500, 2000) if args.quick else (args.posts, args.brands, args.labels)
    with tempfile.TemporaryDirectory(prefix="assay-report-") as work:
        folder = Path(work)
        write(folder, n, b, m)
        outs = {"findings": "f.json", "brands": "b.csv", "groups": "g.csv", "colours": "c.csv", "page": "page.html"}
        given = {
            "task": "big",
            "corpora": "corpora",
            "labels": "labels.parquet",
            "people": "people.parquet",
            "split": "split.parquet",
        }
        given |= {"sample": "sample", "predictions": "predictions", "metrics": "metrics", "sheets": "sheets", **outs}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ASSAY_HOME": str(folder / "home")}
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "stages/report.py"), *words], cwd=folder, env=env, check=True)
        took = time.perf_counter() - start
        figures = {
            "posts": n,
            "labels": m,
            "seconds": round(took, 1),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
            "page_mib": round((folder / "page.html").stat().st_size / 2**20, 2),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
