"""The HTTP API: predictions, models, health, metrics, and the two paths of an older service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from assay import __version__, config
from assay.errors import AssayError
from assay.places import main_checkout
from assay.progress import cores
from assay.scoring.predict import Prediction
from assay.serve import inputs
from assay.serve.guard import Guard, answer
from assay.serve.inputs import Asked, PredictIn
from assay.serve.jobs import Jobs, shown
from assay.serve.metrics import Metrics
from assay.serve.models import Models, Served
from assay.serve.options import Options, keys_from_environment
from assay.serve.refusal import Refusal
from assay.student.features import PostInputs

CODES = {
    400: "The body cannot be read.",
    401: "No key, or a wrong one.",
    408: "The body came too slowly.",
    413: "Too large: body, text, picture, or number of posts.",
    415: "Neither JSON nor a form.",
    422: "The body does not fit, or a picture cannot be decoded.",
    429: "Too many requests for this key; Retry-After says when.",
    500: "The model failed.",
    503: "Too busy; Retry-After says when.",
}


class Error(BaseModel):
    """What is said of a request that is not served."""

    class Said(BaseModel):
        code: str
        message: str

    error: Said


class TaskOut(BaseModel):
    """What the student says of a post for one task; the interval or set holds the label of 90 % of posts."""

    value: float | str | list[str] | None
    probabilities: dict[str, float] | None
    interval: tuple[float, float] | None
    prediction_set: list[str] | None


class PredictionOut(BaseModel):
    """One post: `ok`, `text_only`, `image_only` or `failed`, and an answer for each task."""

    id: str | None
    status: str
    reason: str | None
    tasks: dict[str, TaskOut]


class PredictOut(BaseModel):
    """Predictions in the order of the posts, and the version of the model that made them."""

    model: str
    version: str
    predictions: list[PredictionOut]


class ModelsOut(BaseModel):
    """The models of this server."""

    models: list[dict[str, Any]]


class TestOut(BaseModel):
    """The answer of POST /test_model."""

    prediction: float | str | list[str] | None
    probabilities: dict[str, float] | None
    status: str


class TrainIn(BaseModel):
    """Which task to train."""

    model_config = ConfigDict(extra="forbid")
    task: str | None = None


class JobOut(BaseModel):
    """A training job."""

    id: str
    task: str
    status: str
    started_at: float
    ended_at: float | None
    exit_code: int | None


class JobsOut(BaseModel):
    """Training jobs, the newest last."""

    jobs: list[JobOut]


def codes(*numbers: int) -> dict[int | str, dict[str, Any]]:
    """The refusals that a path may answer with, for the OpenAPI document."""
    schema = Error.model_json_schema()
    schema["properties"]["error"] = schema.pop("$defs")["Said"]
    return {
        number: {"description": CODES.get(number, "Not here."), "content": {"application/json": {"schema": schema}}}
        for number in numbers
    }


def body_of(schema: type[BaseModel], *, form: bool = False) -> dict[str, Any]:
    """The request body of a path that reads it itself, for the OpenAPI document."""
    content: dict[str, Any] = {
        "application/json": {"schema": schema.model_json_schema(ref_template="#/components/schemas/{model}")}
    }
    found = content["application/json"]["schema"]
    inner = found.pop("$defs", {})
    if inner:  # written out in place: the document has no other use for them
        found["properties"]["posts"] = {
            "anyOf": [{"type": "array", "minItems": 1, "items": inner["PostIn"]}, {"type": "null"}]
        }
    if form:
        file = {"type": "string", "format": "binary"}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {
                    **{name: {"type": "string"} for name in ("text", "model", "id")},
                    "image": file,
                    "images": {"type": "array", "items": file},
                },
                "additionalProperties": False,
            }
        }
    return {"requestBody": {"required": True, "content": content}}


class Service:
    """One server: its options, models, jobs and counts."""

    def __init__(self, options: Options, keys: frozenset[str]) -> None:
        self.options, self.keys = options, keys
        self.models, self.metrics = Models(options), Metrics()
        self.jobs = Jobs(main_checkout())
        self.ready = False
        self.decoding = 0
        self.decoders = ThreadPoolExecutor(cores(), thread_name_prefix="pictures")

    async def predict(self, request: Request, asked: Asked) -> tuple[Served, list[dict[str, Prediction]]]:
        """The predictions of a request, by task a post."""
        deadline: float = request.scope["deadline"]
        while True:
            served = self.models.get(asked.model)
            try:
                posts = await self._packed(served, asked, deadline)
                found = await served.batcher.submit(posts, max(0.01, deadline - time.monotonic()))
                break
            except Refusal as refusal:  # the model may have been replaced while the pictures were decoded
                if refusal.code != "shutting_down" or self.models.get(asked.model) is served:
                    raise
        for one in found:
            self.metrics.posts.labels(served.name, next(iter(one.values())).status).inc()
        request.scope["assay"] = {"model": served.name, "version": served.version, "posts": len(posts)}
        return served, found

    async def _packed(self, served: Served, asked: Asked, deadline: float) -> list[PostInputs]:
        """The posts with their pictures decoded, in a few threads of their own; they count as waiting meanwhile."""
        count = len(asked.posts)
        if served.batcher.waiting + self.decoding + count > self.options.queue:
            raise Refusal(503, "too_busy", "too many posts are waiting already", retry_after_s=1)
        made = served.predictor.trained.preprocessing
        work = partial(
            inputs.packed,
            asked.posts,
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


def make_app(options: Options) -> FastAPI:
    """The application; models are loaded when it starts. SettingsError where it would stand open to a network."""
    service = Service(options, keys_from_environment(options))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.models.start()
        service.ready = True
        yield
        service.ready = False
        await service.jobs.close()
        await service.models.close()
        service.decoders.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="assay",
        version=__version__,
        description="Scores posts of text and pictures with trained students.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(Guard, options=options, keys=service.keys, metrics=service.metrics)

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> JSONResponse:
        return answer(refusal)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        found = answer(Refusal(error.status_code, "not_here", str(error.detail)))
        found.headers.update(error.headers or {})
        return found

    _predictions(app, service)
    _operations(app, service)
    _older_paths(app, service)
    return app


def _predictions(app: FastAPI, service: Service) -> None:
    every = codes(400, 401, 404, 408, 413, 415, 422, 429, 500, 503)

    @app.post(
        "/v1/predict",
        response_model=PredictOut,
        responses=every,
        openapi_extra=body_of(PredictIn, form=True),
        summary="Score one post or many",
    )
    async def predict(request: Request) -> dict[str, Any]:
        asked = await inputs.read(request, service.options)
        served, found = await service.predict(request, asked)
        predictions = []
        for given, by_task in zip(asked.ids, found, strict=True):
            first = next(iter(by_task.values()))
            tasks = {task: {name: getattr(one, name) for name in TaskOut.model_fields} for task, one in by_task.items()}
            predictions.append({"id": given, "status": first.status, "reason": first.reason, "tasks": tasks})
        return {"model": served.name, "version": served.version, "predictions": predictions}

    @app.get("/v1/model", responses=codes(401, 404, 422, 429, 503), summary="A model's card, tasks and figures")
    async def model(name: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(service.models.get(name).card)

    @app.get("/v1/models", response_model=ModelsOut, responses=codes(401, 429, 503), summary="All models")
    async def models() -> dict[str, Any]:
        return {
            "models": [
                {"name": one.name, "version": one.version, "tasks": list(one.predictor.targets)}
                for one in service.models.served.values()
            ]
        }


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, summary="Alive")
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {"content": {"text/plain": {}}}})
    async def readyz() -> Response:
        return PlainTextResponse("ok\n" if service.ready else "loading\n", 200 if service.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, summary="Counts for Prometheus")
    async def counts() -> Response:
        for one in service.models.served.values():
            service.metrics.waiting.labels(one.name).set(one.batcher.waiting)
            service.metrics.batches.labels(one.name).set(one.batcher.batches)
        service.metrics.reloads.set(service.models.reloads)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _older_paths(app: FastAPI, service: Service) -> None:
    """POST /test_model and /train_model of the service that this one replaces, and the jobs that training became."""

    @app.post(
        "/test_model",
        response_model=TestOut,
        responses=codes(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
        openapi_extra=body_of(PredictIn, form=True),
        summary="Score one post (older shape)",
    )
    async def test_model(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").startswith("application/json"):
            raw = await request.body()
            if b'"image_path"' in raw:
                raise Refusal(
                    422,
                    "path_refused",
                    "image_path: a path of the server is refused; send image as base64 or upload it",
                )
        asked = await inputs.read(request, service.options)
        if len(asked.posts) != 1:
            raise Refusal(422, "bad_request", "one post; POST /v1/predict takes several")
        _, found = await service.predict(request, asked)
        one = next(iter(found[0].values()))
        return {"prediction": one.value, "probabilities": one.probabilities, "status": one.status}

    @app.post(
        "/train_model",
        status_code=202,
        response_model=JobOut,
        responses=codes(400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503),
        openapi_extra={"requestBody": {**body_of(TrainIn)["requestBody"], "required": False}},
        summary="Train a task anew",
    )
    async def train_model(request: Request) -> dict[str, Any]:
        if not service.options.allow_training:
            raise Refusal(403, "training_off", "training is off; start the server with --allow-training")
        data = await request.body()
        task = inputs.parsed(data, TrainIn).task if data else None
        return shown(await service.jobs.start(_task(service, task)))

    @app.get("/v1/jobs", response_model=JobsOut, responses=codes(401, 429, 503), summary="Training jobs")
    async def jobs() -> dict[str, Any]:
        return {"jobs": [shown(job) for job in service.jobs.jobs.values()]}

    @app.get("/v1/jobs/{job_id}", response_model=JobOut, responses=codes(401, 404, 429, 503), summary="One job")
    async def job(job_id: str) -> dict[str, Any]:
        return asdict(service.jobs.get(job_id))

    @app.get(
        "/v1/jobs/{job_id}/log",
        response_class=PlainTextResponse,
        responses=codes(401, 404, 429, 503),
        summary="The end of a job's log",
    )
    async def log(job_id: str) -> str:
        return await asyncio.to_thread(service.jobs.log, job_id)


def _task(service: Service, task: str | None) -> str:
    """The task to train: a name of params.yaml, by default the one of the only model."""
    try:
        known = list(config.load(Path(service.jobs.root) / "params.yaml").tasks)
    except AssayError as error:
        raise Refusal(404, "no_pipeline", str(error)) from error
    wanted = task if task is not None else service.models.get(None).name
    if wanted not in known:
        raise Refusal(404, "no_such_task", f"no task {wanted[:60]!r}; there are: {', '.join(known)}")
    return wanted
