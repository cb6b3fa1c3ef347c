"""The HTTP API: predictions, models, health, metrics, and the two paths of an older service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from assay import __version__, config
from assay.errors import AssayError, Refusal
from assay.scoring.prediction import Prediction
from assay.serve import inputs
from assay.serve.docs import add_docs
from assay.serve.guard import Guard, answer
from assay.serve.inputs import Asked
from assay.serve.jobs import shown
from assay.serve.models import Served
from assay.serve.options import Options, keys_from_environment
from assay.serve.page.mount import mount
from assay.serve.schemas import (
    JobOut,
    JobsOut,
    ModelsOut,
    PredictOut,
    TestOut,
    TrainIn,
    codes,
    predict_body,
    train_body,
)
from assay.serve.service import Service


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
        openapi_url="/openapi.json" if options.api else None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> JSONResponse:
        return answer(refusal)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])[:120]
        return answer(Refusal(422, "bad_request", f"{where}: {found['msg']}"))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        found = answer(Refusal(error.status_code, "not_here", str(error.detail)))
        found.headers.update(error.headers or {})
        return found

    _operations(app, service)
    if options.api:
        add_docs(app)
        _predictions(app, service)
        _older_paths(app, service)
    if options.page is not None:
        mount(app, service, options.page)
    app.add_middleware(Guard, service=service)  # last: it stands before everything
    return app


async def _predicted(service: Service, request: Request, asked: Asked) -> tuple[Served, list[dict[str, Prediction]]]:
    """The predictions of a request; what its log line may say of them is noted."""
    served, found = await service.predict(asked, request.scope["deadline"])
    request.scope["assay"] = {"model": served.name, "version": served.version, "posts": len(found)}
    return served, found


def _predictions(app: FastAPI, service: Service) -> None:
    every = codes(400, 401, 404, 408, 413, 415, 422, 429, 500, 503)

    @app.post(
        "/v1/predict",
        response_model=PredictOut,
        responses=every,
        openapi_extra=predict_body(service.options),
        summary="Score one post or many",
    )
    async def predict(request: Request) -> dict[str, Any]:
        asked = await inputs.read(request, service.options)
        served, found = await _predicted(service, request, asked)
        predictions = []
        for given, by_task in zip(asked.ids, found, strict=True):
            first = next(iter(by_task.values()))
            tasks = {task: one.as_row() for task, one in by_task.items()}
            predictions.append({"id": given, "status": first.status, "reason": first.reason, "tasks": tasks})
        return {"model": served.name, "version": served.version, "predictions": predictions}

    names = [path.name for path in service.options.models]
    first = None if len(names) == 1 else ...
    chosen = Query(first, description="which model, where there are several", json_schema_extra={"enum": names})

    @app.get("/v1/model", responses=codes(401, 404, 422, 429, 503), summary="A model's card, tasks and figures")
    async def model(name: str | None = chosen) -> dict[str, Any]:
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
        openapi_extra=predict_body(service.options, several=False),
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
        _, found = await _predicted(service, request, asked)
        one = next(iter(found[0].values()))
        return {"prediction": one.value, **one.as_row()}

    @app.post(
        "/train_model",
        status_code=202,
        response_model=JobOut,
        responses=codes(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503),
        openapi_extra=train_body(),
        summary="Train a task anew",
    )
    async def train_model(request: Request) -> dict[str, Any]:
        if not service.options.allow_training:
            raise Refusal(403, "training_off", "training is off; start the server with --allow-training")
        data = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (data or kind):
            raise Refusal(415, "unsupported_media_type", "send application/json, or no body")
        task = inputs.parsed(data, TrainIn).task if data else None
        return shown(await service.jobs.start(await asyncio.to_thread(_task, service, task)))

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
