"""A small, seeded, resumable search over a student's section and its training, by cross-fitting folds.

A fifth of the labelled posts (whole leakage groups) is kept back: no trial sees it, and on it the settings that won are
compared with those that stand in params.yaml. Posts of an official test split have no part in it. Trials are proposed
by Optuna's tree-structured Parzen estimator (Bergstra et al., 2011), from a seed of their own each, so that a search
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from assay.code import reach_digest
from assay.config import Student, Train
from assay.errors import DataError, SettingsError
from assay.measure import metrics
from assay.measure.found import Interval
from assay.places import home, with_extra
from assay.progress import progress, say
from assay.splits import grouped_folds
from assay.student.crossfit import CrossFitted, crossfit
from assay.student.model import Start, own
from assay.student.parts import Part
from assay.student.resume import digest_of
from assay.targets import NAME, NUMBER, Target

FOLDS = 3  # of each trial
KEPT_BACK = 5  # one post in so many
FAILURES = 5  # in a row that end a search
FAILED = "failed"  # why, of a trial that failed by itself and not by a kill
FLOATS = {  # least, largest, on a log scale
    "train.lr": (3e-5, 2e-3, True),
    "train.weight_decay": (0.003, 0.3, True),
    "head.input_dropout": (0.0, 0.7, False),
    "head.dropout": (0.0, 0.6, False),
    "train.modality_dropout": (0.0, 0.3, False),
}
CHOICES: dict[str, tuple[Any, ...]] = {
    "head.hidden": ([64], [128], [256], [256, 128]),
    "head.kind": ("auto", "mlp"),
    "train.batch_size": (32, 64, 128),
    "fusion.kind": ("concat", "gated"),
}


@dataclass(frozen=True)
class Search:
    """What is searched for: the task's name and target, its student and training as they stand, and the posts."""

    name: str
    target: Target
    student: Student
    settings: Train
    pool: Part
    seed: int = 1
    start: Start | None = None

    def key(self) -> str:
        """What a search must share with another to go on from it."""
        pool, features = self.pool, self.pool.features
        told = self.name, self.student.model_dump(), self.target.model_dump(), self.settings.model_dump()
        arrays = [features.image, features.text, features.has_image, features.has_text]
        arrays += [pool.values[self.name], pool.weights, pool.group, *pool.soft.values()]
        return digest_of(*told, self.seed, reach_digest(__file__), features.words, *arrays)

    def kept_back(self) -> np.ndarray:
        """Which posts no trial sees, bool [n]; DataError where there are too few leakage groups."""
        values, group = self.pool.values[self.name], self.pool.group
        if len(np.unique(group)) < 2 * KEPT_BACK:
            raise DataError(f"{self.name}: {len(np.unique(group))} leakage groups; a search needs {2 * KEPT_BACK}")
        fold = grouped_folds(self.target.strata_with_gaps(values), group, KEPT_BACK, self.seed)
        return np.asarray(fold == 0)

    def changed(self, changes: dict[str, Any]) -> tuple[Student, Train]:
        """Student and training with values of dotted keys below `head`, `fusion` and `train`."""
        student = self.student.model_dump()
        for key, value in changes.items():
            section, name = key.split(".")
            if section != "train":
                student[section] = student[section] | {name: value}
        train = {key.removeprefix("train."): value for key, value in changes.items() if key.startswith("train.")}
        return Student.model_validate(student), Train.model_validate(self.settings.model_dump() | train)

    def standing(self) -> dict[str, Any]:
        """The values that params.yaml has now, by dotted key."""
        both = self.student.model_dump() | {"train": self.settings.model_dump()}
        keys = [key for key in (*FLOATS, *CHOICES) if self._applies(key)]
        return {key: both[key.split(".")[0]][key.split(".")[1]] for key in keys}

    def _applies(self, key: str) -> bool:
        two = self.student.image is not None and self.student.text is not None
        return two or key not in ("fusion.kind", "train.modality_dropout")

    def propose(self, trial: Any) -> dict[str, Any]:
        """A trial's values by dotted key; what stands now is always among what can be proposed."""
        found: dict[str, Any] = {}
        for key, now in self.standing().items():
            if key in FLOATS:
                low, high, log = FLOATS[key]
                log = log and now > 0
                given = trial.suggest_float(key, min(low, now), max(high, now), log=log)
                found[key] = _short(given, now)
            else:
                choices = [json.dumps(one) for one in CHOICES[key]]
                here = json.dumps(now)
                choices += [here] if here not in choices else []
                found[key] = json.loads(trial.suggest_categorical(key, choices))
        return found


@dataclass(frozen=True)
class Trial:
    """A trial: its number, its values by dotted key, and its loss on posts that its students did not learn from."""

    number: int
    values: dict[str, Any]
    loss: float


@dataclass(frozen=True)
class Tuned:
    """What a search found: all trials, the best one, and figures on the posts that were kept back."""

    trials: list[Trial]
    best: Trial
    posts: int
    kept_back: int
    metric: str
    now: Interval
    then: Interval
    gap: Interval
    """Better by so much, with its 95 % interval; positive: the settings that won are better."""

    @property
    def first(self) -> Trial:
        """The trial of what stands now."""
        return self.trials[0]


