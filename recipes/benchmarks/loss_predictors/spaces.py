"""Feature spaces whose kernels may predict the loss: cosines of prepared rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from itl_hf.gp.standardization import Moments, fit
from itl_hf.selection.defaults import AUTO_STANDARDIZATION


class Space(Protocol):
    """A feature space over numbered rows."""

    @property
    def name(self) -> str:
        """Name in the tables."""

    @property
    def needs_answers(self) -> bool:
        """Whether features of held-out rows use their answers, which are known only where targets are labelled."""

    @property
    def numbers(self) -> np.ndarray:
        """Ascending numbers of the rows that have features."""

    def cosines(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the cosines of some rows, (k, k)."""


@dataclass(frozen=True)
class DenseSpace:
    """Prepared rows of norm 1.

    Args:
        name (`str`):
            Name in the tables.
        numbers (`np.ndarray`):
            (R,) ascending.
        rows (`np.ndarray`):
            (R, d) of norm 1.
        needs_answers (`bool`, *optional*, defaults to `False`):
            See `Space`.
    """

    name: str
    numbers: np.ndarray
    rows: np.ndarray
    needs_answers: bool = False

    def cosines(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the cosines of some rows, (k, k)."""
        part = self.rows[np.searchsorted(self.numbers, numbers)]
        values: np.ndarray = part @ part.T
        return values


@dataclass(frozen=True)
class SparseSpace:
    """Sparse rows of norm 1, such as TF-IDF; every row has features.

    Args:
        name (`str`):
            Name in the tables.
        rows (`scipy.sparse.csr_matrix`):
            (R, words).
        needs_answers (`bool`, *optional*, defaults to `False`):
            See `Space`.
    """

    name: str
    rows: Any
    needs_answers: bool = False

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of all rows."""
        return np.arange(self.rows.shape[0])

    def cosines(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the cosines of some rows, (k, k)."""
        part = self.rows[numbers]
        values: np.ndarray = (part @ part.T).toarray()
        return values


@dataclass(frozen=True)
class MeanSpace:
    """The mean of the cosines of several spaces: the cosines of their rows side by side, with equal weights.

    Args:
        parts (`Sequence[Space]`):
            The spaces.
    """

    parts: Sequence[Space]

    @property
    def name(self) -> str:
        """Names of the parts, joined by a plus sign."""
        return " + ".join(part.name for part in self.parts)

    @property
    def needs_answers(self) -> bool:
        """Whether a part needs answers."""
        return any(part.needs_answers for part in self.parts)

    @property
    def numbers(self) -> np.ndarray:
        """Rows that have features in every part."""
        common = self.parts[0].numbers
        for part in self.parts[1:]:
            common = np.intersect1d(common, part.numbers, assume_unique=True)
        return common

    def cosines(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the mean of the parts' cosines, (k, k)."""
        values: np.ndarray = np.mean([part.cosines(numbers) for part in self.parts], axis=0)
        return values


def prepare(features: np.ndarray, fit_on: np.ndarray | None = None) -> np.ndarray:
    """Returns rows standardised as the defaults do, with norm 1.

    Args:
        features (`np.ndarray`):
            (R, d) raw features.
        fit_on (`np.ndarray`, *optional*):
            Rows of the pool, (N, d), that mean and variances are computed from; `features` itself if left out.
    """
    pool = torch.from_numpy(np.asarray(features if fit_on is None else fit_on, dtype=np.float32))
    preparation = fit([Moments.from_rows(pool)], AUTO_STANDARDIZATION, pool.shape[1])
    rows: np.ndarray = preparation(torch.from_numpy(np.asarray(features, dtype=np.float32)), torch.float32).numpy()
    return rows


def tfidf(name: str, texts: Sequence[str], pool_size: int, needs_answers: bool = False) -> SparseSpace:
    """Returns the TF-IDF space of texts: lower-case words, logarithmic counts, norm 1, not centred.

    Args:
        name (`str`):
            Name in the tables.
        texts (`Sequence[str]`):
            Texts of all rows.
        pool_size (`int`):
            Number of texts, from the first, in which words are counted for their inverse document frequency.
        needs_answers (`bool`, *optional*, defaults to `False`):
            See `Space`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", dtype=np.float32)
    return SparseSpace(name, vectorizer.fit(texts[:pool_size]).transform(texts), needs_answers)
