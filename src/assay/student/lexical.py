"""Hashed word and character n-grams: a sparse view of the text that a dense encoder cannot replace.

Rare names, slurs in odd spellings and hashtags are often seen by a linear model on n-grams alone. The
branch is a table of one weight a bucket and output (fastText: Joulin et al., 2017; hashing: Weinberger
et al., 2009), weighted by inverse document frequency, beside whatever stands on the dense features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import LexicalBranch


class Grams(NamedTuple):
    """N-grams of n posts as an embedding bag wants them."""

    ids: Tensor  # int64 [total]
    offsets: Tensor  # int64 [n]
    counts: Tensor  # float32 [total], 1 + log of the count


def hash_grams(texts: Sequence[str], settings: LexicalBranch) -> sparse.csr_matrix:
    """Counts of hashed n-grams, float32 [n, buckets]: words in the lower half, characters in the upper."""
    half = settings.buckets // 2
    parts = []
    if settings.words:
        parts.append(
            HashingVectorizer(
                n_features=half, ngram_range=(1, settings.words), norm=None, alternate_sign=False, dtype=np.float32
            ).transform(texts)
        )
    else:
        parts.append(sparse.csr_matrix((len(texts), half), dtype=np.float32))
    if settings.chars:
        low, high = settings.chars
        parts.append(
            HashingVectorizer(
                n_features=settings.buckets - half,
                analyzer="char_wb",
                ngram_range=(low, high),
                norm=None,
                alternate_sign=False,
                dtype=np.float32,
            ).transform(texts)
        )
    else:
        parts.append(sparse.csr_matrix((len(texts), settings.buckets - half), dtype=np.float32))
    found: sparse.csr_matrix = sparse.hstack(parts).tocsr()
    found.data = 1 + np.log(found.data)
    return found


def unit_rows(table: sparse.csr_matrix, idf: np.ndarray, words_below: int) -> sparse.csr_matrix:
    """Counts weighted as Lexical weights them, words and characters each of unit length, [n, buckets]."""
    weighted = table.multiply(idf).tocsr()
    halves = [weighted[:, :words_below], weighted[:, words_below:]]
    return sparse.hstack([normalize(half) for half in halves]).tocsr()


def grams(table: sparse.csr_matrix) -> Grams:
    """Rows of a table of n-grams as tensors."""
    return Grams(
        torch.from_numpy(table.indices.astype(np.int64)),
        torch.from_numpy(table.indptr[:-1].astype(np.int64)),
        torch.from_numpy(np.ascontiguousarray(table.data, dtype=np.float32)),
    )


class Lexical(nn.Module):
    """A linear model on TF-IDF of hashed n-grams, [n, outputs]; zero before it has learnt."""

    idf: Tensor

    def __init__(self, settings: LexicalBranch, outputs: int) -> None:
        super().__init__()
        self.words_below = settings.buckets // 2
        self.dropout = settings.dropout
        self.register_buffer("idf", torch.ones(settings.buckets))
        self.weight = nn.Parameter(torch.zeros(settings.buckets, outputs))

    def fit(self, table: sparse.csr_matrix) -> None:
        """Set inverse document frequencies from the training posts; a gram of one post alone counts nothing."""
        seen = torch.from_numpy(np.bincount(table.indices, minlength=table.shape[1]).astype(np.float32))
        idf = torch.log((1 + table.shape[0]) / (1 + seen)) + 1
        self.idf.copy_(torch.where(seen > 1, idf, torch.zeros_like(idf)))

    def forward(self, found: Grams) -> Tensor:
        """Raw outputs float32 [n, outputs]."""
        values = found.counts * self.idf[found.ids]
        owner = torch.repeat_interleave(
            torch.arange(len(found.offsets), device=values.device),
            torch.diff(found.offsets, append=torch.tensor([len(found.ids)], device=values.device)),
        )
        upper = found.ids >= self.words_below  # words and characters are each scaled to unit length
        place = 2 * owner + upper
        norm = torch.zeros(2 * len(found.offsets), device=values.device).index_add_(0, place, values**2)
        values = values / norm.clamp(min=1e-8).sqrt()[place]
        if self.training and self.dropout:
            values = F.dropout(values, self.dropout)
        return F.embedding_bag(found.ids, self.weight, found.offsets, mode="sum", per_sample_weights=values)
