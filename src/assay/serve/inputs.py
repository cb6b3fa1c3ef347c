"""Request bodies -> posts. Pictures are decoded and packed here, so that what is wrong with one is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request

from assay import images, text
from assay.encode.extract import PostInputs
from assay.errors import ImageProblem, Refusal
from assay.serve.options import Options

IN_A_THREAD = 200_000  # bytes of JSON from which its reading would hold up others
FLAGS = {"true": True, "false": False, "1": True, "0": False}
STATUS = {"decompression_bomb": 413, "undecodable_image": 422}


class PostIn(BaseModel):
    """One post: a text, pictures as base64 of their files, or both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str | None, Field(max_length=256, description="comes back with the prediction")] = None
    text: Annotated[str, Field(description="the caption")] = ""
    image: Annotated[str | None, Field(description="a picture's file, as base64")] = None
    images: Annotated[list[str], Field(description="several pictures, as base64; their features are averaged")] = []


class PredictIn(PostIn):
    """One post at the top, or a list of posts."""

    model: Annotated[str | None, Field(description="which model, where there are several")] = None
    posts: Annotated[list[Any] | None, Field(min_length=1, description="instead of text and image")] = None
    partial: Annotated[bool, Field(description="score the other posts where one cannot be used")] = False


@dataclass
class Asked:
    """A request for predictions: the model's name, and text and picture files of each post.

    `faults`: the posts that cannot be used, by number, where `several` are asked for and the request is `partial`.
    """

    model: str | None
    ids: list[str | None]
    posts: list[tuple[str, list[bytes]]]
    partial: bool = False
    several: bool = False
    faults: dict[int, Refusal] = field(default_factory=dict)
    in_order: bool = False  # who asks knows which post is which: faults do not name them

    def fault(self, number: int, refusal: Refusal) -> None:
        """Note that a post cannot be used; the refusal, which names the post, where the request is not partial."""
        if self.several and not self.in_order:
            named = f"posts.{number}" + ("" if self.ids[number] is None else f" (id {self.ids[number]!r})")
            refusal = Refusal(refusal.status, refusal.code, f"{named}: {refusal.detail}")
        if not (self.partial and self.several):
            raise refusal
        self.faults[number] = refusal


async def read(request: Request, options: Options) -> Asked:
    """What a request asks for; Refusal 400, 413, 415 or 422 where it cannot be read.

    With `partial=true` in the query or `partial: true` in the JSON, a post of a list that cannot be used spoils no
    other.
    """
    partial = _flag(request.query_params.getlist("partial"))
    kind, told = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"application/json":
        data = await request.body()
        if len(data) > IN_A_THREAD:
            return await asyncio.to_thread(_from_json, data, options, partial=partial)
        return _from_json(data, options, partial=partial)
    if kind == b"multipart/form-data":
        if told.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
            raise Refusal(415, "unsupported_charset", "forms must be in UTF-8")
        try:
            most = options.max_images + 16
            async with request.form(max_files=most, max_fields=16, max_part_size=4 * options.max_text + 1024) as form:
                return await _from_form(form, options)
        except (Refusal, ClientDisconnect):
            raise
        except Exception as error:  # the parser's own errors, of several kinds
            raise Refusal(400, "bad_form", f"not a form that can be read: {type(error).__name__}") from error
    raise Refusal(415, "unsupported_media_type", "send application/json or multipart/form-data")


def parsed(data: bytes, schema: type[BaseModel]) -> Any:
    """A JSON body as one of our models; Refusal 400 or 422."""
    return _fitted(_loaded(data), schema)


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        raw = text.load_json(data)
    except ValueError as error:
        raise Refusal(400, "bad_json", f"not JSON in UTF-8: {str(error)[:120]}") from error
    if not isinstance(raw, dict):
        raise Refusal(422, "bad_request", "the body must be a JSON object")
    return raw


def _fitted(raw: dict[str, Any], schema: type[BaseModel]) -> Any:
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        raise Refusal(422, "bad_request", f"{where}: {first['msg']}") from error


def _from_json(data: bytes, options: Options, *, partial: bool) -> Asked:
    raw = _whole(_loaded(data))
    _check_counts(raw, options)
    body: PredictIn = _fitted(raw, PredictIn)
    if body.posts is not None and (body.text or body.image or body.images):
        raise Refusal(422, "bad_request", "give posts, or text and image at the top, not both")
    several = body.posts is not None
    if not several and "partial" in raw:
        raise Refusal(422, "bad_request", "partial: only of several posts")
    top = {name: raw[name] for name in PostIn.model_fields if name in raw}
    asked = Asked(body.model, [], [], partial or body.partial, several)
    for number, given in enumerate(body.posts or [top]):
        if isinstance(given, dict):
            given = _whole(given)
        told = given.get("id") if isinstance(given, dict) else None
        asked.ids.append(told[:256] if isinstance(told, str) else None)
        asked.posts.append(("", []))
        try:
            one: PostIn = _fitted(given, PostIn)
            encoded = [*([one.image] if one.image else []), *one.images]
            asked.posts[number] = one.text, [_decoded(value) for value in encoded]
            check_post(*asked.posts[number], options)
        except Refusal as refusal:
            asked.posts[number] = "", []
            asked.fault(number, refusal)
    return asked


