"""The page's layout and what its buttons do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from assay.errors import AssayError, Refusal
from assay.progress import say
from assay.reads import note_read
from assay.serve.page import cards
from assay.serve.page.backend import Backend, caller
from assay.serve.page.corpus import ORDERS, Query, ScoredCorpus
from assay.serve.page.many import many_tab
from assay.serve.page.review import review_tab
from assay.targets import NUMBER

PAGE_SIZE = 15
CAPTIONS = ["best day of the whole year, so grateful", "the queue took an hour and nobody said sorry", "new menu"]
ALL = "all"
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def _upload(backend: Backend, height: int) -> gr.Image:
    """A picture's file as it came: the server's own checks decode it, not the page's library."""
    found = gr.Image(label="Picture", type="filepath", height=height, sources=["upload", "clipboard"])

    def path(payload: Any) -> str | None:
        if payload is None or payload.path is None:
            return None
        if not backend.uploads.is_file(payload.path):  # doors.py has looked before; nothing passes this one
            raise gr.Error("This picture was not uploaded from here; upload it again.", print_exception=False)
        return str(payload.path)

    found.preprocess = path  # type: ignore[method-assign]
    return found


def build(backend: Backend, *, api: bool) -> gr.Blocks:
    """The page with its tabs."""
    corpora = backend.corpora()
    blocks: gr.Blocks
    with gr.Blocks(title="assay", analytics_enabled=False, delete_cache=(600, 1800)) as blocks:
        links = '<nav><a href="/docs" target="_blank">API</a></nav>' if api else ""
        gr.HTML(
            f'<header class="a-head"><h1>assay</h1><p>What a post says, measured as a rubric asks.</p>{links}</header>'
        )
        with gr.Tab("Post"):
            _score_tab(backend, corpora)
        with gr.Tab("Many"):
            many_tab(backend)
        with gr.Tab("Corpus"):
            _corpus_tab(blocks, backend, corpora)
        with gr.Tab("Compare"):
            _compare_tab(backend)
        if backend.may_write:
            with gr.Tab("Review") as review:
                review_tab(review, backend.queues())
    blocks.queue(max_size=64, default_concurrency_limit=16, api_open=False)
    return blocks


async def _answered(backend: Backend, model: str, text: str, picture: str | None, request: gr.Request) -> str:
    """The card of an answer, or of why there is none."""
    try:
        asked = await backend.asked(model, text, picture)
        served, by_task = await backend.score(asked, caller(request))
    except Refusal as refusal:
        return cards.refused(refusal.detail)
    except OSError:
        return cards.refused("The picture could not be read; upload it again.")
    return cards.answer(served, by_task)


# ----------------------------------------------------------------------------------------- score


def _score_tab(backend: Backend, corpora: dict[str, ScoredCorpus]) -> None:
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            picture = _upload(backend, 280)
            text = gr.Textbox(label="Caption", lines=3, max_lines=8, max_length=backend.options.max_text)
            model = gr.Dropdown(backend.models, value=backend.models[0], label="Model", visible=len(backend.models) > 1)
            go = gr.Button("Score", variant="primary", elem_id="score")
        with gr.Column(scale=6, min_width=300):
            result = gr.HTML(cards.waiting("Upload a picture, type a caption, and press Score."), elem_id="result")
            with gr.Row():
                which = gr.Dropdown([], label="Explain", visible=False, elem_id="which")
            why = gr.HTML(elem_id="why")
    gr.Examples(_examples(backend, corpora), [picture, text], label="Examples", examples_per_page=6)

    async def score(picture: str | None, text: str, model: str, request: gr.Request) -> tuple[str, Any, str]:
        found = await _answered(backend, model, text, picture, request)
        names = [] if "a-refused" in found else list(_explainable(backend, model))
        waiting = cards.waiting("Looking for what this rests on …") if "a-refused" not in found else ""
        return found, gr.update(choices=names, value=names[0] if names else None, visible=len(names) > 1), waiting

    async def explained(picture: str | None, text: str, model: str, which: str | None, now: str) -> str:
        return await _explained(backend, model, text, picture, which) if now else ""

    events = [go.click, text.submit]
    for event in events:
        event(score, [picture, text, model], [result, which, why], trigger_mode="once", **PRIVATE).then(
            explained, [picture, text, model, which, why], why, **PRIVATE
        )
    which.input(explained, [picture, text, model, which, why], why, **PRIVATE)


def _explainable(backend: Backend, model: str) -> dict[str, tuple[str, str | None]]:
    """What can be explained, by its name on the page: of each task the likeliest answer, then every class or label."""
    found: dict[str, tuple[str, str | None]] = {}
    for task, target in backend.service.models.get(model).predictor.targets.items():
        names = cards.choices(target)
        found[f"{task}: likeliest" if names else task] = task, None
        found |= {f"{task}: {name}": (task, name) for name in names}
    return found


