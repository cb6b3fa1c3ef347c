"""Human labels by way of Label Studio: a sample as tasks with the rubric as labelling config, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from assay.config import ClassesTarget, LabelsTarget, ScoreTarget, Target
from assay.errors import CorpusError, DataError, RowError
from assay.teacher.privacy import clean_image
from assay.teacher.quality import Humans
from assay.teacher.questions import Asker, rows
from assay.teacher.rubric import Rubric, Value, gold_value
from assay.teacher.structure import data_url

RATING = "rating"
POST = "post_id"


def export(sample: Path, asker: Asker, out: Path, *, count: int, chosen: set[str] | None = None) -> int:
    """Write `tasks.json` and `config.xml` for Label Studio's import; returns how many posts there are.

    Posts are taken in the order of the sample, which is a random one, or those in `chosen`. Texts are
    without personal data and pictures without metadata, as a teacher sees them. What the teacher said
    stays out: people must not see it.
    """
    tasks: list[dict[str, Any]] = []
    most = 0
    for row in rows(sample, ["post_id", "text", "images"]):
        if len(tasks) == count:
            break
        if (chosen is None or row["post_id"] in chosen) and (row["text"] or row["images"]):
            images = [data_url(clean_image(image, asker.settings.image_px)) for image in row["images"]]
            most = max(most, len(images))
            pictures = {f"image{i}": url for i, url in enumerate(images, 1)}
            tasks.append({"data": {POST: row["post_id"], "text": asker.text(row), **pictures}})
    blank = {f"image{i}": "" for i in range(1, most + 1)}
    for task in tasks:
        task["data"] = blank | task["data"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "config.xml").write_text(config_xml(asker.rubric, images=most), encoding="utf-8")
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
    if isinstance(target, ScoreTarget):
        bounds = f'min="{target.min:g}" max="{target.max:g}" step="0.5"'
        return f'  <Number name="{RATING}" toName="text" required="true" {bounds}/>'
    choice = "single" if isinstance(target, ClassesTarget) else "multiple"
    needed = ' required="true"' if isinstance(target, ClassesTarget) else ""
    names = "\n".join(f'    <Choice value="{escape(name)}"/>' for name in target.names)
    return f'  <Choices name="{RATING}" toName="text" choice="{choice}"{needed}>\n{names}\n  </Choices>'


def read_export(path: Path, target: Target) -> tuple[Humans, list[str]]:
    """The labels of a JSON export of Label Studio, by post and coder, and what could not be used, a line each.

    The coder is the id that Label Studio gave the person. Skipped and cancelled annotations are left out.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: {error}; export the project from Label Studio as JSON") from error
    if not isinstance(tasks, list):
        raise CorpusError(f"{path} is not a list of tasks; export the project from Label Studio as JSON")
    found: Humans = {}
    problems: list[str] = []
    for number, task in enumerate(tasks, 1):
        try:
            post = str(task["data"][POST])
            annotations = task["annotations"]
        except (KeyError, TypeError):
            problems.append(f"task {number}: no data.{POST} or no annotations")
            continue
        for annotation in annotations:
            if annotation.get("was_cancelled"):
                continue
            try:
                found.setdefault(post, {})[coder_of(annotation)] = _value(annotation.get("result") or [], target)
            except (RowError, KeyError, TypeError, IndexError) as error:
                problems.append(f"task {number}, post {post}: {error}")
    found = {post: coders for post, coders in found.items() if coders}
    if not found:
        raise DataError(f"{path}: no annotation can be used; {problems[0] if problems else 'there is none'}")
    return found, problems


def coder_of(annotation: dict[str, Any]) -> str:
    """Who labelled: the id of the person, without name or address."""
    by = annotation.get("completed_by")
    return str(by["id"] if isinstance(by, dict) else by)


def _value(results: list[dict[str, Any]], target: Target) -> Value:
    own = [one["value"] for one in results if one.get("from_name") == RATING]
    if isinstance(target, LabelsTarget):
        return gold_value(json.dumps([name for value in own for name in value["choices"]]), target)
    if not own:
        raise RowError("no_label", "the annotation has no rating")
    return gold_value(str(own[0]["number"] if isinstance(target, ScoreTarget) else own[0]["choices"][0]), target)
