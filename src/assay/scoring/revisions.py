"""What a DVC revision, experiment or the workspace holds of a task, laid out as files of the repository are.

Outputs are links into DVC's cache, or are fetched from the remote; nothing is checked out, and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay import config
from assay.config import Params, Task
from assay.errors import DataError, SettingsError
from assay.scoring.repository import Answered, answered

WORKSPACE = "workspace"
ALWAYS = "always changed"  # what DVC says of stages that look at the world each time


@dataclass(frozen=True)
class Revision:
    """A task as one revision has it; `root` has its files by their places in the repository."""

    name: str
    root: Path
    params: Params
    task_name: str
    joint: str | None = None  # the joint student that is meant, instead of the task's own

    @property
    def task(self) -> Task:
        """The task's settings."""
        return self.params.tasks[self.task_name]

    @property
    def at(self) -> Answered:
        """Where its files stand."""
        return answered(self.task_name, self.joint)

    @property
    def errors(self) -> Path:
        """What evaluate said of each judged post."""
        return self.root / self.at.errors

    @property
    def labels(self) -> Path:
        """What annotate found."""
        return self.root / self.at.labels

    @property
    def posts(self) -> Path:
        """The corpus' posts."""
        return self.root / "data" / "corpora" / self.task.corpus / "posts"

    def rubric(self) -> str | None:
        """The text of the rubric; None where labels come from a column."""
        path = self.root / "rubrics" / self.task.annotate.rubric_file(self.task_name)
        if self.task.annotate.source == "column" or not path.exists():
            return None
        return path.read_text(encoding="utf-8")

    def code(self) -> dict[str, str]:
        """A digest of the code of each stage."""
        return {path.stem: path.read_text() for path in sorted((self.root / "data" / "code").glob("*.json"))}


@contextmanager
def opened(name: str, task: str, root: Path = Path()) -> Iterator[Revision]:
    """A revision of the repository at `root`: a commit, branch, tag, DVC experiment, or `workspace`.

    Behind a colon the name of a joint student, instead of the task's own: `workspace:moods`. SettingsError for one
    that there is not, or without the task; DataError where an output is neither in the cache nor in a remote.
    """
    rev, joint = parted(name)
    if rev == WORKSPACE:
        found = Revision(name, root, _params(name, root, task, joint), task, joint)
        for place in _wanted(found):
            if not (root / place).exists():
                raise DataError(f"{name} has no {place}; run `dvc repro {found.at.report}`, or `dvc checkout`")
        yield found
        return
    with TemporaryDirectory(prefix="assay-revision-") as folder, _files(rev, root) as files:
        files.lay("params.yaml", Path(folder))
        found = Revision(name, Path(folder), _params(name, Path(folder), task, joint), task, joint)
        for place in _wanted(found):
            if not files.lay(place, found.root):
                raise DataError(f"{name} has no {place}: the pipeline had not come so far there")
        for place in ("rubrics", "data/code", f"data/people/{task}.parquet"):
            files.lay(place, found.root)
        yield found


def parted(name: str) -> tuple[str, str | None]:
    """A revision, and the joint student behind its colon."""
    rev, _, joint = name.partition(":")
    return rev, joint or None


def stale(task: str, joint: str | None, root: Path = Path()) -> str | None:
    """Why the workspace's files may be of other settings, code or data than stand there now; None: they are not."""
    report = answered(task, joint).report
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            found = repo.status(targets=[f"{root / 'dvc.yaml'}:{report}"], with_deps=True)
    except DvcException as error:  # such as the lock of a run that goes on
        return f"whether it is up to date could not be told ({' '.join(str(error).split())[:120]})"
    if any(changes != [ALWAYS] for changes in found.values()):
        return f"it has changed since it was run; run `dvc repro {report}` first"
    return None


def _wanted(revision: Revision) -> list[str]:
    at = revision.at
    posts, sample = f"data/corpora/{revision.task.corpus}/posts", f"data/sample/{revision.task_name}"
    return [at.labels, at.split, sample, at.predictions, posts, at.errors]


def _params(name: str, folder: Path, task: str, joint: str | None) -> Params:
    try:
        params = config.load(folder / "params.yaml")
    except SettingsError as error:
        said = str(error).removeprefix(f"{folder}/")
        raise SettingsError(f"{name}: {said}; this version cannot read that revision's settings") from error
    if task not in params.tasks:
        raise SettingsError(f"{name} has no task {task!r}; it has {', '.join(params.tasks)}")
    if joint is not None and task not in params.joint.get(joint, []):
        there = [one for one, members in params.joint.items() if task in members]
        raise SettingsError(f"{name}: no joint student {joint!r} answers {task}; allowed: {', '.join(there) or 'none'}")
    return params


class _Files:
    """Files of a revision, tracked by git or by DVC."""

    def __init__(self, name: str, fs: Any) -> None:
        self._name, self._fs = name, fs

    def lay(self, place: str, folder: Path) -> bool:
        """Put a file or folder at its place below `folder`; False where the revision has none."""
        try:
            found = self._fs.find(place, detail=True)
        except FileNotFoundError:
            return False
        except Exception as error:  # what a folder's list that is gone from the cache raises
            raise self._lost(place, error) from error
        own = [info.get("dvc_info", info) for info in found.values() if not info.get("fs_info")]
        if any(info.get("isdvc") and not info.get("md5") for info in own):
            return False  # an output that no run had made
        for path, info in found.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = self._kept(info)
            if kept is not None and kept.exists():
                target.symlink_to(kept)
                continue
            try:
                self._fs.get_file(path, str(target))
            except Exception as error:  # whatever a remote's client raises
                raise self._lost(path, error) from error
        return bool(found)

    def _lost(self, path: str, error: Exception) -> DataError:
        why = " ".join(str(error).split())[:160]
        return DataError(
            f"{path} of {self._name} is neither in DVC's cache nor in a remote ({why}); `dvc fetch` it, or run that "
            "revision again"
        )

    def _kept(self, info: dict[str, Any]) -> Path | None:
        """Where the cache has a file."""
        own = info.get("dvc_info", info)
        if not own.get("md5") or not own.get("isdvc"):
            return None
        return Path(self._fs.repo.cache.local.oid_to_path(own["md5"])).absolute()


@contextmanager
def _files(name: str, root: Path) -> Iterator[_Files]:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import RevError

    if not (root / ".git").exists():
        raise SettingsError(f"{root.absolute()} is no git repository, which has no revisions; run this in its root")
    try:
        repo = Repo(str(root), rev=name)
    except NotDvcRepoError as error:
        raise SettingsError(f"{root.absolute()} is no DVC repository; run this in the repository's root") from error
    except RevError as error:
        raise SettingsError(
            f"no revision {name!r}: neither {WORKSPACE}, a commit, a branch, a tag nor an experiment; "
            "`dvc exp list` and `git log` show what there is"
        ) from error
    except DvcException as error:
        raise DataError(f"{name}: {' '.join(str(error).split())}") from error
    with repo:
        yield _Files(name, DVCFileSystem(repo))
