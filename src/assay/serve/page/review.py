"""The tab on which people correct labels: the post whose label matters most, and what it should be."""

from __future__ import annotations

from typing import Any

import gradio as gr

from assay.errors import AssayError
from assay.progress import say
from assay.reads import note_read
from assay.serve.page import cards
from assay.serve.page.backend import caller
from assay.serve.page.queue import Item, ReviewQueue
from assay.targets import NAME, NUMBER, Target

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
NOTHING = "Every labelled post was coded or passed over. Load the page again to see those that you passed over."


def review_tab(tab: gr.Tab, queues: dict[str, ReviewQueue]) -> None:
    """A post at a time: what teacher and student say, and what a person says instead."""
    if not queues:
        gr.HTML(cards.waiting("No labelled posts of a single task stand beside these models; run dvc repro first."))
        return
    names = list(queues)
    first = queues[names[0]]
    gr.HTML(
        '<p class="a-note">Labelled posts, those first whose label moves the findings most. What you say is kept in '
        "human/&lt;task&gt;.csv with your name and the time; with <code>annotate.people: learn</code> the next student "
        "learns from it. Figures stay those of the labels: posts that were picked say nothing of all posts.</p>"
    )
    with gr.Row():
        chosen = gr.Dropdown(names, value=names[0], label="Question", visible=len(names) > 1, elem_id="review-question")
        coder = gr.Textbox("", label="Your name or number", max_length=60, elem_id="coder")
        wanted = gr.Textbox("", label="A post by its id", placeholder="or take what comes", elem_id="wanted")
    shown = gr.HTML(elem_id="review")
    number = gr.Slider(**_of_number(first.target), elem_id="right-number")
    name = gr.Radio(**_of_names(first.target, one=True), elem_id="right-name")
    several = gr.CheckboxGroup(**_of_names(first.target, one=False), elem_id="right-names")
    with gr.Row():
        keep = gr.Button("Keep this answer", variant="primary", elem_id="keep")
        agree = gr.Button("The label is right", elem_id="agree")
        skip = gr.Button("Skip", elem_id="skip")
    now, passed = gr.State(None), gr.State([])
    controls = [number, name, several]

    def show(chosen: str, item: Item | None, note: str = "") -> list[Any]:
        """The card, the id that it is of, and the answers as the label has them."""
        target = queues[chosen].target
        if item is None:
            return [cards.waiting(NOTHING), None, *[gr.update()] * 3]
        values = _as_controls(target, item.label)
        card = cards.review(item, target, queues[chosen].count(), note)
        return [card, item.post_id, *(gr.update(**value) for value in values)]

    def another(chosen: str, passed: list[str], request: gr.Request, note: str = "") -> list[Any]:
        queue = queues[chosen]
        try:
            item = queue.next(passed)
            if item is not None:
                note_read("page review", queue.task, 1, address=caller(request))
            return show(chosen, item, note)
        except (AssayError, OSError, ValueError, KeyError) as error:
            say(f"serve: {error}")
            told = f"The posts cannot be read: {type(error).__name__}. Run dvc repro."
            return [cards.waiting(told), None, *[gr.update()] * 3]

    def looked_for(chosen: str, wanted: str, request: gr.Request) -> list[Any]:
        queue = queues[chosen]
        try:
            item = queue.find((wanted or "").strip())
            note_read("page review", queue.task, 1, address=caller(request))
            return show(chosen, item)
        except AssayError as error:
            return [cards.refused(str(error)), None, *[gr.update()] * 3]

    def kept(chosen: str, now: str | None, coder: str, value: Any, passed: list[str], request: gr.Request) -> list[Any]:
        queue = queues[chosen]
        if now is None:
            return another(chosen, passed, request)
        try:
            queue.keep(now, coder or "", value)
        except AssayError as error:  # what was answered stays, to be kept at the second try
            return [cards.review(queue.find(now), queue.target, queue.count(), str(error)), now, *[gr.update()] * 3]
        return another(chosen, passed, request, "Kept.")

    def own(
        chosen: str,
        now: str | None,
        coder: str,
        number: float,
        name: str | None,
        several: list[str],
        passed: list[str],
        request: gr.Request,
    ) -> list[Any]:
        target = queues[chosen].target
        value: Any = number if target.shape == NUMBER else name if target.shape == NAME else list(several or [])
        return kept(chosen, now, coder, value, passed, request)

    def agreed(chosen: str, now: str | None, coder: str, passed: list[str], request: gr.Request) -> list[Any]:
        return kept(chosen, now, coder, queues[chosen].find(now).label if now else None, passed, request)

    def other(chosen: str) -> list[Any]:
        target = queues[chosen].target
        ways = [_of_number(target), _of_names(target, one=True), _of_names(target, one=False)]
        return [*(gr.update(**way) for way in ways), []]

    outputs = [shown, now, *controls]
    keep.click(own, [chosen, now, coder, *controls, passed], outputs, trigger_mode="once", **PRIVATE)
    agree.click(agreed, [chosen, now, coder, passed], outputs, trigger_mode="once", **PRIVATE)
    skip.click(lambda now, passed: [*passed, now] if now else passed, [now, passed], passed, **PRIVATE).then(
        another, [chosen, passed], outputs, **PRIVATE
    )
    wanted.submit(looked_for, [chosen, wanted], outputs, **PRIVATE)
    chosen.change(other, chosen, [*controls, passed], **PRIVATE).then(another, [chosen, passed], outputs, **PRIVATE)
    tab.select(another, [chosen, passed], outputs, **PRIVATE)  # not before: posts are read, and that is written down


def _of_number(target: Target) -> dict[str, Any]:
    low, high = target.bounds
    given = {"minimum": low, "maximum": high, "step": (high - low) / 20, "value": low}
    return given | {"label": "The right score", "visible": target.shape == NUMBER}


def _of_names(target: Target, *, one: bool) -> dict[str, Any]:
    names = cards.choices(target)
    visible = target.shape != NUMBER and (target.shape == NAME) == one
    return {"choices": names, "label": "The right answer", "visible": visible, "value": None if one else []}


def _as_controls(target: Target, label: Any) -> list[Any]:
    """A label as the value of each control."""
    if target.shape == NUMBER:
        return [{"value": label}, {}, {}]
    return [{}, {"value": label}, {}] if target.shape == NAME else [{}, {}, {"value": label}]
