"""What the API answers with, and what its OpenAPI document says of bodies and refusals."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

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