async def _explained(backend: Backend, model: str, text: str, picture: str | None, which: str | None) -> str:
    try:
        known = _explainable(backend, model)
        task, answer = known.get(which or "") or next(iter(known.values()))
        asked = await backend.asked(model, text, picture)
        return cards.explained(await backend.explain(asked, task, answer))
    except (Refusal, AssayError, OSError) as error:
        return cards.waiting(f"No explanation: {error}")


def _examples(backend: Backend, corpora: dict[str, ScoredCorpus]) -> list[list[str | None]]:
    """Posts of a corpus where these may be shown, else captions alone."""
    found: list[list[str | None]] = []
    if backend.posts:
        for corpus in list(corpora.values())[:1]:
            folder = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))
            try:
                examples = corpus.examples(4)
                note_read("page examples", corpus.task, len(examples))
                for number, (text, data) in enumerate(examples):
                    kind = "png" if data.startswith(b"\x89PNG") else "jpg"
                    path = folder / f"example-{number}.{kind}"
                    path.write_bytes(data)
                    for shown in (str(path), save_file_to_cache(path, os.environ["GRADIO_TEMP_DIR"])):
                        backend.uploads.share(shown)
                    found.append([str(path), text])
            except (AssayError, OSError) as error:
                say(f"serve: no example posts: {error}")
    return [*found, *([None, caption] for caption in CAPTIONS[: max(1, 4 - len(found))])]


# ---------------------------------------------------------------------------------------- corpus


def _corpus_tab(blocks: gr.Blocks, backend: Backend, corpora: dict[str, ScoredCorpus]) -> None:
    if not corpora:
        gr.HTML(cards.waiting("No findings stand beside this model; run dvc repro, and start the server there."))
        return
    names = list(corpora)
    first = corpora[names[0]]
    with gr.Row():
        chosen = gr.Dropdown(names, value=names[0], label="Question", visible=len(names) > 1, elem_id="question")
        share = gr.Dropdown(
            cards.choices(first.target),
            value=next(iter(cards.choices(first.target)), None),
            label="Share of",
            visible=bool(cards.choices(first.target)),
        )
    overview = gr.HTML(elem_id="findings")

    def tell(chosen: str, share: str | None) -> str:
        corpus = corpora[chosen]
        share = share if share in cards.choices(corpus.target) else next(iter(cards.choices(corpus.target)), None)
        try:
            found, rows, values = corpus.findings(), corpus.brands(), corpus.values()
            return cards.findings(corpus.task, corpus.target, found, rows, values, share)
        except (AssayError, OSError, ValueError, KeyError) as error:
            return cards.waiting(f"The findings cannot be read: {type(error).__name__}. Run dvc repro.")

    def changed(chosen: str) -> Any:
        choices = cards.choices(corpora[chosen].target)
        return gr.update(choices=choices, value=choices[0] if choices else None, visible=bool(choices))

    load = gr.on([chosen.change], changed, chosen, share, **PRIVATE)
    load.then(tell, [chosen, share], overview, **PRIVATE)
    share.input(tell, [chosen, share], overview, **PRIVATE)
    blocks.load(tell, [chosen, share], overview, **PRIVATE)
    if backend.posts:
        _posts(blocks, corpora, names, chosen)
    else:
        gr.HTML(cards.waiting("Posts are not shown on a server that is open to a network (--show-posts shows them)."))


