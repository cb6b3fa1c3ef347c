"""The whole of params.yaml, and the only reader of YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError, model_validator

from assay.config.audits import Audit, DrawnSource, Generator
from assay.config.corpora import AnyCorpus, Demo
from assay.config.messages import every_line
from assay.config.students import Student
from assay.config.tasks import DESIGNS_WITH_FEATURES, Task
from assay.errors import SettingsError
from assay.section import Section, check_known

ASKED_ALIKE = (
    ("", "corpus"),
    ("", "sample"),
    *(("annotate", name) for name in ("teacher", "distribution", "votes", "image_px", "mask", "phone_regions")),
)
FOLDERS = ("corpora", "joint", "machine", "curves", "tune")  # of metrics/
UNSEEN = ("size", "nfiles")
RENAMED = {r"tasks\.[^.]+\.sample\.size": "posts", r"generators\.[^.]+\.size": "image_size"}


class Params(Section):
    """The whole of params.yaml."""

    scan: list[str] = []
    """Corpora whose files may have changed: on every `dvc repro` names, sizes and times are looked at, and only what
    changed is ingested again. A new corpus must stand here at least once, to get its manifest.
    """
    deploy: list[str] = []
    """Tasks whose student is also written to deployed/<task>, with graphs of its encoders in small weights, checked
    against PyTorch: what `predict`, `serve` and `pack` take where it is to run (extra `fast`).
    """
    demo: Demo = Demo()
    """The drawn corpus, which lets everything run without any data."""
    corpora: dict[str, AnyCorpus]
    """Raw corpora by name."""
    tasks: dict[str, Task]
    """Questions by name; the rubric is rubrics/<name>.md."""
    students: dict[str, Student]
    """Students by name: an image branch, a text branch (either may be absent), their fusion and a head."""
    joint: dict[str, list[str]] = {}
    """Several tasks over one trunk, by a name: one pass over the corpus answers them all. They share corpus, student,
    image_px and max_images; split, train and infer are the first one's.
    """
    audits: dict[str, Audit] = {}
    """Audits of image generators by name."""
    generators: dict[str, Generator] = {}
    """What makes images, by name."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in [*self.corpora, *self.tasks, *self.students, *self.joint, *self.audits]:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"name {name!r} must be made of letters, digits, _ and -")
        for name in self.tasks:
            if name in FOLDERS:
                raise ValueError(f"tasks.{name}: this name is taken by a folder of metrics/; choose another")
        for name, task in self.tasks.items():
            check_known(f"tasks.{name}.corpus", task.corpus, self.corpora)
            check_known(f"tasks.{name}.student", task.student, self.students)
            self._check_learning(name, task)
            self._check_company(name, task)
        for name, corpus in self.corpora.items():
            if corpus.kind == "demo" and name != "demo":
                raise ValueError(f"corpora.{name}: kind demo is only for the corpus named demo")
        for name, members in self.joint.items():
            self._check_joint(name, members)
        for name, audit in self.audits.items():
            self._check_audit(name, audit)
        for name in self.deploy:
            check_known("deploy", name, self.tasks)
        for name in self.scan:
            check_known("scan", name, self.corpora)
            if self.corpora[name].kind == "demo":
                raise ValueError(f"scan: {name} is the drawn corpus, which has its own stage; leave it out")
        return self

    def _check_learning(self, name: str, task: Task) -> None:
        """What only an encoder that learns can do must not be asked of a frozen one."""
        tuned, train = self.students[task.student].tuned, task.train
        wishes = {"augment": (train.augment != "none", "image"), "text_dropout": (train.text_dropout > 0, "text")}
        for key, (wished, branch) in wishes.items():
            if wished and branch not in tuned:
                raise ValueError(
                    f"tasks.{name}.train.{key}: the {branch} encoder of student {task.student} is frozen; "
                    f"set students.{task.student}.{branch}.frozen to false, or leave {key} out"
                )
        if train.crossfit and tuned:
            raise ValueError(
                f"tasks.{name}.train.crossfit: the encoders of student {task.student} learn; {train.crossfit} "
                "would be as many passes over the corpus; set it to 0, or freeze them"
            )
        if train.start_from and not self.students[task.student].linear:
            raise ValueError(
                f"tasks.{name}.train.start_from: student {task.student} has no linear model, which would see it; "
                "set its head.kind to auto or linear and freeze its encoders, or leave start_from out"
            )
        if train.grad_checkpointing and not tuned:
            raise ValueError(
                f"tasks.{name}.train.grad_checkpointing: student {task.student} is frozen; set it to false"
            )

    def _check_company(self, name: str, task: Task) -> None:
        """Tasks that are asked about in one call must ask the same teacher about the same posts."""
        key = f"tasks.{name}.annotate.ask_with"
        for other in task.annotate.ask_with:
            check_known(key, other, self.tasks)
            theirs = self.tasks[other]
            if other == name or task.annotate.ask_with.count(other) > 1:
                raise ValueError(f"{key}: {other} is asked once; name other tasks, each once")
            if theirs.annotate.source != "teacher" or theirs.annotate.distribution == "typed":
                raise ValueError(f"{key}: {other} has no teacher that answers by text; leave it out")
            if task.sample.design in DESIGNS_WITH_FEATURES:
                raise ValueError(f"{key}: with design {task.sample.design} each task chooses posts of its own")
            for where, field in ASKED_ALIKE:
                mine, its = (getattr(getattr(one, where) if where else one, field) for one in (task, theirs))
                if mine != its:
                    dotted = f"{where}.{field}" if where else field
                    raise ValueError(f"{key}: {other} and {name} must have the same {dotted}")

    def _check_audit(self, name: str, audit: Audit) -> None:
        key = f"audits.{name}"
        if name in {*FOLDERS, *self.tasks, *self.joint}:
            raise ValueError(f"{key}: this name is taken by a folder of metrics/; choose another")
        check_known(f"{key}.generator", audit.generator, self.generators)
        source = self.generators[audit.generator]
        if isinstance(source, DrawnSource):
            for group in source.lean:
                check_known(f"generators.{audit.generator}.lean", group, dict.fromkeys(audit.attributed))

    def sections(self) -> dict[str, dict[str, Any]]:
        """Every section with its defaults filled in, by its place below data/settings: tasks/<task>/<section>, …

        A stage depends on the sections that it reads, so that DVC sees a changed default as it sees a changed line.
        """
        return sections(self.model_dump(by_alias=True, mode="json"))

    def members(self, name: str) -> dict[str, Task]:
        """The tasks behind a name: of a joint student all of its own, else the one; SettingsError if unknown."""
        if name in self.joint:
            return {member: self.tasks[member] for member in self.joint[name]}
        if name not in self.tasks:
            raise SettingsError(f"no task {name!r}; allowed: {', '.join([*self.tasks, *self.joint])}")
        return {name: self.tasks[name]}

    def _check_joint(self, name: str, members: list[str]) -> None:
        key = f"joint.{name}"
        if name in self.tasks:
            raise ValueError(f"{key}: a task has this name; choose another")
        if len(set(members)) < 2 or len(set(members)) != len(members):
            raise ValueError(f"{key}: needs two or more different tasks, got {members}")
        for task in members:
            check_known(key, task, self.tasks)
        first = self.tasks[members[0]]
        for task in members[1:]:
            for field in ("corpus", "student"):
                if getattr(self.tasks[task], field) != getattr(first, field):
                    raise ValueError(f"{key}: {task} and {members[0]} must have the same {field}")
            for field in ("image_px", "max_images"):
                if getattr(self.tasks[task].sample, field) != getattr(first.sample, field):
                    raise ValueError(f"{key}: {task} and {members[0]} must have the same sample.{field}")