def _flag(told: list[str]) -> bool:
    """A flag of a query, false where it is not there."""
    if len(told) > 1 or any(value not in FLAGS for value in told):
        raise Refusal(422, "bad_request", "partial: must be true or false, once")
    return bool(told) and FLAGS[told[0]]


def _whole(given: dict[str, Any]) -> dict[str, Any]:
    """A post without half characters: a text does without them, an id, which is sent back, has a mark there."""
    return {
        key: one.encode("utf-8", "ignore" if key == "text" else "replace").decode() if isinstance(one, str) else one
        for key, one in given.items()
    }


def _check_counts(raw: dict[str, Any], options: Options) -> None:
    """Lists of a body must be short before anything is done for each of their items."""
    posts = raw.get("posts")
    if isinstance(posts, list) and len(posts) > options.max_posts:
        raise Refusal(413, "too_many_posts", f"{len(posts)} posts; at most {options.max_posts} a request")
    for one in [raw, *(posts if isinstance(posts, list) else [])]:
        pictures = one.get("images") if isinstance(one, dict) else None
        if isinstance(pictures, list) and len(pictures) > options.max_images:
            raise Refusal(413, "too_many_images", f"{len(pictures)} pictures; at most {options.max_images} a post")


async def _from_form(form: FormData, options: Options) -> Asked:
    files, fields = [], dict[str, str]()
    for name, value in form.multi_items():
        if name in ("image", "images"):
            if not (value if isinstance(value, str) else value.filename or value.size):
                continue  # a browser's field with no file chosen
            if not isinstance(value, UploadFile):
                raise Refusal(422, "bad_request", f"{name} must be an uploaded file; a path of the server is refused")
            files.append(await value.read())
        elif name in ("text", "model", "id") and isinstance(value, str):
            fields[name] = value
        else:
            raise Refusal(422, "bad_request", f"unknown field {name[:60]!r}; allowed: text, image, images, model, id")
    if sum(name == "images" for name, _ in form.multi_items()) > options.max_images:
        raise Refusal(413, "too_many_images", f"more than {options.max_images} files in images")
    one: PostIn = _fitted({name: fields[name] for name in ("id", "text") if name in fields}, PostIn)
    check_post(one.text, files, options)
    return Asked(fields.get("model"), [one.id], [(one.text, files)])


def check_post(body: str, files: Sequence[bytes], options: Options) -> None:
    """Refusal 413 or 422 for a text that is too long, too many pictures, or a post of nothing."""
    if len(body) > options.max_text:
        raise Refusal(413, "text_too_long", f"a text of {len(body)} characters; at most {options.max_text}")
    if len(files) > options.max_images + 1:  # those of `images`, and `image`
        raise Refusal(413, "too_many_images", f"{len(files)} pictures; at most {options.max_images + 1} a post")
    if not text.normalise(body) and not files:
        raise Refusal(422, "no_content", "a post needs a text, a picture or both")


def _decoded(value: str) -> bytes:
    try:
        return images.from_base64(value)
    except ValueError as error:
        raise Refusal(
            422, "bad_base64", "image must be base64 of a picture's file; a path of the server is refused"
        ) from error


def packed(asked: Asked, *, image_px: int, max_images: int, max_pixels: int) -> list[PostInputs]:
    """Posts as the student sees them, those with faults empty; Refusal 413 or 422 for a picture that cannot be used.

    Packing decodes a picture whole and writes it anew, so that nothing but pixels goes on. All pictures of a
    request together may have four times `max_pixels`.
    """
    found = []
    _check_pixels(asked, max_images, max_pixels)
    for number, (body, files) in enumerate(asked.posts):
        ready = []
        try:
            for data in [] if number in asked.faults else files[:max_images]:
                small = images.pack(data, longest=image_px, max_pixels=max_pixels).data
                ready.append((images.content_hash(small), small))
        except ImageProblem as problem:
            asked.fault(number, _of(problem))
        found.append(PostInputs(text.normalise(body), ready))
    return found


def _check_pixels(asked: Asked, max_images: int, max_pixels: int) -> None:
    """Refusal 413 for pictures that are too large, told from their headers."""
    total = 0
    for number, (_, files) in enumerate(asked.posts):
        try:
            for data in files[:max_images]:
                with images.open_header(data, max_pixels) as header:
                    total += header.width * header.height
        except ImageProblem as problem:
            asked.fault(number, _of(problem))
    if total > 4 * max_pixels:
        raise Refusal(413, "too_many_pixels", f"{total} pixels in one request; at most {4 * max_pixels}")


def _of(problem: ImageProblem) -> Refusal:
    return Refusal(STATUS.get(problem.code, 422), problem.code, problem.detail or problem.code)
