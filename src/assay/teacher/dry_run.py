"""Writes the requests that annotation would send, for inspection, and sends nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from assay.errors import TeacherError
from assay.remote import dialect
from assay.remote.answers import AnswerStore
from assay.teacher.questions import Brief, Company, Keys, questions
from assay.teacher.structure import body, path, remembered, ways


def write_requests(
    sample: Path,
    brief: Brief,
    keys: dict[str, Keys | None],
    digests: dict[str, str],
    store: AnswerStore,
    folder: Path,
    task: str,
    company: Mapping[str, Brief] | None = None,
) -> NoReturn:
    """One file a question without an answer, its pictures beside it; ends with TeacherError: nothing is labelled."""
    settings = brief.settings.teacher
    allowed = ways(settings, brief.settings)
    way = remembered(store.way(settings.base_url, settings.model), allowed) or allowed[0]
    spoken = dialect.remembered(store.dialect(settings.base_url, settings.model), settings)
    first = {own.votes[0] for own in keys.values() if own}
    missing = first - store.known(first)
    others = Company(task, company, store.known) if company else None
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for key, _, question in questions(sample, brief, keys, digests, missing, others):
        scaled = dialect.for_answers(settings, len(question.parts))
        request = {"path": path(way), "body": body(question, way, scaled, spoken)}
        name = key[:16]
        (folder / f"{name}.json").write_text(json.dumps(request, indent=1, ensure_ascii=False) + "\n")
        for number, image in enumerate(question.images, 1):
            (folder / f"{name}-{number}.jpg").write_bytes(image)
        count += 1
    raise TeacherError(
        f"annotate.dry_run: {count} requests written to {folder}, nothing sent; set it to null to ask for real"
    )
