"""One server at work: its models, its counts, its jobs, and the way of a post to its predictions."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from assay.encode.extract import PostInputs
from assay.errors import Refusal
from assay.places import main_checkout
from assay.progress import cores
from assay.scoring.prediction import Prediction
from assay.serve import inputs
from assay.serve.inputs import Asked
from assay.serve.jobs import Jobs
from assay.serve.metrics import Metrics
from assay.serve.models import Models, Served
from assay.serve.options import Options
from assay.serve.rates import Rates


class Service:
    """One server: its options, models, jobs and counts."""

    def __init__(self, options: Options, keys: frozenset[str]) -> None:
        self.options, self.keys = options, keys
        self.models, self.metrics = Models(options), Metrics()
        self.jobs = Jobs(main_checkout())
        self.rates = Rates(options.rate_per_minute)
        self.ready = False
        self.decoding = 0
        self.decoders = ThreadPoolExecutor(cores(), thread_name_prefix="pictures")

    async def predict(self, asked: Asked, deadline: float) -> tuple[Served, list[dict[str, Prediction]]]:
        """Predictions by task, a post; `deadline` in time.monotonic(). Refusal where they cannot be had by then."""
        while True:
            served = self.models.get(asked.model)
            try:
                posts = await self._packed(served, asked, deadline)
                usable = [post for number, post in enumerate(posts) if number not in asked.faults]
                left = max(0.01, deadline - time.monotonic())
                answers = iter(await served.batcher.submit(usable, left) if usable else [])
                break
            except Refusal as refusal:  # the model may have been replaced while the pictures were decoded
                if refusal.code != "shutting_down" or self.models.get(asked.model) is served:
                    raise
        found = [
            _failed(served, asked.faults[number]) if number in asked.faults else next(answers)
            for number in range(len(posts))
        ]
        for one in found:
            self.metrics.posts.labels(served.name, next(iter(one.values())).status).inc()
        return served, found

    async def _packed(self, served: Served, asked: Asked, deadline: float) -> list[PostInputs]:
        """The posts with their pictures decoded, in a few threads of their own; they count as waiting meanwhile."""
        count = len(asked.posts)
        served.batcher.admit(count, self.decoding)
        made = served.predictor.trained.preprocessing
        work = partial(
            inputs.packed,
            asked,
            image_px=made["image_px"],
            max_images=made["max_images"],
            max_pixels=self.options.max_pixels,
        )
        self.decoding += count
        try:
            task = asyncio.get_running_loop().run_in_executor(self.decoders, work)
            return await asyncio.wait_for(task, max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            said = f"no answer within {self.options.timeout_s:g} s"
            raise Refusal(503, "timeout", said, retry_after_s=1) from None
        finally:
            self.decoding -= count


def _failed(served: Served, refusal: Refusal) -> dict[str, Prediction]:
    """What is said of a post that cannot be used."""
    reason = f"{refusal.code}: {refusal.detail}"
    return {task: Prediction("failed", None, reason=reason) for task in served.predictor.targets}
