"""What SageMaker's inference toolkit calls: the model, the request, the prediction, the answer.

A request is `{"instances": [{"text": …, "image_base64": …}, …]}`, an answer `{"predictions": [{"class_predictions":
{name: bool}, "probabilities": {name: p}, "status": …, "reason": …, …}, …]}` with all fields of a prediction; of a score
`score` instead of `class_predictions`.
An instance that cannot be scored has the status `failed` and a reason; a request that cannot be read is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from assay import images, text
from assay.encode.extract import PostInputs
from assay.errors import ImageProblem, ModelError
from assay.scoring.predict import Predictor
from assay.scoring.prediction import Prediction
from assay.targets import NUMBER, Target

JSON = "application/json"
MOST_INSTANCES = 256
MOST_CHARACTERS = 100_000
BATCH = 32
MAX_PIXELS = 40_000_000


@dataclass(frozen=True)
class Instance:
    """One post of a request, or why it cannot be scored."""

    post: PostInputs | None
    reason: str | None = None


def model_fn(model_dir: str, context: Any = None) -> Predictor:
    """The model of an unpacked `model.tar.gz`, warm; ModelError where there is none."""
    folder = Path(model_dir)
    if not (folder / "config.json").is_file():
        found = sorted(path.parent for path in folder.glob("*/config.json"))
        if len(found) != 1:
            raise ModelError(f"{folder}: no config.json of a student in it, nor in one folder below it")
        folder = found[0]
    predictor = Predictor.load(folder, max_pixels=MAX_PIXELS, cached=False)
    predictor.score([PostInputs("warm up", [])])
    return predictor


def input_fn(request_body: bytes | str, content_type: str = JSON, context: Any = None) -> list[Instance]:
    """The posts of a request; an error with status 400 or 415 where it cannot be read."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise _refused(415, f"content type {content_type[:80]!r}; send {JSON}")
    try:
        body = text.load_json(request_body)
    except ValueError as error:
        raise _refused(400, "the body is not JSON in UTF-8") from error
    given = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(given, list) or not given:
        raise _refused(400, 'send {"instances": [{"text": …, "image_base64": …}, …]}')
    if len(given) > MOST_INSTANCES:
        raise _refused(400, f"{len(given)} instances; at most {MOST_INSTANCES} a request")
    return [_instance(one) for one in given]


def predict_fn(data: list[Instance], model: Predictor, context: Any = None) -> list[dict[str, Any]]:
    """A prediction for each instance, in their order; of a student of several tasks one entry a task."""
    usable = [one.post for one in data if one.post is not None]
    scored: list[dict[str, Prediction]] = []
    for start in range(0, len(usable), BATCH):
        found = model.score(usable[start : start + BATCH])
        scored += [{task: values[i] for task, values in found.items()} for i in range(len(next(iter(found.values()))))]
    answers = iter(scored)
    return [_answer(model, one, next(answers) if one.post is not None else {}) for one in data]


def output_fn(prediction: list[dict[str, Any]], accept: str = JSON, context: Any = None) -> str:
    """The answer as JSON; an error with status 406 where something else is wanted."""
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if not wanted & {JSON, "*/*", "application/*"}:
        raise _refused(406, f"accept {accept[:80]!r}; answers are {JSON}")
    return orjson.dumps({"predictions": prediction}).decode()


def _instance(given: Any) -> Instance:
    if not isinstance(given, dict) or not set(given) <= {"text", "image_base64"}:
        return Instance(None, "bad_instance: an object with text, image_base64 or both")
    body, encoded = given.get("text") or "", given.get("image_base64")
    if not isinstance(body, str) or not (encoded is None or isinstance(encoded, str)):
        return Instance(None, "bad_instance: text and image_base64 must be strings")
    if len(body) > MOST_CHARACTERS:
        return Instance(None, f"text_too_long: {len(body)} characters; at most {MOST_CHARACTERS}")
    if not body.strip() and not encoded:
        return Instance(None, "no_content: a post needs a text, a picture or both")
    files = []
    if encoded:
        try:
            data = images.from_base64(encoded)
            images.decode(data, MAX_PIXELS)
        except ValueError:
            return Instance(None, "bad_base64: image_base64 must be base64 of a picture's file")
        except ImageProblem as problem:
            return Instance(None, f"{problem.code}: {problem.detail}")
        files = [(images.content_hash(data), data)]
    return Instance(PostInputs(text.normalise(body), files))


def _answer(model: Predictor, instance: Instance, by_task: dict[str, Prediction]) -> dict[str, Any]:
    if instance.post is None:
        return {"status": "failed", "reason": instance.reason, "class_predictions": None, "probabilities": None}
    found = {task: _told(model.targets[task], one) for task, one in by_task.items()}
    return next(iter(found.values())) if len(found) == 1 else {"tasks": found}


def _told(target: Target, one: Prediction) -> dict[str, Any]:
    told = one.as_row()
    value = told.pop("value")
    if target.shape == NUMBER:
        return told | {"score": value}
    held = value if isinstance(value, list) else [value]
    chosen = {name: name in held for name in target.groups} if one.status != "failed" else None
    return told | {"class_predictions": chosen}


def _refused(status: int, said: str) -> Exception:
    """The toolkit's own error with a status where the toolkit runs, else a ValueError."""
    try:
        from sagemaker_inference.errors import BaseInferenceToolkitError
    except ImportError:
        return ValueError(said)
    return BaseInferenceToolkitError(status, said, said)  # type: ignore[no-any-return]
