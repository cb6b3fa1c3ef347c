"""What the page asks of the server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from assay.errors import AssayError, Refusal
from assay.scoring.explain import Explanation, explain
from assay.scoring.predict import Predictor
from assay.scoring.prediction import Prediction
from assay.serve.inputs import Asked, check_post, packed
from assay.serve.models import Served
from assay.serve.options import LOOPBACK, posts_shown
from assay.serve.page.corpus import ScoredCorpus
from assay.serve.page.doors import Uploads
from assay.serve.page.queue import ReviewQueue
from assay.serve.service import Service
from assay.student.trained import load_trained

STEPS = 24  # of integrated gradients


def caller(request: Any) -> str:
    """The address that a request of the page came from, for rates and for the log of reads."""
    return request.client.host if request and request.client else ""


class Backend:
    """What the page asks of the server."""

    def __init__(self, service: Service, uploads: Uploads) -> None:
        self.service, self.options, self.uploads = service, service.options, uploads
        self.models = [path.name for path in self.options.models]
        self._copies: dict[str, tuple[str, Predictor]] = {}
        self._one = asyncio.Lock()
        self.posts = posts_shown(self.options, service.keys)
        self.may_write = self.posts and (bool(service.keys) or self.options.host in LOOPBACK)  # not whoever comes by

    def corpora(self) -> dict[str, ScoredCorpus]:
        """The scored corpora, by model and task as people read it."""
        found = {}
        for folder in self.options.models:
            try:
                targets = load_trained(folder).targets
            except AssayError:  # the server tells when it starts
                continue
            for task, target in targets.items():
                one = ScoredCorpus.of(folder, task, target)
                if one is not None:
                    found[folder.name if task == folder.name else f"{folder.name}: {task}"] = one
        return found

    def queues(self) -> dict[str, ReviewQueue]:
        """Labelled posts for people to look at, by model."""
        found = {}
        for folder in self.options.models:
            try:
                targets = load_trained(folder).targets
            except AssayError:
                continue
            for task, target in targets.items():
                one = ReviewQueue.of(folder, task, target)
                if one is not None:
                    found[folder.name] = one
        return found

    async def asked(self, model: str, text: str, picture: str | None) -> Asked:
        """A post as it came from the page; Refusal where it is over a limit."""
        files = [await asyncio.to_thread(Path(picture).read_bytes)] if picture else []
        check_post(text or "", files, self.options)
        return Asked(model, [None], [(text or "", files)])

    async def score(self, asked: Asked, caller: str) -> tuple[Served, dict[str, Prediction]]:
        """The answers to a post, through the same queue as those of the API."""
        served, found = await self.score_many(asked, caller)
        return served, found[0]

    async def score_many(self, asked: Asked, caller: str) -> tuple[Served, list[dict[str, Prediction]]]:
        """The answers to several posts."""
        self.service.rates.take(caller)
        if not self.service.ready:
            raise Refusal(503, "loading", "the models are still loading; try again in a moment", retry_after_s=2)
        return await self.service.predict(asked, time.monotonic() + self.options.timeout_s)

    async def explain(self, asked: Asked, task: str, answer: str | None) -> Explanation:
        """What an answer rests on, by a copy of the model, since gradients may not run through the one at work."""
        served = self.service.models.get(asked.model)
        async with self._one:
            return await asyncio.to_thread(self._explained, served, asked, task, answer)

    def _explained(self, served: Served, asked: Asked, task: str, answer: str | None) -> Explanation:
        version, predictor = self._copies.get(served.name, ("", None))
        if predictor is None or version != served.version:
            predictor = Predictor(served.predictor.trained, max_pixels=self.options.max_pixels, cached=False)
            self._copies[served.name] = served.version, predictor
        made = served.predictor.trained.preprocessing
        post = packed(asked, image_px=made["image_px"], max_images=1, max_pixels=self.options.max_pixels)[0]
        image = post.images[0][1] if post.images else None
        return explain(predictor, text=post.text, image=image, task=task, answer=answer, steps=STEPS)
