"""A regularised linear model of a student's features and n-grams, beside its hidden layers.

On few labels it is hard to beat, and where hidden layers do not pay, it answers in their place (see blend). Strength
and the weight of the n-grams against the dense features are chosen by folds of whole leakage groups within the posts
that are learnt from. It is fitted through inner products of posts, of which there are fewer than features: logistic or
ridge regression on the eigenvectors of their matrix is that on the features themselves (Saunders et al., 1998).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple, cast

import numpy as np
import torch
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import LexicalBranch
from assay.splits import grouped_folds
from assay.student.lexical import Grams, Lexical, unit_rows
from assay.student.parts import Part
from assay.targets import NAME, NAMES, NUMBER, Target

GRAMS = LexicalBranch()  # of students that have none beside their hidden layers
FOLDS = 3
CHOOSING = 900  # posts by which strengths are chosen, at most
LANDMARKS = 3000  # posts that the model is a sum over, at most
LEARNT = 10_000  # posts that it is fitted to, at most
BALANCES = (0.3, 1.0, 3.0)  # of the n-grams, to the dense features
STRENGTHS = {NAME: (0.3, 3.0, 30.0, 300.0), NAMES: (0.3, 3.0, 30.0, 300.0), NUMBER: (0.1, 0.3, 1.0, 3.0, 10.0)}


class Linear(nn.Module):
    """Raw outputs [n, outputs] of standardised features [n, dim] and n-grams; nothing before it is fitted."""

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, grams: LexicalBranch | None, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(dim, outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.grams = Lexical(grams.model_copy(update={"dropout": 0.0}), outputs) if grams else None
        if self.grams is not None:
            self.grams.requires_grad_(False)

    def forward(self, dense: Tensor, grams: Grams | None) -> Tensor:
        found = F.linear(dense, self.weight.T, self.bias)
        return found if self.grams is None or grams is None else found + self.grams(grams)

    def fit(
        self,
        dense: Tensor,
        table: sparse.csr_matrix | None,
        part: Part,
        targets: dict[str, Target],
        columns: dict[str, slice],
        seed: int,
    ) -> None:
        """Fit the tasks of `columns`, their raw outputs, by standardised features [n, dim] and n-grams [n, buckets]."""
        seen, grams = dense.numpy(), self._weighted(table)
        for name, at in columns.items():
            known = _some(np.flatnonzero(part.known(name)), LEARNT, seed)
            if len(known):
                some = seen[known].astype(np.float64) / max(1, seen.shape[1]) ** 0.5
                posts = _Posts(some, None if grams is None else grams[known])
                self._keep(at, posts, _Task(targets[name], part.values[name][known], part.group[known]), seed)

    def _weighted(self, table: sparse.csr_matrix | None) -> sparse.csr_matrix | None:
        if self.grams is None or table is None:
            return None
        self.grams.fit(table)
        return unit_rows(table, self.grams.idf.numpy(), self.grams.words_below)

    def _keep(self, columns: slice, posts: _Posts, task: _Task, seed: int) -> None:
        balance, strength = _chosen(posts, task, seed)
        learnt = np.arange(len(task.y))
        marks = posts.take(_some(learnt, LANDMARKS, seed))
        back = _basis(_products(marks, marks, balance))
        weights, bias = task.fitted(_products(posts, marks, balance) @ back, strength, learnt)
        spread = back @ weights  # of each landmark
        self.weight[:, columns] = torch.from_numpy(marks.dense.T @ spread / max(1, posts.dense.shape[1]) ** 0.5).float()
        self.bias[columns] = torch.from_numpy(bias).float()
        if self.grams is not None and marks.grams is not None:
            with torch.no_grad():
                self.grams.weight[:, columns] = torch.from_numpy(np.asarray(balance * (marks.grams.T @ spread))).float()


class _Posts(NamedTuple):
    """Dense features [n, d], scaled so that a post's are about 1 long, and n-grams of unit length."""

    dense: np.ndarray
    grams: sparse.csr_matrix | None

    def take(self, rows: np.ndarray) -> _Posts:
        return _Posts(self.dense[rows], None if self.grams is None else self.grams[rows])


