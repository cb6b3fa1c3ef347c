"""The shards of a corpus on Ray: the same work as on one machine, by actors of a cluster, or of this machine.

Workers need the package and must reach posts and images by the same paths, or by object storage (infer.share, and the
corpus' images_root); the student is sent to them. A shard is the unit of work: whatever a lost worker had of one is
done again by another, and only whole shards come back.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.buckets import Bucket, root_of
from assay.clusters import TOLD, check_version, connected, told
from assay.code import reach_digest
from assay.config import Infer
from assay.errors import AssayError, DataError, SettingsError
from assay.scoring.exported import FOLDER
from assay.scoring.predict import Predictor
from assay.scoring.shards import Place, Shard, score_shard
from assay.scoring.share import Part, Share, as_bytes, as_table

Scored = tuple[Shard, dict[str, pa.Table], dict[str, float]]
"""A shard, its predictions by task, and the seconds that its worker spent by what it did."""
RETRIES = 5  # of a shard whose worker is lost


def score_on_ray(
    model: Path,
    place: Place,
    shards: Sequence[Shard],
    tick: Callable[[int], Any],
    *,
    tasks: Sequence[str],
    settings: Infer,
    given: dict[str, Any],
) -> Iterator[Scored]:
    """The shards as they are finished, in any order, on the cluster that RAY_ADDRESS names or else on this machine.

    `tick` is told how many posts are done, shard by shard; `given`: how Predictor.load is called.

    SettingsError where Ray or the cluster is not there, or has no room for one worker; DataError where workers cannot
    do their work.
    """
    share = Share(Bucket(settings.share)) if settings.share else None
    if share:
        waiting = []
        for shard in shards:  # what workers finished, and an earlier run did not fetch
            if found := share.finished(shard, tasks):
                tick(shard.stop - shard.start)
                yield shard, found, {}
            else:
                waiting.append(shard)
        shards = waiting
    if not shards:
        return
    with connected("infer.engine", settings.cpus) as ray:
        most = _workers(ray, settings, len(shards))
        parts = share.send(place.posts) if share else []
        files = ray.put({str(path.relative_to(model)): path.read_bytes() for path in _files(model)})
        constructor = {
            "files": files,
            "place": {name: str(value) for name, value in asdict(place).items()},
            "load": given,
            "cpus": settings.cpus,
            "gpu": bool(settings.gpus),
            "cached": "RAY_ADDRESS" not in os.environ,
            "code": reach_digest(__file__),
            "share": settings.share,
            "parts": parts,
        }
        data = ray.data.from_items([{"shard": json.dumps(asdict(shard))} for shard in shards], override_num_blocks=1)
        work = data.repartition(len(shards)).map_batches(
            Worker,
            fn_constructor_kwargs=constructor,
            batch_size=1,
            concurrency=(1, most),
            num_cpus=settings.cpus,
            num_gpus=settings.gpus or None,
            max_task_retries=RETRIES,
        )
        by_number = {shard.number: shard for shard in shards}
        try:
            for row in work.iter_rows():
                shard = by_number[int(row["number"])]
                if share is None:
                    sent = zip(json.loads(row["tasks"]), row["tables"], strict=True)
                    tables = {task: as_table(table) for task, table in sent}
                elif kept := share.finished(shard, tasks):
                    tables = kept
                else:
                    raise DataError(f"{settings.share}: what a worker kept of a shard is gone; run again")
                tick(shard.stop - shard.start)
                yield shard, tables, json.loads(row["spent"])
        except ray.exceptions.RayError as error:
            raise told(error) from error


def _files(model: Path) -> list[Path]:
    """The files of a model folder that a worker needs."""
    found = [*model.iterdir(), *(model / FOLDER).glob("*")]
    return sorted(path for path in found if path.is_file())


class Worker:
    """Scores shards; one actor of the cluster."""

    def __init__(
        self,
        *,
        files: Any,
        place: dict[str, str],
        load: dict[str, Any],
        cpus: int,
        gpu: bool,
        cached: bool,
        code: str,
        share: str | None,
        parts: Sequence[tuple[str, int, int]],
    ) -> None:
        """`files`: a reference to the files of the model folder, which is loaded as `load` says; `code`: the digest of
        the code that asks.

        `share`: the address by which posts come, in `parts`, and predictions go.

        `cached`: keep features, which several hosts cannot do in one place.
        """
        import ray

        os.environ["ASSAY_WORKERS"] = str(cpus)
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        check_version(__file__, code)
        self._folder = tempfile.TemporaryDirectory(prefix="assay-model-")
        folder = Path(self._folder.name)
        for name, data in ray.get(files).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        self.share, self.parts = Share(Bucket(share)) if share else None, [Part(*part) for part in parts]
        self.place = Place(Path(place["posts"]), root_of(place["root"]), int(place["batch_size"]), place["stem"])
        try:
            self.predictor = Predictor.load(folder, **load, cached=cached, hub=True)
        except AssayError as error:
            raise RuntimeError(f"{TOLD}{error}") from error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The predictions of one shard."""
        shard = Shard(**json.loads(batch["shard"][0]))
        shard.folds = {int(row): fold for row, fold in shard.folds.items()}
        before = self.predictor.clock.spent()
        try:
            own = self.share.fetch(self.place, shard, self.parts) if self.share else (self.place, shard)
            scored = score_shard(self.predictor, *own)
            if self.share:
                self.share.keep(shard, scored)
                scored = {}
        except (AssayError, OSError) as error:
            raise RuntimeError(f"{TOLD}{error}") from error
        spent = {name: took - before.get(name, 0.0) for name, took in self.predictor.clock.spent().items()}
        return {
            "number": [shard.number],
            "tasks": [json.dumps(list(scored))],
            "tables": [[as_bytes(table) for table in scored.values()]],
            "spent": [json.dumps(spent)],
        }


def _workers(ray: Any, settings: Infer, shards: int) -> int:
    """How many workers fit; SettingsError where none does."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = sum(
        min(
            int(node.get("CPU", 0) // settings.cpus),
            int(node.get("GPU", 0) / settings.gpus) if settings.gpus else shards,
        )
        for node in nodes
    )
    if fits < 1:
        most = [max((node.get(kind, 0) for node in nodes), default=0) for kind in ("CPU", "GPU")]
        raise SettingsError(
            f"infer.cpus: {settings.cpus} and infer.gpus: {settings.gpus:g} a worker, but no node of the cluster has "
            f"more than {most[0]:g} CPUs and {most[1]:g} GPUs; ask for less"
        )
    return min(fits, shards)
