"""The models that a server answers for; a folder that changed is loaded beside the old one and then takes its place."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.encode.encoders import default_device
from assay.encode.extract import PostInputs
from assay.errors import Refusal
from assay.progress import cores, say
from assay.scoring.predict import Predictor
from assay.scoring.publish import evaluated
from assay.serve.batching import Batcher
from assay.serve.options import Options
from assay.student.trained import model_digest

Stamp = tuple[tuple[str, int, int], ...]


@dataclass
class Served:
    """One version of one model at work."""

    name: str
    version: str
    predictor: Predictor
    batcher: Batcher

    def card(self) -> dict[str, Any]:
        """What the model says of itself: tasks, labels, calibration, training, and its figures where they are there."""
        trained = self.predictor.trained
        folder = trained.folder
        text = (folder / "README.md").read_text() if folder and (folder / "README.md").is_file() else ""
        return {
            "name": self.name,
            "version": self.version,
            "tasks": {task: target.model_dump() for task, target in trained.targets.items()},
            "preprocessing": trained.preprocessing,
            "calibration": trained.calibration,
            "versions": trained.versions,
            "training": trained.training,
            "metrics": evaluated(folder, self.version) if folder else None,
            "card": text,
        }


def warm(folder: Path, options: Options) -> Predictor:
    """A predictor with its encoders loaded; they answer faster the second time."""
    predictor = Predictor.load(folder, max_pixels=options.max_pixels, cached=False)
    predictor.encoders()
    predictor.score([PostInputs("warm up", [])])
    return predictor


def workers(options: Options) -> int:
    """How many batches a model works on at once: on a CPU as many as there are cores, which encode chunks of them."""
    return options.workers or (min(4, cores()) if default_device().type == "cpu" else 1)


class Models:
    """All models of a server by name."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.served: dict[str, Served] = {}
        self.reloads = 0
        self._seen: dict[str, Stamp] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load all models; ModelError or EncoderError where one cannot be."""
        for folder in self.options.models:
            self._seen[folder.name] = _stamp(folder)
            self.served[folder.name] = await self._load(folder)
        self._watch = asyncio.create_task(self._watched())

    async def close(self) -> None:
        """Finish what was taken and stop."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await asyncio.gather(*(one.batcher.close() for one in self.served.values()))

    def get(self, name: str | None) -> Served:
        """A model by name, or the only one; Refusal 404 or 422 otherwise."""
        if name is None:
            if len(self.served) > 1:
                raise Refusal(422, "which_model", f"name a model: {', '.join(self.served)}")
            return next(iter(self.served.values()))
        if name not in self.served:
            raise Refusal(404, "no_such_model", f"no such model; there are: {', '.join(self.served)}")
        return self.served[name]

    async def _load(self, folder: Path) -> Served:
        loop, options = asyncio.get_running_loop(), self.options
        version = await loop.run_in_executor(None, model_digest, folder)
        copies = workers(options)
        predictor = await loop.run_in_executor(None, warm, folder, options)
        batcher = Batcher(
            [predictor.score] * copies,
            threads=max(1, cores() // copies) if default_device().type == "cpu" else None,
            batch=options.batch,
            queue=options.queue,
            wait_s=options.wait_ms / 1000,
            most_wait_s=options.max_wait_s,
        )
        return Served(folder.name, version[:16], predictor, batcher)

    async def _watched(self) -> None:
        """Look every few seconds whether a folder changed; requests in work end with the old version."""
        seen = self._seen
        while True:
            await asyncio.sleep(self.options.reload_s)
            for folder in self.options.models:
                stamp = _stamp(folder)
                if stamp == seen[folder.name] or not stamp:
                    continue
                try:
                    fresh = await self._load(folder)
                except Exception as error:  # half written, in any way: the old one stays, look again
                    said = " ".join(str(error).split())[:200]
                    say(f"serve: {folder} changed and cannot be loaded yet: {type(error).__name__}: {said}")
                    continue
                if _stamp(folder) != stamp:
                    await fresh.batcher.close()
                    continue
                seen[folder.name] = stamp
                if fresh.version == self.served[folder.name].version:
                    await fresh.batcher.close()
                    continue
                old, self.served[folder.name] = self.served[folder.name], fresh
                self.reloads += 1
                say(f"serve: {folder.name} is now version {fresh.version}")
                await old.batcher.close()


def _stamp(folder: Path) -> Stamp:
    """Names, sizes and times of a model's files; empty where the folder is gone."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
        return tuple((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files)
    except OSError:
        return ()