def _products(posts: _Posts, other: _Posts, balance: float) -> np.ndarray:
    """Inner products of posts and others, [n, m]; n-grams weighted by `balance`."""
    found: np.ndarray = posts.dense @ other.dense.T
    if posts.grams is not None and other.grams is not None:
        found = found + balance * (posts.grams @ other.grams.T).toarray()
    return found


def _basis(products: np.ndarray) -> np.ndarray:
    """From inner products of n landmarks [n, n], what takes inner products with them to coordinates [n, r]."""
    values, vectors = linalg.eigh(products)
    large = values > 1e-6 * max(values.max(), 1e-12)
    if not large.any():  # posts that are all alike
        return np.zeros((len(values), 1))
    return np.asarray(vectors[:, large] / np.sqrt(values[large]))


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows, by lot, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


class _Task(NamedTuple):
    """What a target asks of posts that all have a label."""

    target: Target
    y: np.ndarray
    group: np.ndarray

    def fitted(self, x: np.ndarray, strength: float, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [r, outputs] and bias [outputs] from coordinates [n, r] of some posts."""
        y = self.y[rows]
        if self.target.shape == NUMBER:
            low, high = self.target.bounds
            model = Ridge(alpha=1 / strength).fit(x, (y - low) / (high - low))
            return model.coef_.reshape(-1, 1), np.atleast_1d(model.intercept_)
        if self.target.shape == NAMES:
            found = [_logistic(x, y[:, k].astype(int), 2, strength) for k in range(y.shape[1])]
            return np.hstack([w[:, 1:] for w, _ in found]), np.concatenate([b[1:] for _, b in found])
        return _logistic(x, y.astype(int), len(self.target.groups), strength)

    def loss(self, raw: np.ndarray, rows: np.ndarray) -> float:
        """The mean loss of raw outputs [n, outputs] of some posts."""
        y = self.y[rows]
        if self.target.shape == NUMBER:
            low, high = self.target.bounds
            return float(np.mean((np.clip(raw[:, 0], 0, 1) - (y - low) / (high - low)) ** 2))
        return float(log_loss(torch.from_numpy(raw), torch.from_numpy(y), self.target))


def log_loss(raw: Tensor, y: Tensor, target: Target) -> Tensor:
    """The mean log loss of raw outputs [n, outputs] of classes y [n] or labels y [n, names]."""
    if target.shape == NAMES:
        return F.binary_cross_entropy_with_logits(raw, y.to(raw.dtype))
    return F.cross_entropy(raw, y.long())


def _logistic(x: np.ndarray, y: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [r, classes] and bias [classes]; the first of two classes has 0, one without a post is unlikely."""
    there = np.unique(y)
    weight, bias = np.zeros((x.shape[1], classes)), np.full(classes, -10.0)
    if len(there) == 1:
        bias[there[0]] = 10.0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=200).fit(x, y)
    if len(there) == 2:
        weight[:, there[1]], bias[there] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weight[:, there], bias[there] = model.coef_.T, model.intercept_
    return weight, bias


def _chosen(posts: _Posts, task: _Task, seed: int) -> tuple[float, float]:
    """Balance and strength with the least loss over folds of whole groups."""
    strengths = STRENGTHS[task.target.shape]
    rows = _some(np.arange(len(task.y)), CHOOSING, seed)
    groups = len(np.unique(task.group[rows]))
    if groups < 2:
        return BALANCES[0], strengths[0]
    fold = grouped_folds(task.target.strata_with_gaps(task.y[rows]), task.group[rows], min(FOLDS, groups), seed)
    some = posts.take(rows)
    dense = _products(some._replace(grams=None), some, 0)
    grams = None if some.grams is None else (some.grams @ some.grams.T).toarray()
    best: tuple[float, float, float] | None = None
    for balance in BALANCES if grams is not None else BALANCES[:1]:
        products = dense if grams is None else dense + balance * grams
        losses = np.zeros(len(strengths))
        for number in np.unique(fold):
            learn, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            back = _basis(products[np.ix_(learn, learn)])
            x, other = (products[np.ix_(part, learn)] @ back for part in (learn, held))
            for i, strength in enumerate(strengths):
                weights, bias = task.fitted(x, strength, rows[learn])
                losses[i] += task.loss(other @ weights + bias, rows[held]) * len(held)
        at = int(losses.argmin())
        if best is None or losses[at] < best[0]:
            best = float(losses[at]), balance, strengths[at]
    return cast(tuple[float, float, float], best)[1:]
