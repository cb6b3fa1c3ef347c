"""What a student must beat: a constant, linear probes on the frozen features, and TF-IDF with a linear model.

All learn from the train split; their one regularisation setting is chosen on the val split.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from assay.targets import NAME, NAMES, Target

PROBES = ("text", "image", "both")
PROBE_C = (0.0003, 0.001, 0.003, 0.01, 0.1)
TFIDF_C = (0.3, 1.0, 3.0, 10.0)


class Views(NamedTuple):
    """What baselines see of n posts: frozen features and words."""

    image: np.ndarray  # float32 [n, image dim], zeros where absent
    text: np.ndarray  # float32 [n, text dim]
    words: list[str]

    def take(self, rows: np.ndarray) -> Views:
        """Some rows."""
        return Views(self.image[rows], self.text[rows], [self.words[i] for i in rows])


class Learning(NamedTuple):
    """Views of posts, and targets, of train and val."""

    train: Views
    train_y: np.ndarray
    train_weights: np.ndarray
    val: Views
    val_y: np.ndarray


def predict_all(data: Learning, test: Views, target: Target) -> dict[str, np.ndarray]:
    """Predictions of every baseline that can be made on the test posts: scores [n], probabilities [n, K] or [n, L]."""
    found = {"constant": target.constant(data.train_y, data.train_weights, len(test.words))}
    views: dict[str, Callable[[Views], np.ndarray]] = {
        "text": lambda i: i.text,
        "image": lambda i: i.image,
        "both": lambda i: np.hstack([i.image, i.text]),
    }
    for name, view in views.items():
        if view(data.train).shape[1] == 0 or (name == "both" and not (data.train.text.size and data.train.image.size)):
            continue
        scaler = StandardScaler().fit(view(data.train))
        parts = [scaler.transform(view(part)) for part in (data.train, data.val, test)]
        found[name] = _linear(parts, data, target, PROBE_C)
    if any(data.train.words):
        found["tfidf"] = _tfidf(data, test, target)
    return found


def _tfidf(data: Learning, test: Views, target: Target) -> np.ndarray:
    vectorizers = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2),
    ]
    columns = []
    for vectorizer in vectorizers:
        try:
            vectorizer.fit(data.train.words)
        except ValueError:  # no term stands in two texts
            continue
        columns.append([vectorizer.transform(part.words) for part in (data.train, data.val, test)])
    if not columns:
        return target.constant(data.train_y, data.train_weights, len(test.words))
    parts = [sparse.hstack(group).tocsr() for group in zip(*columns, strict=True)]
    return _linear(parts, data, target, TFIDF_C)


def _linear(parts: Sequence[Any], data: Learning, target: Target, strengths: Sequence[float]) -> np.ndarray:
    """Ridge or logistic regression (one a label), its strength chosen by the loss on val."""
    with threadpool_limits(1):  # many small steps, on which several threads wait for each other; and the same figures
        return _chosen(parts, data, target, strengths)


def _chosen(parts: Sequence[Any], data: Learning, target: Target, strengths: Sequence[float]) -> np.ndarray:
    train, val, test = parts
    if target.shape == NAMES:  # one model a label, each with a strength of its own
        columns = [
            _best(train, val, test, data.train_y[:, k].astype(int), data.val_y[:, k].astype(int), 2, strengths)[:, 1]
            for k in range(data.train_y.shape[1])
        ]
        return np.stack(columns, axis=1)
    if target.shape == NAME:
        return _best(train, val, test, data.train_y, data.val_y, len(target.groups), strengths)
    return _best_ridge(train, val, test, data, target, strengths)


def _best(
    train: Any, val: Any, test: Any, y: np.ndarray, val_y: np.ndarray, classes: int, strengths: Sequence[float]
) -> np.ndarray:
    best: tuple[float, np.ndarray] | None = None
    for strength in strengths:
        model = _Classifier(strength, classes).fit(train, y)
        guess = model.predict(val)
        loss = -float(np.mean(np.log(np.clip(guess[np.arange(len(val_y)), val_y], 1e-9, 1))))
        if best is None or loss < best[0]:
            best = loss, model.predict(test)
    if best is None:
        raise ValueError("no strengths given")
    return best[1]


def _best_ridge(
    train: Any, val: Any, test: Any, data: Learning, target: Target, strengths: Sequence[float]
) -> np.ndarray:
    best: tuple[float, np.ndarray] | None = None
    for strength in strengths:
        model = Ridge(alpha=1 / strength).fit(train, data.train_y)
        loss = float(np.mean(np.abs(np.clip(model.predict(val), *target.bounds) - data.val_y)))
        if best is None or loss < best[0]:
            best = loss, model.predict(test)
    if best is None:
        raise ValueError("no strengths given")
    return np.asarray(np.clip(best[1], *target.bounds))


class _Classifier:
    """Logistic regression whose probabilities have a column for every class, also for one never seen."""

    def __init__(self, strength: float, classes: int) -> None:
        self.strength, self.classes = strength, classes

    def fit(self, x: Any, y: np.ndarray) -> _Classifier:
        self.only = int(y[0]) if len(np.unique(y)) == 1 else None
        if self.only is None:
            quick = self.classes == 2 and sparse.issparse(x)  # many labels, each on many n-grams
            self.model = LogisticRegression(
                C=self.strength, max_iter=300, tol=1e-3, solver="liblinear" if quick else "lbfgs", intercept_scaling=10
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model.fit(x, y)
        return self

    def predict(self, x: Any) -> np.ndarray:
        result = np.zeros((x.shape[0], self.classes))
        if self.only is not None:
            result[:, self.only] = 1.0
        else:
            result[:, self.model.classes_] = self.model.predict_proba(x)
        return result