def tune(
    search: Search,
    *,
    minutes: float,
    most: int | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Search until so many minutes or trials are over; trials of an earlier, same search count.

    SettingsError without Optuna, while another such search runs, or for students whose encoders learn.
    """
    try:
        import optuna
    except ImportError as error:
        raise SettingsError(f"assay tune needs Optuna: {with_extra('tune')}") from error
    if search.student.tuned:
        raise SettingsError(f"tune: {' and '.join(search.student.tuned)} learn, an hour each; freeze them")
    back = search.kept_back()
    rest, held = search.pool.take(np.flatnonzero(~back)), search.pool.take(np.flatnonzero(back))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began, failed = time.monotonic(), 0
    with _study(optuna, search) as study, progress(what="tune", total=most, unit="trial") as bar:
        done = _done(optuna, study, search)
        bar.update(len(done))
        while not done or (time.monotonic() - began < minutes * 60 and (most is None or len(done) < most)):
            turn = len(done) + _failed(optuna, study)  # a trial that failed is not proposed again
            study.sampler = optuna.samplers.TPESampler(seed=_seed(search.seed, turn), n_startup_trials=8)
            asked = study.ask() if done else _first(optuna, study, search)
            values = search.propose(asked)
            try:
                loss = _loss_of(search, rest, values)
            except DataError as error:
                say(f"tune: trial {len(done)} failed: {error}")
                asked.set_user_attr(FAILED, str(error))
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
                failed += 1
                if failed >= FAILURES or not done:
                    raise
                continue
            failed = 0
            study.tell(asked, loss)
            done.append(Trial(len(done), values, loss))
            if on_trial:
                on_trial(done[-1])
            bar.update()
    best = min(done, key=lambda trial: trial.loss)
    return Tuned(done, best, len(rest), len(held), search.target.headline, *_judged(search, rest, held, best))


@contextmanager
def _study(optuna: Any, search: Search) -> Iterator[Any]:
    """The study of a search, kept in a journal below ASSAY_HOME; one process at a time."""
    folder = home() / "tune"
    folder.mkdir(exist_ok=True)
    path = folder / f"{search.key()}.log"
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise SettingsError(f"tune: another search of {search.name} with these settings is running") from error
    try:
        _mend(path)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        storage = optuna.storages.JournalStorage(backend)
        yield optuna.create_study(storage=storage, study_name=search.name, load_if_exists=True)
    finally:
        lock.release()


def _mend(path: Path) -> None:
    """Take half a line off a journal, which a full disk or a kill leaves: what follows it could not be read."""
    if path.exists():
        kept = path.read_bytes()
        whole = kept.rfind(b"\n") + 1
        if whole < len(kept):
            with open(path, "r+b") as file:
                file.truncate(whole)


def _seed(seed: int, turn: int) -> int:
    return int(np.random.SeedSequence([seed, turn]).generate_state(1)[0])


def _failed(optuna: Any, study: Any) -> int:
    """How many trials failed by themselves."""
    known = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
    return sum(FAILED in one.user_attrs for one in known)


def _done(optuna: Any, study: Any, search: Search) -> list[Trial]:
    """Trials of earlier runs; those that a kill cut off count as failed."""
    states = optuna.trial.TrialState
    for one in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(one.number, state=states.FAIL)
    known = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
    now = search.standing()
    return [
        Trial(i, {k: _short(v, now[k]) if k in FLOATS else json.loads(v) for k, v in one.params.items()}, one.value)
        for i, one in enumerate(known)
    ]


def _short(value: float, now: float) -> float:
    """Three digits of a number, but for the one that stands."""
    return now if math.isclose(value, now) else float(f"{value:.3g}")


def _first(optuna: Any, study: Any, search: Search) -> Any:
    """What stands now is the first trial."""
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        study.enqueue_trial({k: v if k in FLOATS else json.dumps(v) for k, v in search.standing().items()})
    return study.ask()


def _fitted(search: Search, rest: Part, values: dict[str, Any], folds: int) -> CrossFitted:
    student, settings = search.changed(values)
    targets = {search.name: search.target}
    return crossfit(
        rest,
        student=student,
        targets=targets,
        settings=settings,
        folds=folds,
        checkpoint=None,
        start=search.start,
    )


def _loss_of(search: Search, rest: Part, values: dict[str, Any]) -> float:
    """The loss of each post by the student that never saw it."""
    found = _fitted(search, rest, values, FOLDS)
    told = own(found.model.each(rest.features)[search.name], found.fold)
    known = rest.known(search.name)
    return loss(search.target, rest.values[search.name][known], told[known], rest.weights[known])


def loss(target: Target, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> float:
    """The weighted mean log loss of probabilities; of scores the mean squared error as a share of their range."""
    p = p.astype(float)
    if target.shape == NUMBER:
        low, high = target.bounds
        each = ((p - y) / (high - low)) ** 2
    elif target.shape == NAME:
        each = -np.log(np.clip(p[np.arange(len(y)), y.astype(int)], 1e-7, 1))
    else:
        q = np.clip(p, 1e-7, 1 - 1e-7)
        each = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean(1)
    found = float(np.average(each, weights=weights))
    if not math.isfinite(found):
        raise DataError("the loss is no number")
    return found


def _judged(search: Search, rest: Part, held: Part, best: Trial) -> tuple[Interval, ...]:
    """The headline figure on the posts that were kept back, of what stands now and of what won, and their gap."""
    known = held.known(search.name)
    y, weights, group = held.values[search.name][known], held.weights[known], held.group[known]
    w = metrics.replicate_weights(weights, group)
    drawn = []
    fitted: dict[str, CrossFitted] = {}
    for values in (search.standing(), best.values):
        key = json.dumps(values)
        if key not in fitted:  # what stands may have won
            fitted[key] = _fitted(search, rest, values, KEPT_BACK)
        model = fitted[key].model
        told = model.predict(held.features)[search.name][known].astype(float)
        at = model.thresholds(search.name)
        drawn.append(metrics.bootstrap(y, told, w, search.target, at)[search.target.headline])
    higher = search.target.is_higher_better(search.target.headline)
    gap = metrics.gap(drawn[1], drawn[0], higher=higher)
    return (*(metrics.interval(one).rounded() for one in drawn), gap.rounded())