def own(path: Path, name: str, tasks: Mapping[str, Task], suffix: str = "") -> Path:
    """What a task has at a path: the path itself, or its part below it where several tasks share a student."""
    return path / f"{name}{suffix}" if len(tasks) > 1 else path


def sections(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings as they are dumped, by the place of each section below data/settings; see Params.sections."""
    found: dict[str, dict[str, Any]] = {}
    for group, depth in (("demo", 0), ("corpora", 1), ("students", 1), ("generators", 1), ("joint", 1),
                         ("tasks", 2), ("audits", 2)):  # fmt: skip
        inner: dict[str, Any] = {group: whole[group]}
        for _ in range(depth):
            inner = {f"{place}/{name}": value for place, part in inner.items() for name, value in part.items()}
        found |= {place: {place.replace("/", "."): value} for place, value in inner.items()}
    return found


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml; SettingsError with one line for each thing that is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; run this in the repository's root") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: must be a mapping with the keys {', '.join(Params.model_fields)}")
    _check_names(path, raw)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {line}" for line in every_line(error, raw, Params))) from None


def _check_names(path: str | Path, raw: dict[str, Any]) -> None:
    """SettingsError for a key that DVC would not see, at any depth.

    DVC drops keys of these names from what its run cache is looked up by (dvc/stage/cache.py, 3.67), so
    that a change of such a setting would bring the old outputs back.
    """
    todo: list[tuple[str, Any]] = [("", raw)]
    while todo:
        where, here = todo.pop()
        inside = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        for name, value in inside:
            key = f"{where}.{name}".lstrip(".")
            if name in UNSEEN:
                now = next((new for old, new in RENAMED.items() if re.fullmatch(old, key)), None)
                said = f"it is called {now} now" if now else "choose another name"
                raise SettingsError(f"{path}: {key}: DVC does not notice changes of settings named {name}; {said}")
            todo.append((key, value))
