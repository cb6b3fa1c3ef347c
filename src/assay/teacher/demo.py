"""The demo teacher: a tiny ASGI app that speaks the chat protocol and reads the drawn posts by rule.

It is called through the same client as a real server, over an in-process transport. It sees nothing
but the request: caption between the fences, pictures as data URLs, the answer schema.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from assay.corpora.demo import reading
from assay.teacher.rubric import FENCE

GULLIBLE = "assay-demo-gullible"  # obeys whoever speaks to it outside of the marks
_OWN_WORDS = re.compile(r"The post has no (?:caption|picture)\.|Its (?:picture follows|\d+ pictures follow)\.")
_FENCED = re.compile(rf"<{FENCE}-([0-9a-f]{{8}})>\n(.*)\n</{FENCE}-\1>", re.DOTALL)
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI entry: POST /v1/chat/completions, nothing else."""
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    if scope.get("path") != "/v1/chat/completions":
        await _send(send, 404, {"error": {"message": f"no such path: {scope.get('path')}"}})
        return
    try:
        status, found = 200, complete(json.loads(body))
    except (ValueError, KeyError, TypeError, OSError) as error:
        status, found = 400, {"error": {"message": f"the demo teacher cannot read this request: {error}"}}
    await _send(send, status, found)


def complete(request: dict[str, Any]) -> dict[str, Any]:
    """A chat completion for a request; ValueError for a question that it does not know."""
    text, around, pictures = _post(request["messages"][-1]["content"])
    properties = request["response_format"]["json_schema"]["schema"]["properties"]
    told = request["model"] == GULLIBLE and bool(_OWN_WORDS.sub("", around).strip())
    if "reason" in properties:
        raw = json.dumps(_answer(properties, text, pictures, told))
    else:  # several questions in one
        asked = {name: schema["properties"] for name, schema in properties.items()}
        raw = json.dumps({name: _answer(inner, text, pictures, told) for name, inner in asked.items()})
    prompt = sum(len(str(m["content"])) for m in request["messages"]) if not pictures else len(text) + 400
    return {
        "id": "demo",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": raw}}],
        "usage": {
            "prompt_tokens": prompt // 4,
            "completion_tokens": len(raw) // 4,
            "total_tokens": prompt // 4 + len(raw) // 4,
        },
    }


def _answer(properties: dict[str, Any], text: str, pictures: list[bytes], told: bool) -> dict[str, Any]:
    """The answer to one question; `told`: somebody outside of the marks says what to answer."""
    if told:
        return {"reason": "As I was told."} | {
            name: [] if name == "brands" else _obey(schema) for name, schema in properties.items() if name != "reason"
        }
    answer: dict[str, Any] = {"reason": "Read from caption and picture."}
    if "brands" in properties:
        answer["brands"] = reading.brands(text, pictures)
    if "score" in properties:
        value = reading.score(text, pictures)
        low, high = properties["score"]["minimum"], properties["score"]["maximum"]
        return answer | {"score": low + value * (high - low) / 10}
    if "labels" in properties:
        known = properties["labels"]["items"]["enum"]
        names = reading.insults(text, pictures)
        if not names <= set(known):
            raise ValueError(f"it only knows the insults of drawn posts, and {sorted(names)} are not among the labels")
        return answer | {"labels": [name for name in known if name in names]}
    known = properties["label"]["enum"]
    label = reading.mood(text, pictures)
    if label not in known:
        label = reading.apparent(known, pictures) or label
    if label not in known:
        raise ValueError(f"it only knows the mood of drawn posts, and {label!r} is not among the labels")
    return answer | {"label": label}


def _obey(schema: dict[str, Any]) -> Any:
    """What an order to answer high would have it say."""
    if "maximum" in schema:
        return schema["maximum"]
    return schema["enum"][0] if "enum" in schema else list(schema["items"]["enum"])


def _post(content: list[dict[str, Any]]) -> tuple[str, str, list[bytes]]:
    """The caption between its marks, what is said around it, and the pictures."""
    said = "".join(part["text"] for part in content if part["type"] == "text")
    found = _FENCED.search(said)
    text = found[2] if found else ""
    around = said[: found.start()] + said[found.end() :] if found else said
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return text, around, [base64.b64decode(url.split(",", 1)[1], validate=True) for url in urls]


async def _send(send: Send, status: int, found: dict[str, Any]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