def _posts(blocks: gr.Blocks, corpora: dict[str, ScoredCorpus], names: list[str], chosen: gr.Dropdown) -> None:
    """Search among scored posts."""
    first = corpora[names[0]]
    with gr.Row(equal_height=True):
        words = gr.Textbox("", label="Search in posts", placeholder="words that all occur", scale=3, elem_id="words")
        brand = gr.Dropdown(_brands(first), value=ALL, label="Brand", scale=2, min_width=140)
        name = gr.Dropdown(**_of_names(first), scale=2, min_width=140)
        order = gr.Dropdown(**_of_order(first), label="Order", scale=2, min_width=140)
    with gr.Row():
        low = gr.Slider(**_of_range(first, upper=False), min_width=140)
        high = gr.Slider(**_of_range(first, upper=True), min_width=140)
    grid = gr.HTML(elem_id="posts")
    page = gr.State(0)
    with gr.Row():
        back, on = gr.Button("Back", size="sm"), gr.Button("More", size="sm", elem_id="more")

    def search(
        chosen: str,
        words: str | None,  # None until somebody has typed
        brand: str | None,
        name: str | None,
        order: str | None,
        low: float,
        high: float,
        page: int,
        request: gr.Request,
    ) -> str:
        corpus = corpora[chosen]
        known = cards.choices(corpus.target)
        query = Query(
            words=(words or "")[:200],
            brand=None if brand in (None, ALL) else brand,
            name=name if name in known else None,
            low=low,
            high=high,
            order=order or "",
            page=page,
            size=PAGE_SIZE,
        )
        try:
            found = corpus.search(query)
        except (AssayError, OSError, ValueError, KeyError) as error:
            return cards.waiting(f"The posts cannot be read: {type(error).__name__}. Run dvc repro.")
        try:
            address = caller(request)
            note_read("page search", corpus.task, len(found.hits), address=address)
        except AssayError as error:
            say(f"serve: {error}")
            return cards.waiting("No posts: who reads them cannot be written down; the server's log says why.")
        return cards.hits(found, page * PAGE_SIZE)

    inputs = [chosen, words, brand, name, order, low, high, page]
    again = gr.on(
        [words.submit, brand.input, name.input, order.input, low.release, high.release],
        lambda: 0,
        None,
        page,
        **PRIVATE,
    )
    again.then(search, inputs, grid, **PRIVATE)
    on.click(lambda page: page + 1, page, page, **PRIVATE).then(search, inputs, grid, **PRIVATE)
    back.click(lambda page: max(0, page - 1), page, page, **PRIVATE).then(search, inputs, grid, **PRIVATE)

    def other(chosen: str) -> list[Any]:
        corpus = corpora[chosen]
        return [
            gr.update(choices=_brands(corpus), value=ALL),
            gr.update(**_of_names(corpus)),
            gr.update(**_of_order(corpus)),
            gr.update(**_of_range(corpus, upper=False)),
            gr.update(**_of_range(corpus, upper=True)),
            0,
        ]

    chosen.change(other, chosen, [brand, name, order, low, high, page], **PRIVATE).then(search, inputs, grid, **PRIVATE)
    blocks.load(search, inputs, grid, **PRIVATE)


def _brands(corpus: ScoredCorpus) -> list[str]:
    try:
        return [ALL, *(row["brand"] for row in corpus.brands())]
    except (OSError, ValueError, KeyError):
        return [ALL]


def _of_names(corpus: ScoredCorpus) -> dict[str, Any]:
    names = cards.choices(corpus.target)
    return {"choices": [ALL, *names], "value": ALL, "label": "Predicted as", "visible": bool(names)}


def _of_order(corpus: ScoredCorpus) -> dict[str, Any]:
    orders = ORDERS["score" if corpus.target.shape == NUMBER else "other"]
    return {"choices": list(orders), "value": orders[0]}


def _of_range(corpus: ScoredCorpus, *, upper: bool) -> dict[str, Any]:
    low, high = corpus.target.bounds
    return {
        "minimum": low,
        "maximum": high,
        "value": high if upper else low,
        "step": (high - low) / 100,
        "label": "Scores up to" if upper else "Scores from",
        "visible": corpus.target.shape == NUMBER,
    }


# --------------------------------------------------------------------------------------- compare


def _compare_tab(backend: Backend) -> None:
    if len(backend.models) < 2:
        gr.HTML(
            cards.waiting("One model is loaded; start the server with --model twice to compare two on the same post.")
        )
        return
    with gr.Row():
        with gr.Column(scale=4, min_width=280):
            picture = _upload(backend, 240)
        with gr.Column(scale=6, min_width=280):
            text = gr.Textbox(label="Caption", lines=3, max_lines=8, max_length=backend.options.max_text)
            with gr.Row():
                left = gr.Dropdown(backend.models, value=backend.models[0], label="Left", min_width=120)
                right = gr.Dropdown(backend.models, value=backend.models[1], label="Right", min_width=120)
            go = gr.Button("Compare", variant="primary", elem_id="compare")
    with gr.Row():
        with gr.Column(min_width=280):
            one = gr.HTML(elem_id="left", min_height=40)
            why_one = gr.HTML(elem_id="why-left")
        with gr.Column(min_width=280):
            two = gr.HTML(elem_id="right", min_height=40)
            why_two = gr.HTML(elem_id="why-right")

    async def compared(picture: str | None, text: str, left: str, right: str, request: gr.Request) -> tuple[str, str]:
        first = await _answered(backend, left, text, picture, request)
        return first, await _answered(backend, right, text, picture, request)

    async def explained(picture: str | None, text: str, left: str, right: str, one: str, two: str) -> tuple[str, str]:
        if "a-refused" in one or "a-refused" in two:
            return "", ""
        first = await _explained(backend, left, text, picture, None)
        return first, await _explained(backend, right, text, picture, None)

    post = [picture, text, left, right]
    go.click(compared, post, [one, two], trigger_mode="once", **PRIVATE).then(
        explained, [*post, one, two], [why_one, why_two], **PRIVATE
    )
