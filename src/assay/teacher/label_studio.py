"""Human labels by way of Label Studio: a sample as tasks, with the rubric as labelling config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from assay.reads import note_read
from assay.sampling import permanent_number
from assay.targets import NAME, NUMBER, Target
from assay.teacher.label_export import CHANCE, POST, RATING
from assay.teacher.privacy import clean_image
from assay.teacher.questions import Brief, rows
from assay.teacher.rubric import Rubric
from assay.teacher.structure import data_url

SEED = 0  # of the lot by which posts go to people


def export(
    sample: Path, brief: Brief, out: Path, *, count: int, among: set[str] | None = None, by_lot: bool = True
) -> int:
    """Write `tasks.json` and `config.xml` for Label Studio's import; returns how many posts there are.

    `count` posts of the sample are drawn by lot, of those in `among` where that is given; a larger count keeps those of
    a smaller one. Each task carries its chance to be drawn, which Label Studio gives back with the labels, so that
    these can speak for the whole sample; none where `among` was not made by lot. Texts are without personal data and
    pictures without metadata, as a teacher sees them. What the teacher said stays out: people must not see it.
    """
    light = rows(sample, ["post_id", "text", "image_hashes"])
    with_content = [row["post_id"] for row in light if row["text"] or row["image_hashes"]]
    allowed = with_content if among is None else [one for one in with_content if one in among]
    drawn = set(sorted(allowed, key=lambda post_id: permanent_number(SEED, post_id))[:count])
    chance = {CHANCE: round(len(drawn) / len(with_content), 6)} if by_lot and drawn else {}
    tasks: list[dict[str, Any]] = []
    most = 0
    for row in rows(sample, ["post_id", "text", "images"]):
        if row["post_id"] in drawn:
            images = [data_url(clean_image(image, brief.settings.image_px)) for image in row["images"]]
            most = max(most, len(images))
            pictures = {f"image{i}": url for i, url in enumerate(images, 1)}
            tasks.append({"data": {POST: row["post_id"], "text": brief.text(row), **chance, **pictures}})
    note_read("answers export", sample.name, len(tasks))
    blank = {f"image{i}": "" for i in range(1, most + 1)}
    for task in tasks:
        task["data"] = blank | task["data"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "config.xml").write_text(config_xml(brief.rubric, images=most), encoding="utf-8")
    return len(tasks)


def config_xml(rubric: Rubric, *, images: int) -> str:
    """The labelling config: the rubric to read, the post, and the question."""
    pictures = "\n".join(f'  <Image name="image{i}" value="$image{i}"/>' for i in range(1, images + 1))
    text = f'<Header size="5" style="white-space: pre-wrap" value={quoteattr(rubric.text)}/>'
    return f"""<View>
  <Collapse><Panel value="Rubric">{text}</Panel></Collapse>
  <Text name="text" value="$text"/>
{pictures}
{_question(rubric.target)}
</View>
"""


def _question(target: Target) -> str:
    if target.shape == NUMBER:
        low, high = target.bounds
        return f'  <Number name="{RATING}" toName="text" required="true" min="{low:g}" max="{high:g}" step="0.5"/>'
    choice, needed = ("single", ' required="true"') if target.shape == NAME else ("multiple", "")
    names = "\n".join(f'    <Choice value="{escape(name)}"/>' for name in target.groups)
    return f'  <Choices name="{RATING}" toName="text" choice="{choice}"{needed}>\n{names}\n  </Choices>'
