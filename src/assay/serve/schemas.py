"""What the API answers with, and what its OpenAPI document says of bodies and refusals."""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from assay.scoring.prediction import SHOWN, Prediction
from assay.serve.options import Options

PICTURE = "picture"  # the format of a string that is a picture's file in base64

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


# What the student says of a post for one task: the fields of a prediction, but for those that all tasks share.
SHARED = ("status", "reason")
FIELDS: dict[str, Any] = {name: (get_type_hints(Prediction)[name], ...) for name in SHOWN}
FIELDS["interval"] = (Annotated[list[float], Field(min_length=2, max_length=2)] | None, ...)  # low, high
TaskOut = create_model(
    "TaskOut",
    __doc__=(
        "What the student says of a post for one task; the interval or set holds the label of 90 % of posts. `unlike`: "
        "the post is so unlike those that the student learnt from (`familiarity`, a p-value from 0 to 1) that the "
        "answer rests on nothing that was measured."
    ),
    **{name: one for name, one in FIELDS.items() if name not in SHARED},
)


class PredictionOut(BaseModel):
    """One post: `ok`, `text_only`, `image_only` or `failed`, and an answer for each task."""

    id: str | None
    status: str
    reason: str | None
    tasks: dict[str, TaskOut]  # type: ignore[valid-type]


class PredictOut(BaseModel):
    """Predictions in the order of the posts, and the version of the model that made them."""

    model: str
    version: str
    predictions: list[PredictionOut]


class ModelsOut(BaseModel):
    """The models of this server."""

    models: list[dict[str, Any]]


TestOut = create_model(
    "TestOut",
    __doc__="The answer of POST /test_model: `prediction` is the value, beside it what /v1/predict says.",
    **{"prediction" if name == "value" else name: one for name, one in FIELDS.items()},
)


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


def predict_body(options: Options, *, several: bool = True) -> dict[str, Any]:
    """The body of a request for predictions, which is read without pydantic's help: what a server so started takes.

    JSON with one post at the top or (`several`) a list of them, or a form with one post.
    """
    names = [path.name for path in options.models]
    said = "which model; may be left out where there is one"
    model: dict[str, Any] = {"enum": [*names, None] if len(names) == 1 else names, "description": said}
    needed = ["model"] if len(names) > 1 else []
    post = _post(options, {"type": ["string", "null"], "contentEncoding": "base64", "format": PICTURE})
    top = {**post, "properties": {**post["properties"], "model": model}, "required": needed}
    many = {
        "type": "object",
        "properties": {"posts": {"type": "array", "minItems": 1, "maxItems": options.max_posts, "items": post}},
        "required": ["posts", *needed],
        "additionalProperties": False,
    }
    strict = {"enum": [False], "description": "true: score the other posts where one cannot be used"}
    lenient = {"posts": {**many["properties"]["posts"], "items": {}}, "model": model, "partial": {"enum": [True]}}  # type: ignore[index]
    some = {**many, "properties": lenient, "required": ["posts", "partial", *needed]}
    many["properties"] |= {"model": model, "partial": strict}  # type: ignore[operator]
    form = _post(options, {"type": "string", "format": "binary"})
    by_name = {"type": "string", "enum": names, "description": said}
    form = {**form, "properties": {**form["properties"], "model": by_name}, "required": needed}
    for name, most in (("id", 256), ("text", options.max_text)):
        form["properties"][name] = {"type": "string", "maxLength": most}
    kinds = ", ".join(f"image/{kind}" for kind in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "avif"))
    content = {
        "application/json": {"schema": {"oneOf": [top, many, some]} if several else top},
        "multipart/form-data": {
            "schema": form,
            "encoding": {name: {"contentType": kinds} for name in ("image", "images")},
        },
    }
    return {"requestBody": {"required": True, "content": content}}


def _post(options: Options, picture: dict[str, Any]) -> dict[str, Any]:
    """A post: a text, pictures, or both; a text of spaces is none."""
    several = {"type": "array", "items": {**picture, "type": "string"}, "maxItems": options.max_images}
    return {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 256, "description": "comes back with the prediction"},
            "text": {"type": "string", "maxLength": options.max_text, "description": "the caption"},
            "image": {**picture, "description": "a picture's file"},
            "images": {**several, "description": "more pictures; the features of all are averaged"},
        },
        "additionalProperties": False,
        "anyOf": [
            {"required": ["text"], "properties": {"text": {"pattern": "\\S"}}},
            {"required": ["image"], "properties": {"image": {"type": "string"}}},
            {"required": ["images"], "properties": {"images": {"minItems": 1}}},
        ],
    }


def train_body() -> dict[str, Any]:
    """The body of a request for training, which may be left out."""
    return {
        "requestBody": {"required": False, "content": {"application/json": {"schema": TrainIn.model_json_schema()}}}
    }
