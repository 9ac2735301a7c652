"""TF-IDF features, reduced to a few hundred directions: words only, no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TFIDF_DIMENSIONS = 256


def tfidf(pool: Sequence[str], targets: Sequence[str], dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns TF-IDF features of both, fitted on the pool and projected to its first singular vectors.

    Args:
        pool (`Sequence[str]`):
            N texts.
        targets (`Sequence[str]`):
            B texts.
        dimensions (`int`):
            Number of singular vectors.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: (N, d) and (B, d) float32.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"(?u)\w+|[^\w\s]")
    rows = vectorizer.fit_transform(pool)
    svd = TruncatedSVD(min(dimensions, rows.shape[1] - 1), random_state=0).fit(rows)
    return svd.transform(rows).astype(np.float32), svd.transform(vectorizer.transform(targets)).astype(np.float32)
